"""`Picture` → Pillow image or picture file, with all of it that the format can hold."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from ldcodec.bitstream.chunktypes import EXIF_MARK
from ldcodec.errors import PictureError, UsageError
from ldcodec.pictures import colour, rows
from ldcodec.pictures.guard import first_line, warn
from ldcodec.pictures.metadata import DESCRIPTIVE, DIRECTORIES, descriptive
from ldcodec.pictures.picture import Picture

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
JPEG_SEGMENT = 65533  # bytes of Exif or XMP that JPEG can hold with their marks


@dataclass(frozen=True)
class _Ability:
    """What a format holds, and how Pillow is to write it."""

    options: dict[str, object]
    alpha: bool = True
    metadata: bool = True


_ABILITIES = {
    "PNG": _Ability({}),
    "JPEG": _Ability({"quality": 95, "subsampling": "4:4:4", "optimize": True}, alpha=False),
    "WEBP": _Ability({"lossless": True, "exact": True}),
    "TIFF": _Ability({"compression": "tiff_adobe_deflate"}),
    "PPM": _Ability({}, alpha=False, metadata=False),
    "BMP": _Ability({}, alpha=False, metadata=False),
}


def to_image(picture: Picture) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA, with icc_profile, exif and xmp in its `info` as Pillow itself does."""
    image = Image.fromarray(np.ascontiguousarray(picture.array()))
    exif = picture.exif and EXIF_MARK + picture.exif
    found = {"icc_profile": picture.icc, "exif": exif, "xmp": picture.xmp}
    image.info.update({key: value for key, value in found.items() if value is not None})
    return image


def write(picture: Picture, target: BinaryIO, format: str = "PNG") -> None:
    """Write a picture as a file of one of `FORMATS`' values; warns with LdcodecWarning of what the format cannot hold.

    Raises PictureError if it cannot hold the pixels; an OSError of the target itself is left as it is.
    """
    kept = _holdable(picture, format)
    try:
        image = Image.fromarray(np.ascontiguousarray(kept.array()))
        rows.save(image, target, format, _ABILITIES[format].options | _metadata_options(kept, format))
    except rows.TargetError as error:
        raise error.error from error
    except Exception as error:
        size = f"{picture.width}x{picture.height}"
        raise PictureError(f"a picture of {size} pixels cannot be written as {format}: {first_line(error)}") from error


def format_of(path: Path | str) -> str:
    """The Pillow name of the format that a file's extension asks for. Raises UsageError if it is unknown."""
    extension = Path(path).suffix
    format = FORMATS.get(extension.lower())
    if format is None:
        raise UsageError(f"{path}: unknown extension {extension!r} for a picture; use one of {' '.join(FORMATS)}")
    return format


def _holdable(picture: Picture, format: str) -> Picture:
    """The picture without what the format has no place for, each told in a warning."""
    ability = _ABILITIES[format]
    if picture.alpha is not None and not ability.alpha:
        warn(f"{format} holds no transparency: the picture is laid onto white")
        picture = _on_white(picture)
    lost = _unholdable(picture, format)
    if lost:
        names = {"icc": "colour profile", "exif": "Exif", "xmp": "XMP"}
        warn(f"{format} cannot hold its {', '.join(names[field] for field in lost)}, left out")
    nothing: dict[str, Any] = dict.fromkeys(lost)
    return replace(picture, **nothing)


def _unholdable(picture: Picture, format: str) -> list[str]:
    """Names of the fields with metadata that the format cannot hold."""
    given = [field for field in ("icc", "exif", "xmp") if getattr(picture, field) is not None]
    if not _ABILITIES[format].metadata:
        return given
    limits = {"exif": JPEG_SEGMENT - 6, "xmp": JPEG_SEGMENT - 29}
    lost = [f for f in given if format == "JPEG" and len(getattr(picture, f)) > limits.get(f, 255 * 65519)]
    if format == "WEBP" and picture.icc is not None and colour.space(picture.icc) == b"GRAY":
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
    """Alpha applied in front of white, in the numbers as they stand, as browsers and editors do."""
    if picture.alpha is None:
        return picture
    alpha = picture.alpha.astype(np.uint16)
    alpha = alpha if picture.grey else alpha[:, :, None]
    shown = (picture.pixels * alpha + 255 * (255 - alpha) + 127) // 255
    return replace(picture, pixels=shown.astype(np.uint8), alpha=None)


def _metadata_options(picture: Picture, format: str) -> dict[str, object]:
    """What Pillow's `save` takes for the metadata."""
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
    """Exif and XMP as tags; Pillow writes directories within directories into uncompressed files only."""
    tags = Image.Exif() if picture.exif is None else _tiff_tags(picture.exif)
    if picture.xmp is not None:
        tags[ExifTags.Base.XMLPacket] = picture.xmp
    options: dict[str, object] = {"exif": tags} if len(tags) else {}
    return options | ({"compression": None} if any(directory in tags for directory in DIRECTORIES) else {})


def _tiff_tags(exif: bytes) -> Image.Exif:
    """What Exif tells as tags of TIFF; none, with a warning, where it is damaged: the picture does not depend on it."""
    found = Image.Exif()
    try:
        found.load(exif)
        tags = descriptive(found)
        for tag in (tag for tag in DESCRIPTIVE if not isinstance(tags.get(tag, ""), str)):
            del tags[tag]  # libtiff takes text alone here
        tags.tobytes()  # values that no tag can hold are told here and not when the picture is half written
    except Exception:  # Pillow raises nearly anything here, as for damaged pictures
        warn("its Exif is damaged and cannot become TIFF tags, left out")
        return Image.Exif()
    return tags
