"""`Picture`: pixels, alpha and metadata, and the arrays that represent it in Python."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.layout import size_problem
from ldcodec.errors import PictureError
from ldcodec.pictures.codepoints import CodePoints
from ldcodec.pictures.notes import Notes

Pixels = NDArray[np.uint8 | np.uint16]

STRIP = 1 << 22  # samples that are converted at a time

NOTHING = Notes()


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture.

    pixels: uint8 or uint16 (H, W, 3) RGB or (H, W) grey, white is 255 or 65535; in the colour space of `icc`, or in
    sRGB without one.
    alpha: of the same type (H, W), 0 transparent to 255 or 65535 opaque; None for an opaque picture.
    exif: a TIFF stream without JPEG's "Exif" marker; xmp: an XML packet. Both are as they were in the file, except for
    what the pixels already follow, such as the orientation, which is 1. notes: IPTC, texts and resolution.
    depth: bits that a sample had; 8 for uint8, 9 to 16 for uint16, whose values then are the 2^depth that lie evenly
    from 0 to 65535, or what a decoder has drawn of them. bright: code points with PQ or HLG, instead of `icc`.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: Notes = NOTHING
    depth: int = 8
    bright: CodePoints | None = None

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def grey(self) -> bool:
        """Whether pixels are single values instead of RGB."""
        return self.pixels.ndim == 2

    def array(self) -> Pixels:
        """One array in the layout of Pillow and OpenCV, alpha last: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])

    def at_depth(self, depth: int) -> "Picture":
        """The picture in uint8, rounded to the nearest level, for a depth of 8, else in uint16."""
        alpha = None if self.alpha is None else at_depth(self.alpha, depth)
        return replace(self, pixels=at_depth(self.pixels, depth), alpha=alpha, depth=depth)


def from_array(array: NDArray[Any]) -> Picture:
    """Wrap a uint8 or uint16 array: (H, W) grey, (H, W, 2) grey with alpha, (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises PictureError for any other shape or type, for masked values, and for sizes that a file cannot hold.
    """
    if np.ma.is_masked(array):
        raise PictureError("some values of the array are masked; numpy.ma.filled gives them a colour")
    array = np.asarray(array)  # a subclass may have shapes of its own
    channels = array.shape[2] if array.ndim == 3 else 1
    depth = {"uint8": 8, "uint16": 16}.get(array.dtype.name)  # in any order of bytes
    if depth is None or array.ndim not in (2, 3) or (array.ndim == 3 and channels not in (2, 3, 4)):
        shown = f"{array.dtype} {array.shape}"
        raise PictureError(f"an array must be uint8 or uint16 of shape (H, W) or (H, W, 2 to 4), not {shown}")
    array = array.astype(np.uint8 if depth == 8 else np.uint16, copy=False)
    problem = size_problem(array.shape[1], array.shape[0])
    if problem:
        raise PictureError(f"the picture cannot be stored: {problem}")
    if channels in (1, 3):
        return Picture(array, depth=depth)
    return Picture(array[:, :, 0] if channels == 2 else array[:, :, :3], visible(array[:, :, -1]), depth=depth)


def is_neutral(pixels: Pixels) -> bool:
    """Whether red, green and blue are equal everywhere in RGB pixels (H, W, 3); False for (H, W)."""
    if pixels.ndim == 2 or np.ptp(pixels[0], axis=1).any():  # the first row tells of nearly every coloured picture
        return False
    return bool((pixels == pixels[:, :, :1]).all())


def visible(alpha: Pixels) -> Pixels | None:
    """An alpha plane (H, W), or None if it is opaque everywhere."""
    return None if bool((alpha == white_of(alpha)).all()) else np.ascontiguousarray(alpha)


def white_of(values: Pixels) -> int:
    """The largest value of the type of an array: white, or opaque."""
    return int(np.iinfo(values.dtype).max)


def total_error(picture: Pixels, original: Pixels) -> float:
    """The sum of squared differences between two arrays of one shape, in units of 0..255 whatever their types."""
    if picture.dtype != original.dtype:
        picture, original = at_depth(picture, 16), at_depth(original, 16)
    difference = picture.astype(np.float32) - original
    return float(np.square(difference).sum(dtype=np.float64)) * (255 / white_of(original)) ** 2


def kind_of(depth: int) -> type[np.uint8] | type[np.uint16]:
    """The type of an array for samples of so many bits."""
    return np.uint8 if depth == 8 else np.uint16


def white_at(depth: int) -> int:
    """White in an array for samples of so many bits."""
    return int(np.iinfo(kind_of(depth)).max)


def at_depth(values: Pixels, depth: int) -> Pixels:
    """An array in uint8, each value rounded to the nearest level, for a depth of 8, else in uint16."""
    return scaled(values, white_of(values), white_at(depth))


def scaled(values: Pixels, white: int, new: int) -> Pixels:
    """Stretch values 0..white to 0..new, rounded, in uint8 where that can hold them, else in uint16; larger ones clip.

    white, new: at most 65535. Converted in strips, since a product takes four bytes.
    """
    kind: type[np.uint8] | type[np.uint16] = np.uint8 if new < 256 else np.uint16
    if white == new:
        return values.astype(kind, copy=False)
    result = np.empty(values.shape, kind)
    rows = max(1, STRIP // max(1, values[:1].size))
    for top in range(0, len(values), rows):
        whole = np.minimum(values[top : top + rows], white).astype(np.uint32)
        result[top : top + rows] = (whole * new + white // 2) // white
    return result


def averaged(plane: Pixels, side: int) -> Pixels:
    """The means of boxes of a plane (H, W) or (H, W, C), which at the right and lower edges may be smaller."""
    height, width = plane.shape[:2]
    rows = np.add.reduceat(plane, np.arange(0, height, side), axis=0, dtype=np.uint32)
    sums = np.add.reduceat(rows, np.arange(0, width, side), axis=1)
    tall, wide = (np.minimum(side, length - np.arange(0, length, side)) for length in (height, width))
    counts = np.outer(tall, wide).astype(np.uint32).reshape(sums.shape[:2] + (1,) * (plane.ndim - 2))
    means: Pixels = ((sums + counts // 2) // counts).astype(plane.dtype)
    return means
