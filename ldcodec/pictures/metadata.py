"""Exif and XMP: taken from a Pillow image byte for byte, except for the orientation, which is applied and reset."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ldcodec.bitstream.chunktypes import EXIF_MARK, MAX_TEXT, fits
from ldcodec.pictures import colour
from ldcodec.pictures import exif as exif_bytes
from ldcodec.pictures import xmp as xmp_bytes
from ldcodec.pictures.exif import DESCRIPTIVE, DIRECTORIES, ORIENTATION, ExifError
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.guard import warn
from ldcodec.pictures.notes import Notes, notes_of
from ldcodec.pictures.picture import Picture
from ldcodec.pictures.rawprofiles import raw_profile
from ldcodec.pictures.samples import upright
from ldcodec.pictures.segments import XMP_MARK
from ldcodec.pictures.xmp import XmpError

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Collected:
    """Exif, without its marker, and XMP of the upright picture; orientation: what the pixels still need."""

    exif: bytes | None
    xmp: bytes | None
    notes: Notes
    orientation: int

    def turned(self, image: Image.Image) -> Image.Image:
        """The image as its orientation asks."""
        return image.transpose(_TURNS[self.orientation]) if self.orientation in _TURNS else image

    def turned_samples(self, samples: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Samples (H, W) or (H, W, C) as their orientation asks."""
        return upright(samples, self.orientation)


def collect(image: Image.Image, file: Findings) -> Collected:
    """The metadata of a loaded Pillow image; file: what its file says besides. Damaged metadata is left out, and told.

    The pixels of TIFF and HEIC have been turned as they were decoded.
    """
    exif = exif_of(image) or file.exif
    xmp = _xmp(image) or file.xmp
    asked = _orientation(image, exif, xmp)
    turned = file.turned if image.format in ("TIFF", "HEIF") else asked
    upright_exif, upright_xmp = _upright_exif(exif, turned), _consistent_xmp(xmp, file, turned)
    return Collected(_sound("Exif", upright_exif), _sound("XMP", upright_xmp), _sound_notes(image, file), asked)


def strip(picture: Picture) -> Picture:
    """Drop all metadata; the pixels are converted to sRGB, since without a profile they would change colour."""
    return replace(colour.to_srgb(picture), exif=None, xmp=None, notes=Notes())


def descriptive(exif: Image.Exif) -> Image.Exif:
    """The part of Exif that is valid in any TIFF file, however its pixels are stored."""
    kept = Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in exif:
            kept[tag] = exif[tag]
    for directory in DIRECTORIES:
        values = dict(exif.get_ifd(directory))
        values.pop(ExifTags.Base.MakerNote, None)  # they refer to places in the file that they were in
        if values:
            kept.get_ifd(directory).update(values)
            kept[directory] = values  # Pillow's TIFF writer looks for the tag before it asks for the directory
    return kept


def exif_of(image: Image.Image) -> bytes | None:
    """The unchanged Exif of a loaded Pillow image, without its marker; for TIFF, made from its descriptive tags."""
    exif = image.info.get("exif") or raw_profile(image, "exif") or _app1(image, EXIF_MARK)
    try:
        if exif is None and image.format == "TIFF":
            found = descriptive(image.getexif())
            exif = found.tobytes() if len(found) else None
    except Exception:  # tags that contradict each other
        warn("its damaged metadata is ignored")
    # Twice, because some programs write the marker into PNG too, where Pillow adds it.
    return exif.removeprefix(EXIF_MARK).removeprefix(EXIF_MARK) if isinstance(exif, bytes) else None


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp") or raw_profile(image, "xmp") or _app1(image, XMP_MARK)
    return xmp.removeprefix(XMP_MARK) if isinstance(xmp, bytes) else None


def _app1(image: Image.Image, mark: bytes) -> bytes | None:
    """What ImageMagick puts into PNG as APP1, the segment of JPEG, if it begins with a mark."""
    profile = raw_profile(image, "APP1")
    return profile if profile is not None and profile.startswith(mark) else None


def _orientation(image: Image.Image, exif: bytes | None, xmp: bytes | None) -> int:
    """The orientation that the pixels need. What Exif does not say, XMP may."""
    try:
        asked = exif_bytes.orientation(exif) if exif is not None else image.getexif().get(ORIENTATION)
    except ExifError:  # told where it is left out
        asked = None
    except Exception:  # Pillow parses a dozen kinds of metadata here, and its errors are as many
        warn("its damaged metadata is ignored")
        asked = None
    return asked or (xmp is not None and xmp_bytes.orientation(xmp)) or 1


def _sound_notes(image: Image.Image, file: Findings) -> Notes:
    notes = notes_of(image, file)
    if not fits(notes.texts):
        warn("its texts exceed the limit of 2^24 bytes and are left out")
        notes = replace(notes, texts=())
    return replace(notes, iptc=_sound("IPTC", notes.iptc))


def _sound(what: str, text: bytes | None) -> bytes | None:
    if text is not None and len(text) > MAX_TEXT:
        warn(f"its {what} of {len(text)} bytes exceeds the limit of 2^24 and is left out")
        return None
    return text or None


def _upright_exif(exif: bytes | None, turned: int) -> bytes | None:
    try:
        return exif and exif_bytes.upright(exif, turned)
    except ExifError:
        warn("its damaged Exif is left out")
        return None


def _consistent_xmp(xmp: bytes | None, file: Findings, turned: int) -> bytes | None:
    """XMP of the upright picture alone; what it says of other data in its file is named among the parts of the file."""
    if xmp is None:
        return None
    try:
        whole, parts = xmp_bytes.consistent(xmp, file.extended_xmp)
        file.parts += parts
        return xmp_bytes.upright(whole, turned)
    except XmpError as error:
        warn(f"its XMP is left out, because {error}")
        return None
