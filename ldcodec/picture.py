"""Picture files and Pillow images ⇄ the codec's pixels: uint8 arrays, (H, W, 3) for RGB in sRGB, (H, W) for grey.

Nothing is lost in silence: what the codec cannot keep is refused with a PictureError or told in an LdcodecWarning.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ldcodec import rows
from ldcodec.container import size_problem
from ldcodec.errors import LdcodecError, LdcodecWarning, PictureError, UsageError

Pixels = NDArray[np.uint8]

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".bmp": "BMP",
}
SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4", "optimize": True},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(source: Path | BinaryIO, name: str | None = None) -> Pixels:
    """Read a picture file upright: uint8, (H, W, 3) or, from a grey file, (H, W).

    `name` is what messages call the file. Raises PictureError for what is missing, damaged, too large, transparent
    or no picture; warns with LdcodecWarning where less is kept than the file holds.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    with _pillow(name):
        stored = source if isinstance(source, Path) or source.seekable() else io.BytesIO(source.read())
        with Image.open(stored) as image:
            pixels = _pixels(image)
            _warn_of_frames(image)
    return pixels


def from_image(image: Image.Image) -> Pixels:
    """The pixels of a Pillow image, upright: uint8, (H, W, 3) or (H, W). Raises and warns as `read` does."""
    with _pillow("the picture"):
        return _pixels(image)


def to_image(pixels: Pixels) -> Image.Image:
    """A Pillow image, mode RGB or L, of uint8 pixels (H, W, 3) or (H, W)."""
    return Image.fromarray(pixels)


def write(pixels: Pixels, target: BinaryIO, format: str = "PNG") -> None:
    """Write uint8 pixels (H, W, 3) or (H, W) as a picture file of one of `FORMATS`' values.

    Raises PictureError if the format cannot hold them; an OSError of the target itself is left as it is.
    """
    try:
        rows.save(to_image(pixels), target, format, SAVE_OPTIONS.get(format, {}))
    except rows.TargetError as error:
        raise error.error from error
    except Exception as error:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise PictureError(f"a picture of {size} pixels cannot be written as {format}: {_first_line(error)}") from error


def format_of(path: Path | str) -> str:
    """The Pillow name of the format that a file's extension asks for. Raises UsageError if it is unknown."""
    extension = Path(path).suffix
    format = FORMATS.get(extension.lower())
    if format is None:
        raise UsageError(f"{path}: unknown extension {extension!r} for a picture; use one of {' '.join(FORMATS)}")
    return format


@contextmanager
def _pillow(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into a PictureError that names the file, and its warnings into LdcodecWarnings.

    Its decoders raise nearly anything on damaged files (OSError, SyntaxError, ValueError, struct.error, zlib.error,
    EOFError, MemoryError …), so no narrower class than Exception would do.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except LdcodecError as error:
        raise type(error)(f"{name}: {error}") from error
    except Exception as error:
        raise PictureError(f"{name}: {_reason(error)}") from error
    told = [entry.message for entry in caught if issubclass(entry.category, UserWarning)]
    for text in dict.fromkeys(map(_first_line, told)):
        warnings.warn(text, LdcodecWarning, stacklevel=4)


def _first_line(message: BaseException | str) -> str:
    lines = str(message).strip().splitlines()
    return lines[0] if lines else type(message).__name__


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known kind, or damaged in its first bytes"
    if isinstance(error, Image.DecompressionBombError):
        return "refused, because it claims more pixels than is safe to open; --max-pixels sets the limit"
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"cannot be read, because it is damaged: {_first_line(error)}"


def _warn(text: str) -> None:
    warnings.warn(text, LdcodecWarning, stacklevel=2)


def _pixels(image: Image.Image) -> Pixels:
    problem = size_problem(*image.size)
    if problem is not None:
        raise PictureError(f"cannot be stored: {problem}")
    _warn_of_depth(image)
    image.load()
    _warn_of_profile(image)
    deep_grey = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    upright = _upright(image)
    return _from_deep_grey(upright) if deep_grey else rows.to_array(_plain(upright))


def _warn_of_depth(image: Image.Image) -> None:
    """Pillow itself cuts 16-bit colour to 8 bits while it decodes; only the tiles, before loading, tell."""
    if image.mode.startswith("I") or re.search(r";16[BLN]", str(getattr(image, "tile", ""))):
        _warn("its samples of 16 bits are reduced to 8")


def _warn_of_profile(image: Image.Image) -> None:
    """Profiles are not applied yet; one that names sRGB loses nothing."""
    profile = image.info.get("icc_profile")
    if profile and not any("sRGB".encode(encoding) in profile for encoding in ("ascii", "utf-16-be")):
        _warn("its colour profile is ignored, so that colours may differ")


def _warn_of_frames(image: Image.Image) -> None:
    """Must come last: counting frames may move the file to another one."""
    try:
        several = getattr(image, "is_animated", False)
    except Exception:  # a damaged later frame
        several = True
    if several:
        _warn("it holds several pictures, of which only the first is kept")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its Exif or XMP orientation asks; damaged metadata asks for nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Pillow parses a dozen kinds of metadata here
        _warn("its damaged metadata is ignored")
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _from_deep_grey(image: Image.Image) -> Pixels:
    """16-bit grey to 8: the nearest of value / 257."""
    values = np.asarray(image).astype(np.uint32)
    key = image.info.get("transparency")
    if isinstance(key, int) and bool((values == key).any()):
        raise _transparent()
    return ((values + 128) // 257).astype(np.uint8)


def _plain(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, once it is certain that nothing in it is transparent."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        if image.getextrema()[-1] != (255, 255):
            raise _transparent()
    if image.mode in ("I", "F", "LAB"):
        raise PictureError(f"pictures of Pillow's mode {image.mode} cannot be stored; convert it to 8-bit RGB first")
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _transparent() -> PictureError:
    return PictureError("it is partly transparent, which cannot be stored yet; flatten it onto a background first")
