"""The alpha plane: where a Pillow image says it, and colours for the pixels that it hides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec.pictures.picture import Pixels, visible

GREY_MODES = ("1", "L", "LA", "La")


def split(image: Image.Image) -> tuple[Image.Image, Pixels | None]:
    """A Pillow image without transparency, and its alpha, uint8 (H, W), or None if it hides nothing."""
    if image.mode.startswith("I"):
        return image, _beside_key(image)
    if not image.has_transparency_data:
        return image, None
    grey = image.mode in GREY_MODES
    both = image.convert("LA" if grey else "RGBA")
    return both.convert("L" if grey else "RGB"), visible(np.asarray(both.getchannel("A")))


def _beside_key(image: Image.Image) -> Pixels | None:
    """Alpha of 16-bit grey, where one value may mean transparent."""
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return None
    return visible(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))


def filled(pixels: Pixels, alpha: Pixels) -> Pixels:
    """The picture with new colours where alpha is 0, so smooth that coding them costs next to nothing.

    pixels (H, W, 3) or (H, W), alpha (H, W), uint8. Each hidden pixel takes the mean of the visible ones at the finest
    level of a pyramid that has any (pull), carried down with linear interpolation (push). Grey 128 if none is visible.
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
    """Values (H, W) with those that are not known made up from those that are; at least one is known."""
    if known.all():
        return values
    counts = _quarters(known.astype(np.float32))
    means = _quarters(np.where(known, values, 0)) / np.maximum(counts, 1)
    coarse = _pull_push(means.astype(np.float32), counts > 0)
    size = 2 * coarse.shape[1], 2 * coarse.shape[0]
    fine = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR))
    return np.where(known, values, fine[: values.shape[0], : values.shape[1]])


def _quarters(values: NDArray[Any]) -> NDArray[np.float32]:
    """Sums over squares of 2×2, those at the right and lower edge cut."""
    height, width = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2)))
    sums: NDArray[np.float32] = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).sum((1, 3))
    return sums
