"""Samples of more than 8 bits. Pillow has images of them for grey only, so colours are read in two passes around it.

The decoders of Pillow keep one byte of every two; which one, the raw mode says that a tile names. So a picture that is
decoded once as big-endian and once as little-endian gives the high bytes and the low ones.
"""

import re
import sys
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ldcodec.errors import PictureError
from ldcodec.pictures.exif import ORIENTATION
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.guard import warn
from ldcodec.pictures.oddtiff import BITS, OddTiff
from ldcodec.pictures.survey import file_of, survey

Samples = NDArray[np.uint16]

STRIP = 1 << 20  # pixels that are joined at a time
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

    @property
    def grey(self) -> bool:
        """Whether samples are grey, with alpha or without."""
        return self.values.shape[2:] in ((), (2,))


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
    if isinstance(image, OddTiff):
        return _odd(image)
    if image.mode.startswith("I"):
        image.load()
        return _grey(image, file)
    passes = _passes(image)
    if passes is not None:
        white = 65535 if image.format != "PPM" else file.white
        return Deep(_in_passes(image, passes), white, _depth(white))
    found, hint = None, ""
    try:
        found = _by_library(image, file) if file.bits > 8 and is_fresh(image) else None
    except ImportError:
        hint = "; pip install 'ldcodec[deep]' keeps them"
    image.load()
    if found is None:
        warn_if_reduced(image, file, hint)
    return found


def is_fresh(image: Image.Image) -> bool:
    """Whether an image has not been loaded yet, so that it shows what its file holds."""
    return bool(getattr(image, "tile", None)) or getattr(image, "fp", None) is not None


def upright(samples: Samples, orientation: int) -> Samples:
    """Samples (H, W) or (H, W, C) as an orientation of Exif, 1 to 8, asks."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    across = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(samples[::down, ::across])


def _odd(image: OddTiff) -> Deep:
    """The samples of a TIFF file that Pillow does not decode, turned as it turns others."""
    values, white = image.samples()
    values = _divided(values, white) if image.associated and values.shape[2:] == (4,) else values
    turned = image.tag_v2.get(ORIENTATION, 1)
    image.load()
    return Deep(upright(values, turned), white, _depth(white))


def _by_library(image: Image.Image, file: Findings) -> Deep | None:
    """The samples of a file that another library decodes; None if none does. Raises ImportError if it is missing."""
    decode = _DECODERS.get(image.format or "")
    with file_of(image) as stream:
        if decode is None or stream is None:
            return None
        values = decode(stream, image.tell())
    if values.dtype != np.uint16 or values.shape[1::-1] != image.size:
        return None
    white = file.white or (1 << file.bits) - 1
    return Deep(values, white, _depth(white))


def _avif(stream: BinaryIO, frame: int) -> Samples:
    from imagecodecs import avif_decode

    return np.asarray(avif_decode(stream.read(), index=frame))


def _jpeg_2000(stream: BinaryIO, frame: int) -> Samples:
    from imagecodecs import jpeg2k_decode

    return np.asarray(jpeg2k_decode(stream.read()))


def _heif(stream: BinaryIO, frame: int) -> Samples:
    from pillow_heif import open_heif

    return np.asarray(open_heif(stream, convert_hdr_to_8bit=False, hdr_to_16bit=False)[frame])


def _plain_pixmap(stream: BinaryIO, frame: int) -> Samples:
    """Colours as decimal numbers; other pixmaps are read in two passes."""
    _, *words = re.sub(rb"#[^\n]*", b"", stream.read()).split()
    width, height, _, *numbers = map(int, words)
    return np.array(numbers[: 3 * width * height], np.uint16).reshape(height, width, 3)


_DECODERS = {"AVIF": _avif, "JPEG2000": _jpeg_2000, "HEIF": _heif, "PPM": _plain_pixmap}


def warn_if_reduced(image: Image.Image, file: Findings, hint: str = "") -> None:
    """Warn if Pillow has left 8 bits of the samples of a file. hint: what would keep them."""
    if file.bits > 8 and not image.mode.startswith("I"):
        warn(f"its {file.bits}-bit samples are reduced to 8 bits{hint}")


def sample_bytes(image: Image.Image) -> int:
    """The bytes that a sample of an image, which is not loaded yet, will take: 1 or 2."""
    deep = image.mode.startswith("I") or isinstance(image, OddTiff) or _passes(image) is not None
    return 2 if deep or (image.format in _DECODERS and survey(image).bits > 8) else 1


def _grey(image: Image.Image, file: Findings) -> Deep:
    """The samples of a grey image, which are brought to 65535, but in TIFF of 12 bits, and shifted in some formats."""
    if image.mode == "I" and image.format != "PPM":
        raise PictureError("its samples are integers of 32 bits (Pillow's mode I); convert it to 8 or 16 bits first")
    values, white, bits = np.asarray(image).astype(np.uint16), 65535, file.bits or 16
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITS, (16,))[0]
        white = (1 << bits) - 1
    elif image.format in ("JPEG2000", "HEIF"):
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
    return _divided(values, 65535) if passes.associated else values


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


def _divided(values: Samples, white: int) -> Samples:
    """Colours that were multiplied by alpha, (H, W, 4), as they were before."""
    for row in values:
        alpha = np.maximum(row[:, 3:], 1).astype(np.uint32)
        row[:, :3] = np.minimum((row[:, :3] * np.uint32(white) + alpha // 2) // alpha, white)
    return values
