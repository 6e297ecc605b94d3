"""Samples of more than 8 bits. Pillow has images of them for grey only, so colours are read in two passes around it.

The decoders of Pillow keep one byte of every two; which one, the raw mode says that a tile names. So a picture that is
decoded once as big-endian and once as little-endian gives the high bytes and the low ones.
"""

import re
import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ldcodec.errors import PictureError
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.guard import warn
from ldcodec.pictures.survey import file_of

Samples = NDArray[np.uint16]

STRIP = 1 << 20  # pixels that are joined at a time
BITS = 258  # tag of TIFF
_RAW = re.compile("(LA|RGB[AaX]?);16([BLN])")  # raw modes of which one byte in two is kept; N for this machine's order
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # and those with the other byte


@dataclass(frozen=True)
class Deep:
    """Samples as a file holds them: uint16 (H, W) or (H, W, 2 to 4), alpha last, from 0 to `white`.

    bits: of a sample, 9 to 16.
    """

    values: Samples
    white: int
    bits: int


class _Passes(NamedTuple):
    """The raw modes of two passes; one alone where the first keeps all bytes. associated: colours times alpha."""

    first: str
    second: str | None
    associated: bool = False


def loaded(image: Image.Image, file: Findings) -> Deep | None:
    """Load a Pillow image, and return its samples if they have more than 8 bits.

    None also, with a warning, where these cannot be had; then the image holds what Pillow has made of them. Raises
    PictureError for values without a defined range.
    """
    if image.mode.startswith("I"):
        image.load()
        return _grey(image, file)
    passes = _passes(image)
    if passes is None:
        image.load()
        warn_if_reduced(image, file)
        return None
    white = 65535 if image.format != "PPM" else file.white
    return Deep(_in_passes(image, passes), white, _depth(white))


def warn_if_reduced(image: Image.Image, file: Findings) -> None:
    """Warn if Pillow has left 8 bits of the samples of a file."""
    if file.bits > 8 and not image.mode.startswith("I"):
        warn(f"its {file.bits}-bit samples are reduced to 8 bits")


def sample_bytes(image: Image.Image) -> int:
    """The bytes that a sample of an image, which is not loaded yet, will take: 1 or 2."""
    return 2 if image.mode.startswith("I") or _passes(image) is not None else 1


def _grey(image: Image.Image, file: Findings) -> Deep:
    """The samples of a grey image, which Pillow brings to 65535 but in TIFF of 12 bits, and nearly so in JPEG 2000."""
    if image.mode == "I" and image.format != "PPM":
        raise PictureError("its samples are integers of 32 bits (Pillow's mode I); convert it to 8 or 16 bits first")
    values, white, bits = np.asarray(image).astype(np.uint16), 65535, file.bits or 16
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITS, (16,))[0]
        white = (1 << bits) - 1
    elif image.format == "JPEG2000":
        white = (1 << 16) - (1 << 16 - bits)
    elif file.white:
        bits = _depth(file.white)
    return Deep(values, white, bits)


def _depth(white: int) -> int:
    """The bits of samples whose largest value is this one, 16 if it is none of those that bits have."""
    return white.bit_length() if white & (white + 1) == 0 else 16


def _passes(image: Image.Image) -> _Passes | None:
    """How the samples of an image that is not loaded yet can be had; None where Pillow loses none, or all of them."""
    tiles = getattr(image, "tile", ())
    if not tiles or image.format not in ("PNG", "TIFF", "PPM"):
        return None
    arguments = tiles[0].args
    if tiles[0].codec_name == "ppm" and arguments[1] > 255:
        return _Passes("RGB;16B", "RGB;16L")
    match = _RAW.fullmatch(arguments if isinstance(arguments, str) else arguments[0])
    if match is None:
        return None
    channels, order = match.groups()
    if channels == "LA":  # as long as RGBA of 8 bits
        return _Passes("RGBA", None)
    names = channels.upper() if channels == "RGBa" else channels
    return _Passes(f"{names};16{order}", f"{names};16{_ORDERS[order]}", channels == "RGBa")


def _in_passes(image: Image.Image, passes: _Passes) -> Samples:
    other = None if passes.second is None else _once_more(image, passes.second)
    _decode(image, passes.first)  # last, because it may close the file
    values = _joined(image, other)
    return _divided(values) if passes.associated else values


def _once_more(image: Image.Image, raw: str) -> Image.Image:
    """The same picture, opened once more from the file of an image and loaded under a raw mode."""
    with file_of(image) as stream:
        if stream is None:
            raise PictureError("its file cannot be read a second time, which 16 bits a sample take")
        other = Image.open(stream, formats=[image.format or ""])
        other.seek(image.tell())
        _decode(other, raw)
    return other


def _decode(image: Image.Image, raw: str) -> None:
    """Load an image under a raw mode."""
    tiles = []
    for tile in image.tile:  # type: ignore[attr-defined]  # of all files
        if tile.codec_name == "ppm":  # which scales to 8 bits
            tile = tile._replace(codec_name="raw", args=("", 0, 1))
        tiles.append(tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:])))
    image.tile = tiles  # type: ignore[attr-defined]
    image.load()


def _joined(high: Image.Image, low: Image.Image | None) -> Samples:
    """High and low bytes as samples; without low bytes, RGBA holds those of grey and those of alpha."""
    width, height = high.size
    values = np.empty((height, width, 2 if low is None else len(high.getbands())), np.uint16)
    step = max(1, STRIP // max(1, width))
    for top in range(0, height, step):
        box = 0, top, width, min(height, top + step)
        upper = np.asarray(high.crop(box))
        lower = upper[:, :, 1::2] if low is None else np.asarray(low.crop(box))
        upper = upper[:, :, 0::2] if low is None else upper
        values[top : top + step] = (upper.astype(np.uint16) << 8) | lower
    return values


def _divided(values: Samples) -> Samples:
    """Colours that were multiplied by alpha, (H, W, 4), as they were before."""
    for row in values:
        alpha = np.maximum(row[:, 3:], 1).astype(np.uint32)
        row[:, :3] = np.minimum((row[:, :3] * np.uint32(65535) + alpha // 2) // alpha, 65535)
    return values
