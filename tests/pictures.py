"""Pictures made for tests, and how far two of them are apart."""

import functools
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def texture(height: int, width: int, seed: int = 0) -> Pixels:
    """A texture [H, W, 3] whose amplitudes fall as 1/f and whose colours are similar, as in photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    spectrum = np.fft.fft2(rng.normal(size=(3, height, width))) / np.maximum(frequency, 1 / max(height, width))
    waves = np.fft.ifft2(spectrum).real
    waves = waves[:1] + 0.3 * waves
    waves = waves / max(float(waves.std()), 1e-9)
    return np.clip(127 + 50 * waves, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def gradient(height: int, width: int) -> Pixels:
    rows, columns = np.arange(height)[:, None] / height, np.arange(width) / width
    planes = np.broadcast_arrays(rows, columns, rows * columns)
    return (255 * np.stack(planes, 2)).astype(np.uint8)


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def psnr(first: Pixels, second: Pixels) -> float:
    error = np.square(first.astype(float) - second).mean()
    return float(10 * math.log10(255**2 / error)) if error else math.inf


def photo(width: int = 40, height: int = 24, seed: int = 0) -> Image.Image:
    """Smooth noise, the same for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@functools.cache
def png(width: int = 40, height: int = 24, seed: int = 0) -> bytes:
    file = io.BytesIO()
    photo(width, height, seed).save(file, "PNG")
    return file.getvalue()
