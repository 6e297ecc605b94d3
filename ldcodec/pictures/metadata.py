"""Exif and XMP: taken from a Pillow image byte for byte, except for the orientation, which is applied and reset."""

import re
import struct
from dataclasses import replace

from PIL import ExifTags, Image

from ldcodec.bitstream.chunktypes import EXIF_MARK, MAX_TEXT
from ldcodec.pictures import colour
from ldcodec.pictures.guard import warn
from ldcodec.pictures.picture import Picture

ORIENTATION = ExifTags.Base.Orientation

# The tags of a TIFF file that describe the picture rather than how its pixels are stored.
DESCRIPTIVE = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
)
DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its Exif or XMP orientation asks; damaged metadata is ignored with a warning."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow parses a dozen kinds of metadata here, and its errors are as many
        warn("its damaged metadata is ignored")
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def collect(image: Image.Image) -> tuple[bytes | None, bytes | None]:
    """Exif, without its marker, and XMP of a loaded Pillow image, both with the orientation set to 1."""
    return _sound("Exif", _upright_exif(exif_of(image))), _sound("XMP", _upright_xmp(_xmp(image)))


def strip(picture: Picture) -> Picture:
    """Drop all metadata; the pixels are converted to sRGB, since without a profile they would change colour."""
    return replace(colour.to_srgb(picture), exif=None, xmp=None)


def descriptive(exif: Image.Exif) -> Image.Exif:
    """The part of Exif that is valid in any TIFF file, however its pixels are stored."""
    kept = Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in exif:
            kept[tag] = exif[tag]
    for directory in DIRECTORIES:
        values = exif.get_ifd(directory)
        if values:
            kept.get_ifd(directory).update(values)
            kept[directory] = values  # Pillow's TIFF writer looks for the tag before it asks for the directory
    return kept


def exif_of(image: Image.Image) -> bytes | None:
    """The unchanged Exif of a loaded Pillow image, without its marker; for TIFF, made from its descriptive tags."""
    exif = image.info.get("exif")
    try:
        if exif is None and "Raw profile type exif" in image.info:  # how ImageMagick puts Exif into PNG
            exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
        if exif is None and image.format == "TIFF":
            found = descriptive(image.getexif())
            exif = found.tobytes() if len(found) else None
    except Exception:  # text that is not hexadecimal, tags that contradict each other
        warn("its damaged metadata is ignored")
    return exif.removeprefix(EXIF_MARK) if isinstance(exif, bytes) else None


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp")
    return xmp if isinstance(xmp, bytes) else None


def _sound(what: str, text: bytes | None) -> bytes | None:
    if text is not None and len(text) > MAX_TEXT:
        warn(f"its {what} of {len(text)} bytes exceeds the limit of 2^24 and is left out")
        return None
    return text or None


def _upright_exif(exif: bytes | None) -> bytes | None:
    """Set the orientation in the first directory of Exif to 1, in place.

    Rewriting the stream would break maker notes, which refer to data by absolute offsets.
    """
    if exif is None:
        return None
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            raise struct.error("not a TIFF stream")
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == ORIENTATION:
                return exif[: place + 8] + _one(order, kind) + exif[place + 12 :]
    except struct.error:
        warn("its damaged Exif is left out")
        return None
    return exif


def _one(order: str, kind: int) -> bytes:
    """The number 1 as the four bytes of a tag's value: a LONG if its kind is 4, else a SHORT and two unused bytes."""
    return struct.pack(f"{order}I", 1) if kind == 4 else struct.pack(f"{order}HH", 1, 0)


def _upright_xmp(xmp: bytes | None) -> bytes | None:
    return xmp and re.sub(rb'(tiff:Orientation\s*(?:=\s*["\']|>)\s*)[2-8]', rb"\g<1>1", xmp)
