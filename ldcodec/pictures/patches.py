"""Patches: blocks of 16×16 pixels that a file stores exactly and a decoder lays over what the networks have drawn.

The chunk says which blocks these are, in runs, and holds one lossless picture of the smallest box around all of them
(docs/bitstream.md). What it says is not trusted: both are checked against the size of the file's picture first.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.layout import Cursor, coded_size, varint
from ldcodec.bitstream.slices import PIXELS, Area
from ldcodec.errors import DamagedError
from ldcodec.pictures import planes
from ldcodec.pictures.picture import Pixels, averaged, scaled, white_of

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Patches:
    """taken: which blocks are stored, bool [⌈H/16⌉, ⌈W/16⌉], at least one; pixels: of the box, (h, w, 3) or (h, w)."""

    taken: Mask
    pixels: Pixels
    box: Area

    @cached_property
    def _covered(self) -> Mask:
        """Which pixels of the box are stored, (h, w)."""
        top, bottom, left, right = self.box
        return pixels_of(self.taken, bottom, right)[top:, left:]

    def laid(self, drawn: Pixels, area: Area, scale: int = 1) -> Pixels:
        """Put the patches over pixels (H, W, 3) or (H, W), in place, and return these.

        area: what is drawn of the picture at 1/scale of its size; scale: 1, 2, 4, 8 or 16, which divide a block.
        """
        shown = self.pixels if scale == 1 else averaged(self.pixels, scale)
        pixels = scaled(shown, white_of(shown), white_of(drawn))
        top, left = self.box.top // scale, self.box.left // scale
        box = Area(top, top + pixels.shape[0], left, left + pixels.shape[1])
        if min(box.bottom, area.bottom) <= max(box.top, area.top) or min(box.right, area.right) <= max(
            box.left, area.left
        ):
            return drawn
        shared = box.within(area)
        mask = self._covered[::scale, ::scale][shared.inside(box)]
        drawn[shared.inside(area)][mask] = pixels[shared.inside(box)][mask]
        return drawn


def pixels_of(taken: Mask, height: int, width: int) -> Mask:
    """Which of the first rows and columns of pixels lie in a block that is taken: bool (height, width)."""
    return taken.repeat(PIXELS, 0)[:height].repeat(PIXELS, 1)[:, :width]


def box_of(taken: Mask, width: int, height: int) -> Area:
    """The smallest box of pixels around the blocks that are taken, in a picture of width × height pixels."""
    rows, columns = np.flatnonzero(taken.any(1)), np.flatnonzero(taken.any(0))
    bottom, right = min(height, PIXELS * (int(rows[-1]) + 1)), min(width, PIXELS * (int(columns[-1]) + 1))
    return Area(PIXELS * int(rows[0]), bottom, PIXELS * int(columns[0]), right)


def packed(picture: Pixels, taken: Mask) -> bytes:
    """The chunk with the blocks of a picture, (H, W, 3) or (H, W), that are taken, bool [⌈H/16⌉, ⌈W/16⌉].

    Raises PictureError where their box has more pixels than `planes.readable` allows.
    """
    box = box_of(taken, picture.shape[1], picture.shape[0])
    pixels = picture[box.top : box.bottom, box.left : box.right].copy()
    covered = pixels_of(taken, box.bottom, box.right)[box.top :, box.left :]
    pixels[~covered] = pixels[covered][0]  # a colour that is there costs least
    edges = np.flatnonzero(np.diff(taken.ravel(), prepend=False, append=False))
    runs = [end - start for start, end in pairwise((0, *edges.tolist()))]
    return b"".join(map(varint, (len(runs), *runs))) + planes.packed(pixels)


def unpacked(data: bytes, size: tuple[int, int], grey: bool, depth: int = 8) -> Patches:
    """The inverse of `packed` for a picture of (width, height), grey or not, of so many bits. Raises DamagedError."""
    try:
        taken, start = _taken(data, size)
        box = box_of(taken, *size)
        pixels = planes.unpacked(data[start:], _size(box), grey, depth)
    except DamagedError as error:
        raise DamagedError(f"chunk {chunktypes.PATCHES}: {error}") from error
    return Patches(taken, pixels, box)


def taken_of(data: bytes, size: tuple[int, int]) -> Mask:
    """Which blocks a chunk stores of a picture of (width, height): bool [⌈H/16⌉, ⌈W/16⌉]. Raises DamagedError."""
    return _taken(data, size)[0]


def size_problem(data: bytes, size: tuple[int, int]) -> str | None:
    """What is wrong with the blocks and sizes that a chunk claims in a file of (width, height); None if nothing is."""
    try:
        taken, start = _taken(data, size)
    except DamagedError:
        return "without a valid list of its blocks"
    return planes.size_problem(data[start:], _size(box_of(taken, *size)), "a box")


def _taken(data: bytes, size: tuple[int, int]) -> tuple[Mask, int]:
    """Which blocks a chunk claims, and where its picture begins. Raises DamagedError."""
    rows, columns = coded_size(*size)
    taken, runs = np.zeros(rows * columns, np.bool_), list[int]()
    cursor = Cursor(data)
    with suppress(DamagedError):  # where the data end
        count = cursor.varint()
        if count <= len(taken) + 1:
            runs = [cursor.varint() for _ in range(count)]
    if not runs or len(runs) % 2 or 0 in runs[1:] or sum(runs) > len(taken):
        raise DamagedError("it does not say which blocks it holds")
    ends = np.cumsum(runs)
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        taken[start:end] = True
    return taken.reshape(rows, columns), cursor.position


def _size(box: Area) -> tuple[int, int]:
    return box.right - box.left, box.bottom - box.top
