"""`Picture` → Pillow image or picture file, with everything that the format can hold."""

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.chunktypes import EXIF_MARK
from ldcodec.errors import PictureError, UsageError
from ldcodec.pictures import codepoints, deeppng, deeptiff, resources
from ldcodec.pictures.codepoints import CodePoints
from ldcodec.pictures.colour import shown, to_srgb
from ldcodec.pictures.exif import DESCRIPTIVE, DIRECTORIES, ExifError, lost_in_tiff, without_orientation
from ldcodec.pictures.guard import first_line, warn
from ldcodec.pictures.metadata import descriptive
from ldcodec.pictures.notes import COMMENT, IPTC, SPECIAL, TEXTS, XMP_KEYWORD, Notes
from ldcodec.pictures.picture import Picture, scaled, white_of
from ldcodec.pictures.profiles import space
from ldcodec.pictures.rawprofiles import PREFIX, as_text

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".bmp": "BMP",
    ".avif": "AVIF",
}
JPEG_SEGMENT = 65533  # bytes: the most Exif or XMP that JPEG can hold, including its marker
NO_RESOLUTION = (1, 0)  # least and most
AVIF_BITS = 10, 12  # that AVIF has beside 8
SRGB_POINTS, BT601, BT2020 = (1, 13), 6, 9  # primaries and curve, and matrices from RGB, of H.273
AVIF_QUALITY, AVIF_SPEED = 95, 6
PNG_LEVEL = 1  # takes a third of the time of level 6; who wants small files takes WebP
LARGE = 1 << 24  # pixels: pictures of this size are streamed to the target


@dataclass(frozen=True)
class _Ability:
    """What a format can hold, and the options with which Pillow writes it.

    metadata: profile, Exif and XMP; iptc: the most bytes of it; texts: whether it can hold a keyword and a text;
    resolution: the least and the most pixels per inch; deep: whether it can hold 16 bits a sample.
    """

    options: dict[str, object]
    alpha: bool = True
    deep: bool = False
    metadata: bool = True
    iptc: int = 0
    texts: Callable[[str, str], bool] | None = None
    resolution: tuple[float, float] = (0, chunktypes.MAX_RESOLUTION)


def _fits_png(keyword: str, text: str) -> bool:
    """Whether a text may stand in PNG: with a keyword of 1 to 79 printable characters of Latin-1, and none of ours."""
    sound = 0 < len(keyword) < 80 and keyword == keyword.strip() and keyword.isprintable() and max(keyword) < "\u0100"
    return sound and keyword not in SPECIAL


def _fits_jpeg(keyword: str, text: str) -> bool:
    """Whether a text may be a comment of JPEG, which has no keyword."""
    return keyword == COMMENT and len(text.encode()) <= JPEG_SEGMENT


_ABILITIES = {
    "PNG": _Ability({"compress_level": PNG_LEVEL}, deep=True, iptc=chunktypes.MAX_TEXT, texts=_fits_png),
    "JPEG": _Ability(
        {"quality": 95, "subsampling": "4:4:4", "optimize": True},
        alpha=False,
        iptc=JPEG_SEGMENT - 28,  # less what stands around it
        texts=_fits_jpeg,
        resolution=(0.51, 0xFFFF),  # whole numbers above 0
    ),
    "WEBP": _Ability({"lossless": True, "exact": True}, resolution=NO_RESOLUTION),
    "TIFF": _Ability({"compression": "tiff_adobe_deflate"}, deep=True, iptc=chunktypes.MAX_TEXT),
    "PPM": _Ability({}, alpha=False, deep=True, metadata=False, resolution=NO_RESOLUTION),
    "BMP": _Ability({}, alpha=False, metadata=False),
    "AVIF": _Ability(
        {"quality": AVIF_QUALITY, "speed": AVIF_SPEED, "subsampling": "4:4:4"}, deep=True, resolution=NO_RESOLUTION
    ),
}
_NOTES = {"iptc": "IPTC", "texts": "comments and other texts", "resolution": "resolution"}


def to_image(picture: Picture, deep: bool = True) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA, with its metadata in `info`; of mode I;16 for grey of 16 bits.

    Pillow has no other images of 16 bits, so colours, and grey with alpha, are rounded to 8; without `deep` all are.
    PQ and HLG are brought into sRGB.
    icc_profile, exif, xmp and dpi stand where Pillow has them; iptc is bytes, and texts pairs of keyword and text.
    """
    picture = shown(picture) if picture.bright is not None else picture
    if not (deep and picture.grey and picture.alpha is None):
        picture = picture.at_depth(8)
    image = Image.fromarray(np.ascontiguousarray(picture.array()))
    notes = picture.notes
    exif = picture.exif and EXIF_MARK + picture.exif
    found: dict[str, object] = {"icc_profile": picture.icc, "exif": exif, "xmp": picture.xmp, "iptc": notes.iptc}
    found |= {"dpi": notes.resolution, TEXTS: notes.texts or None}
    image.info.update({key: value for key, value in found.items() if value is not None})
    return image


def write(picture: Picture, target: BinaryIO, format: str = "PNG") -> None:
    """Write a picture in a format of `FORMATS`; warns with LdcodecWarning of anything that the format cannot hold.

    Raises PictureError if it cannot hold the pixels, and passes an OSError of the target itself through.
    """
    kept = _holdable(picture, format)
    try:
        if kept.depth > 8:
            _DEEP[format](kept, target)
        else:
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


def _save_deep_png(picture: Picture, target: BinaryIO) -> None:
    template = io.BytesIO()
    Image.new("L" if picture.grey else "RGB", (1, 1)).save(template, "PNG", **_metadata_options(picture, "PNG"))
    deeppng.write(picture.array(), cast(BinaryIO, _Target(target)), PNG_LEVEL, template.getvalue())


def _save_deep_tiff(picture: Picture, target: BinaryIO) -> None:
    encoded = io.BytesIO()
    deeptiff.write(picture.array(), encoded, _all_tiff_tags(picture), picture.icc, picture.notes.resolution)
    _Target(target).write(encoded.getbuffer())


def _save_deep_ppm(picture: Picture, target: BinaryIO) -> None:
    sink = _Target(target)
    sink.write(b"P%d\n%d %d\n65535\n" % (5 if picture.grey else 6, picture.width, picture.height))
    for row in picture.pixels:
        sink.write(row.astype(">u2").tobytes())


def _save_deep_avif(picture: Picture, target: BinaryIO) -> None:
    from imagecodecs import avif_encode

    points, bits = picture.bright or CodePoints(*SRGB_POINTS), _bits(picture, "AVIF")
    data = avif_encode(
        scaled(np.ascontiguousarray(picture.array()), 65535, (1 << bits) - 1),
        level=AVIF_QUALITY,
        speed=AVIF_SPEED,
        bitspersample=bits,
        pixelformat=None if picture.grey else "444",
        primaries=points.primaries,
        transfer=points.transfer,
        matrix=BT2020 if picture.bright else BT601,
    )
    _Target(target).write(data)


_DEEP = {"PNG": _save_deep_png, "TIFF": _save_deep_tiff, "PPM": _save_deep_ppm, "AVIF": _save_deep_avif}


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
    ability, bits = _ABILITIES[format], _bits(picture, format)
    if picture.bright is not None and (format not in ("PNG", "AVIF") or bits == 8):
        picture = to_srgb(picture)
    if picture.depth > bits:
        hint = "; pip install 'ldcodec[deep]' keeps more" if format == "AVIF" and bits == 8 else ""
        warn(f"{format} cannot hold {picture.depth} bits a sample: they are reduced to {bits}{hint}")
        picture = picture.at_depth(bits)
    if picture.alpha is not None and not ability.alpha:
        warn(f"{format} cannot hold transparency: the picture is laid onto white")
        picture = _on_white(picture)
    lost, notes = _unholdable(picture, format), _holdable_notes(picture.notes, format)
    names = [{"icc": "colour profile", "exif": "Exif", "xmp": "XMP"}[field] for field in lost]
    names += [_NOTES[field.name] for field in fields(notes) if _differ(notes, picture.notes, field.name)]
    if format == "TIFF" and picture.exif is not None:
        names += lost_in_tiff(picture.exif)
    if names:
        warn(f"{format} cannot hold its {', '.join(names)}, left out")
    if "icc" in lost:  # or its colours would be others
        picture = to_srgb(picture)
    nothing: dict[str, Any] = dict.fromkeys(lost)
    return replace(picture, notes=notes, **nothing)


def _bits(picture: Picture, format: str) -> int:
    """The bits a sample with which a picture is written."""
    if picture.depth == 8 or not _ABILITIES[format].deep:
        return 8
    if format != "AVIF":
        return 16
    return 8 if find_spec("imagecodecs") is None else AVIF_BITS[picture.depth > AVIF_BITS[0]]


def _differ(notes: Notes, others: Notes, field: str) -> bool:
    return bool(getattr(notes, field) != getattr(others, field))


def _holdable_notes(notes: Notes, format: str) -> Notes:
    """The notes that a format can hold."""
    ability = _ABILITIES[format]
    texts = tuple(text for text in notes.texts if ability.texts is not None and ability.texts(*text))
    iptc = notes.iptc if ability.iptc and len(notes.iptc or b"") <= ability.iptc else None
    least, most = ability.resolution
    fits = notes.resolution is not None and least <= min(notes.resolution) and max(notes.resolution) <= most
    return Notes(iptc, texts, notes.resolution if fits else None)


def _unholdable(picture: Picture, format: str) -> list[str]:
    """The names of the fields of profile, Exif and XMP that the format cannot hold."""
    given = [field for field in ("icc", "exif", "xmp") if getattr(picture, field) is not None]
    if not _ABILITIES[format].metadata:
        return given
    limits = {"exif": JPEG_SEGMENT - 6, "xmp": JPEG_SEGMENT - 29}  # less their markers; profiles span 255 segments
    lost = [f for f in given if format == "JPEG" and len(getattr(picture, f)) > limits.get(f, 255 * 65519)]
    if format == "AVIF" and picture.depth > 8:  # imagecodecs writes none of them
        return given
    if format in ("WEBP", "AVIF") and picture.icc is not None and space(picture.icc) == b"GRAY":
        lost.append("icc")  # the pixels of WebP, and those that Pillow writes into AVIF, are always RGB
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
    white = white_of(picture.pixels)
    alpha: NDArray[Any] = picture.alpha.astype(np.uint16 if white == 255 else np.uint32)
    alpha = alpha if picture.grey else alpha[:, :, None]
    shown = (picture.pixels * alpha + white * (white - alpha) + white // 2) // white
    return replace(picture, pixels=shown.astype(picture.pixels.dtype), alpha=None)


def _metadata_options(picture: Picture, format: str) -> dict[str, object]:
    """The options with which Pillow's `save` takes metadata."""
    options: dict[str, object] = {"icc_profile": picture.icc} if picture.icc else {}
    if picture.notes.resolution is not None:
        options["dpi"] = picture.notes.resolution
    if format == "TIFF":
        return options | _tiff_options(picture)
    if picture.exif is not None:
        options["exif"] = EXIF_MARK + (_unoriented(picture.exif) if format == "AVIF" else picture.exif)
    if format == "PNG":
        return options | {"pnginfo": _png_texts(picture)}
    if picture.xmp is not None:
        options["xmp"] = picture.xmp
    return options | ({"extra": _jpeg_segments(picture.notes)} if format == "JPEG" else {})


def _unoriented(exif: bytes) -> bytes:
    """Exif without an orientation, for which Pillow would write it anew and lose thumbnails and maker notes."""
    with suppress(ExifError):
        return without_orientation(exif)
    return exif


def _png_texts(picture: Picture) -> PngImagePlugin.PngInfo:
    """Code points, XMP, IPTC and texts as chunks of PNG."""
    chunks = PngImagePlugin.PngInfo()
    if picture.bright is not None:
        chunks.add(b"cICP", codepoints.pack(picture.bright))
    if picture.xmp is not None:
        chunks.add_itxt(XMP_KEYWORD, picture.xmp.decode("utf-8"))
    if picture.notes.iptc is not None:
        chunks.add_text(f"{PREFIX}iptc", as_text("iptc", resources.around(picture.notes.iptc)), zip=True)
    for keyword, text in picture.notes.texts:
        chunks.add_text(keyword, text)  # becomes an iTXt chunk where it is not Latin-1
    return chunks


def _jpeg_segments(notes: Notes) -> bytes:
    """IPTC and comments as segments of JPEG."""
    segments = [(b"\xfe", text.encode()) for _, text in notes.texts]
    if notes.iptc is not None:
        segments.append((b"\xed", resources.MARK + resources.around(notes.iptc)))
    return b"".join(b"\xff" + kind + (len(data) + 2).to_bytes(2, "big") + data for kind, data in segments)


def _tiff_options(picture: Picture) -> dict[str, object]:
    """Pillow can write nested directories only into uncompressed files."""
    tags = _all_tiff_tags(picture)
    options: dict[str, object] = {"exif": tags} if len(tags) else {}
    return options | ({"compression": None} if any(directory in tags for directory in DIRECTORIES) else {})


def _all_tiff_tags(picture: Picture) -> Image.Exif:
    """Exif, XMP and IPTC as TIFF tags."""
    tags = Image.Exif() if picture.exif is None else _tiff_tags(picture.exif)
    if picture.xmp is not None:
        tags[ExifTags.Base.XMLPacket] = picture.xmp
    if picture.notes.iptc is not None:
        tags[IPTC] = picture.notes.iptc
    return tags


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
