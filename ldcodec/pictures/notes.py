"""Notes beside a picture that are neither Exif nor XMP: IPTC, comments and other texts, and the resolution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ExifTags, Image, PngImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from ldcodec.bitstream.chunktypes import MAX_RESOLUTION
from ldcodec.pictures import resources
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.rawprofiles import PREFIX, raw_profile

Text = tuple[str, str]

COMMENT = "Comment"  # the keyword of texts without one, such as those of JPEG and GIF
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675  # tags of TIFF
TEXTS = "texts"  # key in an image's `info` for pairs of keyword and text
USUAL = 72.0  # pixels per inch: what programs take where nothing is said, and JPEG and Exif say where nothing is known
XMP_KEYWORD = "XML:com.adobe.xmp"
SPECIAL = (XMP_KEYWORD, *(f"{PREFIX}{kind}" for kind in ("exif", "APP1", "xmp", "iptc", "8bim", "icc", "icm")))


@dataclass(frozen=True)
class Notes:
    """iptc: an IIM stream; texts: keyword and text; resolution: pixels per inch, across and down."""

    iptc: bytes | None = None
    texts: tuple[Text, ...] = ()
    resolution: tuple[float, float] | None = None


def notes_of(image: Image.Image, file: Findings) -> Notes:
    """The notes of a loaded Pillow image; file: what its file says besides."""
    return Notes(_iptc(image, file), _texts(image, file), _resolution(image))


def _iptc(image: Image.Image, file: Findings) -> bytes | None:
    given: list[bytes | None] = [_bytes(image.info.get("iptc")), file.iptc]
    given += [resources.iptc_in(raw) for kind in ("iptc", "8bim") if (raw := raw_profile(image, kind)) is not None]
    if isinstance(image, TiffImageFile):
        given += [_bytes(image.tag_v2.get(IPTC)), resources.iptc_in(_bytes(image.tag_v2.get(PHOTOSHOP)))]
    return next((data for data in given if data), None)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _texts(image: Image.Image, file: Findings) -> tuple[Text, ...]:
    """Texts of PNG, comments of JPEG and GIF, and those that a decoded .ldc file gives an image."""
    found: list[Text] = list(image.info.get(TEXTS, ()))
    if isinstance(image, PngImagePlugin.PngImageFile):
        found += [(key, text) for key, text in image.text.items() if key not in SPECIAL]
    comments: Sequence[object] = file.comments or [image.info.get("comment")]
    found += [(COMMENT, text) for text in map(_decoded, comments) if text]
    return tuple((_clean(key), _clean(text)) for key, text in found)


def _clean(text: str) -> str:
    """What a chunk of texts can hold: without the character 0, and without half surrogate pairs."""
    return str(text).replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _decoded(comment: object) -> str:
    """A comment as text: UTF-8, or Latin-1, in which all bytes mean something."""
    if not isinstance(comment, bytes):
        return comment if isinstance(comment, str) else ""
    comment = comment.rstrip(b"\0")
    try:
        return comment.decode("utf-8")
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch, if a file says other than what is usual; what Pillow takes from Exif stays there."""
    dpi = image.info.get("dpi")
    if "jfif_unit" in image.info and image.info["jfif_unit"] not in (1, 2):
        return None
    if image.format in ("JPEG", "MPO") and "jfif_unit" not in image.info:
        return None
    if isinstance(image, TiffImageFile) and ExifTags.Base.XResolution not in image.tag_v2:
        return None  # Pillow makes it 1
    try:
        across, down = (float(value) for value in dpi)  # type: ignore[union-attr]  # anything may be there
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    sound = all(math.isfinite(value) and 0.01 <= value < MAX_RESOLUTION for value in (across, down))
    return (across, down) if sound and (across, down) != (USUAL, USUAL) else None
