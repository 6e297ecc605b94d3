"""Exif and XMP: taken from a Pillow image byte for byte, but for the orientation, which is applied and reset."""

import re
import struct
from dataclasses import replace

from PIL import ExifTags, Image

from ldcodec.bitstream.chunktypes import EXIF_MARK, MAX_TEXT
from ldcodec.pictures import colour
from ldcodec.pictures.guard import warn
from ldcodec.pictures.picture import Picture

ORIENTATION = ExifTags.Base.Orientation

# What a TIFF file says of the picture, not of how its pixels are stored.
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
    """The image turned as its Exif or XMP orientation asks; damaged metadata asks for nothing."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow parses a dozen kinds of metadata here
        warn("its damaged metadata is ignored")
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def collect(image: Image.Image) -> tuple[bytes | None, bytes | None]:
    """Exif, without its mark, and XMP of a Pillow image that was loaded, both with orientation 1."""
    return _sound("Exif", _upright_exif(exif_of(image))), _sound("XMP", _upright_xmp(_xmp(image)))


def strip(picture: Picture) -> Picture:
    """The pixels and alpha alone, in sRGB: without its profile a picture would show other colours."""
    return replace(colour.to_srgb(picture), exif=None, xmp=None)


def descriptive(exif: Image.Exif) -> Image.Exif:
    """The part of Exif data that may stand in any TIFF file, whatever the form of its pixels."""
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
    """Exif as it stands, without its mark, of a Pillow image that was loaded; of TIFF what its tags tell."""
    exif = image.info.get("exif")
    try:
        if exif is None and "Raw profile type exif" in image.info:  # ImageMagick's way to put Exif into PNG
            exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
        if exif is None and image.format == "TIFF":
            found = descriptive(image.getexif())
            exif = found.tobytes() if len(found) else None
    except Exception:  # text that is no number, tags that contradict themselves
        warn("its damaged metadata is ignored")
    return exif.removeprefix(EXIF_MARK) if isinstance(exif, bytes) else None


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp")
    return xmp if isinstance(xmp, bytes) else None


def _sound(what: str, text: bytes | None) -> bytes | None:
    if text is not None and len(text) > MAX_TEXT:
        warn(f"its {what} of {len(text)} bytes is beyond the limit of 2^24 and is left out")
        return None
    return text or None


def _upright_exif(exif: bytes | None) -> bytes | None:
    """Exif with the value of its first directory's orientation set to 1 in place.

    Written anew, it would lose what a camera points to by offsets of its own.
    """
    if exif is None:
        return None
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            raise struct.error("no TIFF stream")
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
    """The number 1 as the four bytes of a value: a LONG if the tag says so, else a SHORT and two bytes of nothing."""
    return struct.pack(f"{order}I", 1) if kind == 4 else struct.pack(f"{order}HH", 1, 0)


def _upright_xmp(xmp: bytes | None) -> bytes | None:
    return xmp and re.sub(rb'(tiff:Orientation\s*(?:=\s*["\']|>)\s*)[2-8]', rb"\g<1>1", xmp)
