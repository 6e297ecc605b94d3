"""The alpha plane: found in a Pillow image, and colours made up for the pixels that it hides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec.pictures.picture import Pixels, visible

GREY_MODES = ("1", "L", "LA", "La")


def split(image: Image.Image) -> tuple[Image.Image, Pixels | None]:
    """Separate a Pillow image into an opaque one and its alpha, uint8 (H, W), or None if it is opaque anyway."""
    if image.mode.startswith("I"):
        return image, _beside_key(image)
    if not image.has_transparency_data:
        return image, None
    grey = image.mode in GREY_MODES
    both = image.convert("LA" if grey else "RGBA")
    return both.convert("L" if grey else "RGB"), visible(np.asarray(both.getchannel("A")))


def _beside_key(image: Image.Image) -> Pixels | None:
    """Alpha of a 16-bit grey image, in which one value may stand for transparent."""
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return None
    return visible(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))


def filled(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Replace the colours of fully transparent pixels by smooth ones, which cost almost nothing to code.

    pixels: uint8 (H, W, 3) or (H, W); alpha: uint8 (H, W). By pull-push (Gortler et al. 1996): every hidden pixel takes
    the mean of the visible pixels at the finest level of a pyramid that has any (pull), interpolated linearly on the
    way back down (push). All becomes grey 128 if nothing is visible.
    """
    hidden = alpha == 0
    if not hidden.any():
        return pixels
    if hidden.all():
        return np.full_like(pixels, 128)
    planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
    result = planes.copy()
    for channel in range(planes.shape[2]):
        smooth = _pull_push(planes[:, :, channel].astype(np.float32), ~hidden)
        result[hidden, channel] = np.clip(np.rint(smooth[hidden]), 0, 255)
    return result.reshape(pixels.shape)


def _pull_push(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill in the unknown values of an array (H, W) from the known ones, of which there must be at least one."""
    if known.all():
        return values
    counts = _quarters(known.astype(np.float32))
    means = _quarters(np.where(known, values, 0)) / np.maximum(counts, 1)
    coarse = _pull_push(means.astype(np.float32), counts > 0)
    size = 2 * coarse.shape[1], 2 * coarse.shape[0]
    fine = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR))
    return np.where(known, values, fine[: values.shape[0], : values.shape[1]])


def _quarters(values: NDArray[Any]) -> NDArray[np.float32]:
    """Sums over blocks of 2×2 of an array (H, W); at odd right and lower edges the missing values count as 0."""
    height, width = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2)))
    sums: NDArray[np.float32] = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).sum((1, 3))
    return sums
