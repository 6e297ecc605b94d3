"""Pictures made for tests, and how far two of them are apart."""

import functools
import io
import math
import struct

import numpy as np
from PIL import Image, ImageCms

from ldcodec.pictures.picture import Pixels


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


def colours(height: int = 5, width: int = 7) -> Pixels:
    """RGB noise, the same in every run."""
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)


def grey(height: int = 5, width: int = 7) -> Pixels:
    """Grey noise, the same in every run."""
    return np.ascontiguousarray(colours(height, width)[:, :, 0])


def disc(height: int, width: int) -> Pixels:
    """Alpha of a disc with a soft edge."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    return np.clip(255 * (min(height, width) / 4 - distance), 0, 255).astype(np.uint8)


def exif_of(order: str, orientation: int, kind: int = 3) -> bytes:
    """Exif with an orientation and one more tag, followed by bytes that only the camera's maker understands."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    value = struct.pack(f"{order}I", orientation) if kind == 4 else struct.pack(f"{order}HH", orientation, 0)
    tags = struct.pack(f"{order}HHHI", 2, 0x0112, kind, 1) + value + struct.pack(f"{order}HHII", 0x010F, 2, 6, 38)
    return mark + struct.pack(f"{order}I", 8) + tags + bytes(4) + b"Maker\0" + b"beyond"


EXIF = exif_of(">", 1)
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>\xc3\xbc" + bytes(range(32, 60)) * 20 + b"</x:xmpmeta>"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
