"""Patches: blocks of 16×16 pixels that a file stores exactly and a decoder lays over what the networks have drawn.

The chunk says which blocks these are, in runs, and holds one lossless picture of the rows and columns of blocks in
which there are any (docs/bitstream.md). What it says is not trusted: both are checked against the size of the file's
picture first.
"""

from contextlib import suppress
from dataclasses import dataclass
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
Places = NDArray[np.intp]

MOST_FOR_WEBP = 1 << 22  # pixels: WebP's encoder takes memory by the hundred bytes for each


class Extract:
    """The pixels of those rows and columns of blocks in which any block is taken, in a picture of width × height.

    rows, columns: where in the picture they lie, [h] and [w]; covered: which of them are in a block that is taken,
    bool [h, w].
    """

    def __init__(self, taken: Mask, width: int, height: int) -> None:
        """taken: bool [⌈H/16⌉, ⌈W/16⌉], of which at least one is True."""
        self.rows, self.columns = _places(taken, 1, height), _places(taken, 0, width)
        self.covered = taken[np.ix_(self.rows // PIXELS, self.columns // PIXELS)]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return len(self.columns), len(self.rows)


@dataclass(frozen=True, eq=False)
class Patches:
    """taken: which blocks are stored, bool [⌈H/16⌉, ⌈W/16⌉]; pixels: of the extract, (h, w, 3) or (h, w)."""

    taken: Mask
    pixels: Pixels
    extract: Extract

    def laid(self, drawn: Pixels, area: Area, scale: int = 1) -> Pixels:
        """Put the patches over pixels (H, W, 3) or (H, W), in place, and return these.

        area: what is drawn of the picture at 1/scale of its size; scale: 1, 2, 4, 8 or 16, which divide a block.
        """
        shown = self.pixels if scale == 1 else averaged(self.pixels, scale)
        rows, columns = (places[::scale] // scale for places in (self.extract.rows, self.extract.columns))
        down, across = (rows >= area.top) & (rows < area.bottom), (columns >= area.left) & (columns < area.right)
        pixels = scaled(shown[down][:, across], white_of(shown), white_of(drawn))
        covered = self.extract.covered[::scale, ::scale][down][:, across]
        place = np.ix_(rows[down] - area.top, columns[across] - area.left)
        drawn[place] = np.where(covered if drawn.ndim == 2 else covered[:, :, None], pixels, drawn[place])
        return drawn


def pixels_of(taken: Mask, area: Area) -> Mask:
    """Which pixels of an area lie in a block that is taken: bool (h, w)."""
    rows, columns = np.arange(area.top, area.bottom), np.arange(area.left, area.right)
    return taken[np.ix_(rows // PIXELS, columns // PIXELS)]


def packed(picture: Pixels, taken: Mask) -> bytes:
    """The chunk with the blocks of a picture, (H, W, 3) or (H, W), that are taken, bool [⌈H/16⌉, ⌈W/16⌉].

    Raises PictureError where their extract has more pixels than `planes.readable` allows.
    """
    extract = Extract(taken, picture.shape[1], picture.shape[0])
    pixels = picture[np.ix_(extract.rows, extract.columns)]
    first = tuple(np.argwhere(extract.covered)[0])
    pixels[~extract.covered] = pixels[first]  # a colour that is there costs least
    edges = np.flatnonzero(np.diff(taken.ravel(), prepend=False, append=False))
    runs = [end - start for start, end in pairwise((0, *edges.tolist()))]
    coded = planes.packed(pixels, extract.covered.size <= MOST_FOR_WEBP)
    return b"".join(map(varint, (len(runs), *runs))) + coded


def unpacked(data: bytes, size: tuple[int, int], grey: bool, depth: int = 8) -> Patches:
    """The inverse of `packed` for a picture of (width, height), grey or not, of so many bits. Raises DamagedError."""
    try:
        taken, start = _taken(data, size)
        extract = Extract(taken, *size)
        pixels = planes.unpacked(data[start:], extract.size, grey, depth)
    except DamagedError as error:
        raise DamagedError(f"chunk {chunktypes.PATCHES}: {error}") from error
    return Patches(taken, pixels, extract)


def taken_of(data: bytes, size: tuple[int, int]) -> Mask:
    """Which blocks a chunk stores of a picture of (width, height): bool [⌈H/16⌉, ⌈W/16⌉]. Raises DamagedError."""
    return _taken(data, size)[0]


def area_of(data: bytes, size: tuple[int, int]) -> int:
    """How many pixels a chunk claims to hold, in a file of (width, height). Raises DamagedError."""
    width, height = Extract(taken_of(data, size), *size).size
    return width * height


def size_problem(data: bytes, size: tuple[int, int]) -> str | None:
    """What is wrong with the blocks and sizes that a chunk claims in a file of (width, height); None if nothing is."""
    try:
        taken, start = _taken(data, size)
    except DamagedError:
        return "without a valid list of its blocks"
    return planes.size_problem(data[start:], Extract(taken, *size).size, "patches")


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


def _places(taken: Mask, axis: int, length: int) -> Places:
    """Where the pixels of rows (axis 1) or columns (0) of blocks lie in which any is taken, up to a length: [n]."""
    used = np.flatnonzero(taken.any(axis))
    places = (PIXELS * used[:, None] + np.arange(PIXELS)).ravel()
    return places[places < length]
