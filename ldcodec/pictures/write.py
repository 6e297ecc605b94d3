"""`Picture` → Pillow image or picture file, with everything that the format can hold."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from ldcodec.bitstream.chunktypes import EXIF_MARK
from ldcodec.errors import PictureError, UsageError
from ldcodec.pictures.guard import first_line, warn
from ldcodec.pictures.metadata import DESCRIPTIVE, DIRECTORIES, descriptive
from ldcodec.pictures.picture import Picture
from ldcodec.pictures.profiles import space

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
JPEG_SEGMENT = 65533  # bytes: the most Exif or XMP that JPEG can hold, including its marker
LARGE = 1 << 24  # pixels: pictures of this size are streamed to the target


@dataclass(frozen=True)
class _Ability:
    """What a format can hold, and the options with which Pillow writes it."""

    options: dict[str, object]
    alpha: bool = True
    metadata: bool = True


_ABILITIES = {
    "PNG": _Ability({"compress_level": 1}),  # a third of the time of level 6; who wants small files takes WebP
    "JPEG": _Ability({"quality": 95, "subsampling": "4:4:4", "optimize": True}, alpha=False),
    "WEBP": _Ability({"lossless": True, "exact": True}),
    "TIFF": _Ability({"compression": "tiff_adobe_deflate"}),
    "PPM": _Ability({}, alpha=False, metadata=False),
    "BMP": _Ability({}, alpha=False, metadata=False),
}


def to_image(picture: Picture) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA, with icc_profile, exif and xmp in `info`, where Pillow keeps them."""
    image = Image.fromarray(np.ascontiguousarray(picture.array()))
    exif = picture.exif and EXIF_MARK + picture.exif
    found = {"icc_profile": picture.icc, "exif": exif, "xmp": picture.xmp}
    image.info.update({key: value for key, value in found.items() if value is not None})
    return image


def write(picture: Picture, target: BinaryIO, format: str = "PNG") -> None:
    """Write a picture in a format of `FORMATS`; warns with LdcodecWarning of anything that the format cannot hold.

    Raises PictureError if it cannot hold the pixels, and passes an OSError of the target itself through.
    """
    kept = _holdable(picture, format)
    try:
        image = Image.fromarray(np.ascontiguousarray(kept.array()))
        _save(image, target, format, _ABILITIES[format].options | _metadata_options(kept, format))
    except _TargetError as error:
        raise error.error from error
    except Exception as error:
        size = f"{picture.width}x{picture.height}"
        raise PictureError(f"a picture of {size} pixels cannot be written as {format}: {first_line(error)}") from error


def format_of(path: Path | str) -> str:
    """Pillow's name for the format of a file's extension. Raises UsageError if the extension is unknown."""
    extension = Path(path).suffix
    format = FORMATS.get(extension.lower())
    if format is None:
        raise UsageError(f"{path}: unknown extension {extension!r} for a picture; use one of {' '.join(FORMATS)}")
    return format


def _save(image: Image.Image, target: BinaryIO, format: str, options: dict[str, Any]) -> None:
    """Save an image; a large one is streamed, so that not even its encoded bytes are held in memory.

    Raises _TargetError for an OSError of the target.
    """
    if image.width * image.height < LARGE or format == "TIFF":  # TIFF is not written front to back
        encoded = io.BytesIO()
        image.save(encoded, format, **options)
        _Target(target).write(encoded.getbuffer())
    else:
        image.save(cast(BinaryIO, _Target(target)), format, **options)


class _TargetError(Exception):
    """Carries an OSError of the target through Pillow, whose own errors are OSErrors too."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Target(io.RawIOBase):
    """Wraps a target stream, so that its errors can be told from Pillow's; like a pipe, it cannot seek."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            raise _TargetError(error) from error


def _holdable(picture: Picture, format: str) -> Picture:
    """The picture without what the format cannot hold; warns of each loss."""
    ability = _ABILITIES[format]
    if picture.alpha is not None and not ability.alpha:
        warn(f"{format} cannot hold transparency: the picture is laid onto white")
        picture = _on_white(picture)
    lost = _unholdable(picture, format)
    if lost:
        names = {"icc": "colour profile", "exif": "Exif", "xmp": "XMP"}
        warn(f"{format} cannot hold its {', '.join(names[field] for field in lost)}, left out")
    nothing: dict[str, Any] = dict.fromkeys(lost)
    return replace(picture, **nothing)


def _unholdable(picture: Picture, format: str) -> list[str]:
    """The names of the metadata fields that the format cannot hold."""
    given = [field for field in ("icc", "exif", "xmp") if getattr(picture, field) is not None]
    if not _ABILITIES[format].metadata:
        return given
    limits = {"exif": JPEG_SEGMENT - 6, "xmp": JPEG_SEGMENT - 29}  # less their markers; profiles span 255 segments
    lost = [f for f in given if format == "JPEG" and len(getattr(picture, f)) > limits.get(f, 255 * 65519)]
    if format == "WEBP" and picture.icc is not None and space(picture.icc) == b"GRAY":
        lost.append("icc")  # WebP's pixels are always RGB
    if format == "PNG" and picture.xmp is not None and not _is_utf8(picture.xmp):
        lost.append("xmp")
    return lost


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _on_white(picture: Picture) -> Picture:
    """The picture blended with white by its alpha, without linearising the values, as browsers and editors do."""
    if picture.alpha is None:
        return picture
    alpha = picture.alpha.astype(np.uint16)
    alpha = alpha if picture.grey else alpha[:, :, None]
    shown = (picture.pixels * alpha + 255 * (255 - alpha) + 127) // 255
    return replace(picture, pixels=shown.astype(np.uint8), alpha=None)


def _metadata_options(picture: Picture, format: str) -> dict[str, object]:
    """The options with which Pillow's `save` takes metadata."""
    options: dict[str, object] = {"icc_profile": picture.icc} if picture.icc else {}
    if format == "TIFF":
        return options | _tiff_options(picture)
    if picture.exif is not None:
        options["exif"] = EXIF_MARK + picture.exif
    if picture.xmp is not None and format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8"))
        options["pnginfo"] = text
    elif picture.xmp is not None:
        options["xmp"] = picture.xmp
    return options


def _tiff_options(picture: Picture) -> dict[str, object]:
    """Exif and XMP as TIFF tags; Pillow can write nested directories only into uncompressed files."""
    tags = Image.Exif() if picture.exif is None else _tiff_tags(picture.exif)
    if picture.xmp is not None:
        tags[ExifTags.Base.XMLPacket] = picture.xmp
    options: dict[str, object] = {"exif": tags} if len(tags) else {}
    return options | ({"compression": None} if any(directory in tags for directory in DIRECTORIES) else {})


def _tiff_tags(exif: bytes) -> Image.Exif:
    """The descriptive tags of Exif; none, with a warning, if it is damaged, since the picture does not depend on it."""
    found = Image.Exif()
    try:
        found.load(exif)
        tags = descriptive(found)
        for tag in (tag for tag in DESCRIPTIVE if not isinstance(tags.get(tag, ""), str)):
            del tags[tag]  # libtiff accepts only text here
        tags.tobytes()  # raises for values that no tag can hold, before the picture is half written
    except Exception:  # on damaged data Pillow raises almost anything
        warn("its Exif is damaged, cannot become TIFF tags and is left out")
        return Image.Exif()
    return tags
