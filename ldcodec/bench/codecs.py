"""What the bench means by a codec, and the codecs that ldcodec is compared with, each on one thread.

The scales were chosen to span about 0.06 to 3 bits per pixel on photographs of 768×512. To add a codec, write a
function that returns a `Codec` or raises MissingCodecError, and list it in OTHERS.
"""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from ldcodec.errors import LdcodecError
from ldcodec.pictures.picture import Pixels

EXTRA = "pip install 'ldcodec[bench]'"
JPEG_SCALE = (4, 8, 12, 18, 25, 35, 47, 60, 72, 82, 89, 92, 95, 98)
WEBP_SCALE = (0, 2, 5, 10, 20, 30, 45, 60, 75, 83, 88, 92, 96)
AVIF_SCALE = (4, 12, 20, 29, 38, 47, 56, 65, 74, 81, 87, 92)
AVIF_SLOW_SCALE = (4, 14, 25, 37, 49, 61, 73, 83, 90)
HEIC_SCALE = (4, 11, 18, 25, 32, 39, 46, 52, 58, 64, 72)
JXL_SCALE = (15, 11, 8, 6, 4.5, 3.3, 2.3, 1.6, 1.1, 0.75, 0.5, 0.3)  # distances: the largest gives the smallest file
JP2_SCALE = (300, 200, 140, 96, 64, 48, 32, 24, 17, 12, 8)  # compression ratios to 24 bits per pixel, likewise
QUALITY_GRID = tuple(map(float, range(1, 101)))
JXL_GRID = tuple(25 * 0.985**k for k in range(366))  # 1.5 % apart, down to a distance of 0.1
JP2_GRID = tuple(500 * 0.99**k for k in range(488))  # down to a ratio of 3.7


class MissingCodecError(LdcodecError):
    """A codec's library is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Codec:
    """A codec with all of its options fixed except for one number, the setting.

    name: in tables and files; title: in plots; library: its names and versions; settings: the fixed options, in words.
    scale: the settings to measure, from the smallest file to the largest; grid: all that a search may choose from,
    likewise. encode: uint8 (H, W, 3) RGB and a setting → the bytes of a file; decode: those bytes → uint8 (H, W, 3).
    find: the setting of the largest file of at most so many bytes, for a codec that has a search of its own.
    trained_on: the measures that it was trained to be good at.
    """

    name: str
    title: str
    library: str
    settings: str
    scale: tuple[float, ...]
    encode: Callable[[Pixels, float], bytes]
    decode: Callable[[bytes], Pixels]
    grid: tuple[float, ...] = ()
    find: Callable[[Pixels, int], float] | None = None
    trained_on: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """What two measurements must have in common to belong to the same curve."""
        return f"{self.library}; {self.settings}"


def jpeg(subsampling: str = "4:2:0") -> Codec:
    """JPEG with optimised Huffman tables."""
    name = "jpeg" if subsampling == "4:2:0" else "jpeg444"
    library = _feature("jpg", "libjpeg_turbo", "libjpeg-turbo")
    options = {"optimize": True, "subsampling": subsampling}
    return _pillow(name, f"JPEG {subsampling}", "JPEG", library, JPEG_SCALE, options)


def webp() -> Codec:
    """Lossy WebP at its highest effort."""
    return _pillow("webp", "WebP", "WEBP", _feature("webp", "webp", "libwebp"), WEBP_SCALE, {"method": 6})


def jpeg2000() -> Codec:
    """JPEG 2000, irreversible, as a bare codestream; every picture gets the same rate."""
    library = _feature("jpg_2000", "jpg_2000", "OpenJPEG")
    options = {"quality_mode": "rates", "irreversible": True, "mct": 1, "no_jp2": True}
    return _pillow("jp2", "JPEG 2000, constant rate", "JPEG2000", library, JP2_SCALE, options, key="quality_layers")


def avif() -> Codec:
    """AVIF as Pillow writes it: speed 6, 4:2:0, the encoder's own perceptual tuning."""
    options = {"speed": 6, "subsampling": "4:2:0", "max_threads": 1}
    return _pillow("avif", "AVIF", "AVIF", _feature("avif", "avif", "libavif"), AVIF_SCALE, options)


def avif_slow() -> Codec:
    """AVIF at speed 4, 4:2:0, with the encoder's own perceptual tuning: the fair choice for how pictures look."""
    options = {"speed": 4, "subsampling": "4:2:0", "max_threads": 1}
    return _pillow("avif-slow", "AVIF, speed 4", "AVIF", _feature("avif", "avif", "libavif"), AVIF_SCALE, options)


def avif_for_psnr() -> Codec:
    """AVIF at speed 4, 4:4:4 and tuned for PSNR: the fair choice for comparisons of PSNR."""
    options = {"speed": 4, "subsampling": "4:4:4", "max_threads": 1, "advanced": {"tune": "psnr"}}
    library = _feature("avif", "avif", "libavif")
    return _pillow("avif-psnr", "AVIF 4:4:4, tuned for PSNR", "AVIF", library, AVIF_SLOW_SCALE, options)


def heic(for_psnr: bool = False) -> Codec:
    """HEIC through libheif and x265, 4:2:0, with x265's default tuning or its tuning for PSNR."""
    heif = _library("pillow_heif", "HEIC")
    heif.register_heif_opener()
    library = f"pillow-heif {heif.__version__}, libheif {heif.libheif_version()}, {heif.libheif_info()['HEIF']}"
    options: dict[str, Any] = {"chroma": 420} | ({"enc_params": {"tune": "psnr"}} if for_psnr else {})
    title = "HEIC, tuned for PSNR" if for_psnr else "HEIC"
    return _pillow("heic-psnr" if for_psnr else "heic", title, "HEIF", library, HEIC_SCALE, options)


def jpeg_xl() -> Codec:
    """JPEG XL (VarDCT) at effort 7."""
    library = _library("imagecodecs", "JPEG XL")
    if not library.JPEGXL.available:
        raise MissingCodecError("JPEG XL is missing from this build of imagecodecs")

    def encode(pixels: Pixels, setting: float) -> bytes:
        return bytes(library.jpegxl_encode(pixels, distance=setting, effort=7, numthreads=1))

    def decode(data: bytes) -> Pixels:
        pixels: Pixels = library.jpegxl_decode(data, numthreads=1)[..., :3]
        return pixels

    versions = f"imagecodecs {library.__version__}, {library.jpegxl_version()}"
    words = "distance=setting, effort=7, numthreads=1"
    return Codec("jxl", "JPEG XL", versions, words, JXL_SCALE, encode, decode, JXL_GRID)


OTHERS: dict[str, Callable[[], Codec]] = {
    "jpeg": jpeg,
    "jpeg444": lambda: jpeg("4:4:4"),
    "webp": webp,
    "jp2": jpeg2000,
    "avif": avif,
    "avif-slow": avif_slow,
    "avif-psnr": avif_for_psnr,
    "jxl": jpeg_xl,
    "heic": heic,
    "heic-psnr": lambda: heic(for_psnr=True),
}


def _pillow(
    name: str,
    title: str,
    format: str,
    library: str,
    scale: tuple[float, ...],
    options: dict[str, Any],
    key: str = "quality",
) -> Codec:
    """A codec behind Pillow's `Image.save`; `key` is the option that takes the setting."""

    def encode(pixels: Pixels, setting: float) -> bytes:
        value = [setting] if key == "quality_layers" else round(setting)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format, **{key: value}, **copy.deepcopy(options))  # plugins modify them
        return file.getvalue()

    def decode(data: bytes) -> Pixels:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))

    words = ", ".join([f"{key}=setting", *(f"{name}={value}" for name, value in options.items())])
    versions = f"Pillow {PIL.__version__}, {library}"
    grid = QUALITY_GRID if key == "quality" else JP2_GRID
    return Codec(name, title, versions, words, scale, encode, decode, grid)


def _feature(feature: str, version: str, title: str) -> str:
    """The name and version of a library in Pillow. Raises MissingCodecError if Pillow was built without it."""
    if not features.check(feature):
        raise MissingCodecError(f"this Pillow was built without {title}")
    return f"{title} {features.version(version)}"


def _library(module: str, title: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingCodecError(f"{title} needs {module.replace('_', '-')}: {EXTRA}") from error
