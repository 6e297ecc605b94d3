"""Pictures as the planes of floats that the analysis reads."""

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.slices import PIXELS, Area
from ldcodec.pictures.picture import Pixels, white_of

Planes = NDArray[np.float32]


def framed(picture: Pixels, size: tuple[int, int] | None = None) -> Planes:
    """Picture, uint8 or uint16 (H, W, 3) or (H, W) → float32 [3, H', W'] in 0..1.

    The last row and column are repeated until the size is `size`, (H', W'), or by default a multiple of 64.
    """
    height, width = picture.shape[:2]
    bottom, right = (size[0] - height, size[1] - width) if size else (-height % 64, -width % 64)
    rgb = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
    planes = np.pad(rgb.transpose(2, 0, 1), ((0, 0), (0, bottom), (0, right)), "edge")
    return np.asarray(planes, np.float32) / np.float32(white_of(picture))


def framed_area(picture: Pixels, area: Area) -> Planes:
    """The pixels of a picture under an area of latents: float32 [3, 16·rows, 16·columns] in 0..1."""
    top, bottom, left, right = (PIXELS * edge for edge in area)
    return framed(picture[top:bottom, left:right], (bottom - top, right - left))
