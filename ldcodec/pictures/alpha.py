"""The alpha plane: found in a Pillow image, and colours made up for the pixels that it hides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec.pictures.picture import Pixels, scaled, visible, white_of

GREY_MODES = ("1", "L", "LA", "La")


def split(image: Image.Image, bits: int = 8) -> tuple[Image.Image, Pixels | None]:
    """Separate a Pillow image into an opaque one and its alpha, uint8 (H, W), or None if it is opaque anyway.

    bits: of a sample in its file. Of grey with 2 or 4 Pillow stretches the values, but not the one that is transparent.
    """
    if not image.has_transparency_data:
        return image, None
    key = image.info.get("transparency")
    if image.mode == "L" and bits in (2, 4) and isinstance(key, int):
        image = image.copy()
        image.info["transparency"] = key * 255 // ((1 << bits) - 1)
    grey = image.mode in GREY_MODES
    both = image.convert("LA" if grey else "RGBA")
    return both.convert("L" if grey else "RGB"), visible(np.asarray(both.getchannel("A")))


def parted(samples: NDArray[np.uint16], white: int, key: object) -> tuple[Pixels, Pixels | None]:
    """Separate samples from 0 to `white`, (H, W) or (H, W, 2 to 4), into colours and alpha, both from 0 to 65535.

    key: the value, or red, green and blue, that stands for transparent in PNG; anything else stands for nothing.
    """
    channels = samples.shape[2] if samples.ndim == 3 else 1
    if channels in (2, 4):
        colours = samples[:, :, 0] if channels == 2 else samples[:, :, :3]
        return np.ascontiguousarray(scaled(colours, white, 65535)), visible(scaled(samples[:, :, -1], white, 65535))
    hidden = None
    if isinstance(key, int) and channels == 1:
        hidden = samples == key
    elif isinstance(key, tuple) and channels == 3:
        hidden = (samples == np.array(key)).all(2)
    plane = None if hidden is None else visible(np.where(hidden, 0, 65535).astype(np.uint16))
    return scaled(samples, white, 65535), plane


def filled(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Replace the colours of fully transparent pixels by smooth ones, which cost almost nothing to code.

    pixels: (H, W, 3) or (H, W); alpha: (H, W). By pull-push (Gortler et al. 1996): every hidden pixel takes the mean of
    the visible pixels at the finest level of a pyramid that has any (pull), interpolated linearly on the way back down
    (push). All becomes middle grey if nothing is visible.
    """
    hidden = alpha == 0
    if not hidden.any():
        return pixels
    if hidden.all():
        return np.full_like(pixels, white_of(pixels) // 2 + 1)
    planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
    result = planes.copy()
    for channel in range(planes.shape[2]):
        smooth = _pull_push(planes[:, :, channel].astype(np.float32), ~hidden)
        result[hidden, channel] = np.clip(np.rint(smooth[hidden]), 0, white_of(pixels))
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
