"""`Picture`: pixels, alpha and metadata, and the arrays that represent it in Python."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.layout import size_problem
from ldcodec.errors import PictureError
from ldcodec.pictures.notes import Notes

Pixels = NDArray[np.uint8]

NOTHING = Notes()


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture with 8 bits per sample.

    pixels: uint8 (H, W, 3) RGB or (H, W) grey, in the colour space of `icc`, or in sRGB without one.
    alpha: uint8 (H, W), 0 transparent to 255 opaque; None for an opaque picture.
    exif: a TIFF stream without JPEG's "Exif" marker; xmp: an XML packet. Both are as they were in the file, except for
    what the pixels already follow, such as the orientation, which is 1. notes: IPTC, texts and resolution.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: Notes = NOTHING

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
        """One uint8 array in the layout of Pillow and OpenCV, alpha last: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])


def from_array(array: NDArray[Any]) -> Picture:
    """Wrap a uint8 array: (H, W) grey, (H, W, 2) grey with alpha, (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises PictureError for any other shape or type, and for sizes that a file cannot hold.
    """
    array = np.asarray(array)  # a subclass may have shapes of its own
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and channels not in (2, 3, 4)):
        raise PictureError(f"an array must be uint8 of shape (H, W) or (H, W, 2 to 4), not {array.dtype} {array.shape}")
    problem = size_problem(array.shape[1], array.shape[0])
    if problem:
        raise PictureError(f"the picture cannot be stored: {problem}")
    if channels in (1, 3):
        return Picture(array)
    return Picture(array[:, :, 0] if channels == 2 else array[:, :, :3], visible(array[:, :, -1]))


def is_neutral(pixels: Pixels) -> bool:
    """Whether red, green and blue are equal everywhere in RGB pixels (H, W, 3); False for (H, W)."""
    if pixels.ndim == 2 or np.ptp(pixels[0], axis=1).any():  # the first row tells of nearly every coloured picture
        return False
    return bool((pixels == pixels[:, :, :1]).all())


def visible(alpha: Pixels) -> Pixels | None:
    """An alpha plane, uint8 (H, W), or None if it is opaque everywhere."""
    return None if bool((alpha == 255).all()) else np.ascontiguousarray(alpha)
