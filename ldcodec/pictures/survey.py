"""What a picture file says that Pillow does not tell: code points, depth, and what an .ldc file cannot hold."""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile
from PIL.TiffTags import lookup

from ldcodec.pictures import boxes, gifblocks, pngchunks, resources, segments
from ldcodec.pictures.exif import DESCRIPTIVE, DIRECTORIES, ORIENTATION
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.notes import ICC, IPTC, PHOTOSHOP, XMP

_BMP_HEADER = 14  # bytes of the file header, before that of the picture
BITS, EXTRA_SAMPLES = ExifTags.Base.BitsPerSample, 338
ALPHAS = 1, 2, 999  # kinds of extra samples; the last stands for alpha in files of CorelDRAW
MOST_BYTES = 1 << 24  # of a chunk that is read
MOST_CHUNKS = 100_000

# What is kept, or says how the pixels are coded.
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"ANIM", b"ANMF"))
_TIFF_STRUCTURE = (
    *range(254, 260), 262, 263, 264, 265, 266, 273, ORIENTATION, *range(277, 285), 290, 291, 292, 293, 296, 297, 317,
    318, 319, *range(320, 326), 332, 334, 338, 339, 340, 341, 347, *range(512, 522), *range(529, 533),
)  # fmt: skip
_TIFF_KEPT = frozenset((*_TIFF_STRUCTURE, *DESCRIPTIVE, *DIRECTORIES, XMP, IPTC, PHOTOSHOP, ICC))
_TIFF_PARTS = {
    **dict.fromkeys((33550, 33922, 34264, 34735, 34736, 34737), "GeoTIFF tags"),
    **dict.fromkeys((42112, 42113), "GDAL metadata"),
    **dict.fromkeys((50838, 50839), "ImageJ metadata"),
    301: "transfer function",
    330: "further pictures",
    37724: "layers of Photoshop",
    52545: "C2PA credentials",
}


def survey(image: Image.Image) -> Findings:
    """Look at the file of a Pillow image, which is best not loaded yet; one without a file says little.

    A file that is damaged is described as far as its order can be followed.
    """
    look = _LOOKS.get(image.format or "")
    if look is None:
        return Findings()
    with file_of(image) as stream:
        return look(image, stream)


@contextmanager
def file_of(image: Image.Image) -> Iterator[BinaryIO | None]:
    """The file of an image at its beginning; one that was closed, as loading does, is opened again by its name."""
    stream = cast(BinaryIO | None, getattr(image, "fp", None))
    if stream is not None and stream.seekable():
        place = stream.tell()
        try:
            stream.seek(0)
            yield stream
        finally:
            stream.seek(place)
        return
    try:
        again = open(getattr(image, "filename", ""), "rb")  # noqa: SIM115  # closed below
    except OSError:
        yield None
        return
    with again:
        yield again


def _iso(image: Image.Image, stream: BinaryIO | None) -> Findings:
    return Findings() if stream is None else boxes.described(stream)


def _jpeg(image: Image.Image, stream: BinaryIO | None) -> Findings:
    applied = getattr(image, "applist", ())
    found = segments.described(applied, stream)
    if image.format == "MPO":  # its other pictures are told of as such
        found.parts = [part for part in found.parts if part != "second picture"]
    if "gain map" in found.parts or segments.tells_of_gain_map(image.info.get("xmp")):
        found.parts = ["gain map" if part == "second picture" else part for part in found.parts]
    if image.info.get("icc_profile") is None and any(data[:11] == b"ICC_PROFILE" for _, data in applied):
        found.parts.append("damaged colour profile")
    return _with_aspect(image, found)


def _tiff(image: Image.Image, stream: BinaryIO | None) -> Findings:
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    turned = tags.get(ORIENTATION, 1)
    found = Findings(turned=turned if isinstance(turned, int) else 1, bits=max(tags.get(BITS, (0,))))
    names = {_TIFF_PARTS.get(tag) or f"tag {tag} ({lookup(tag).name})" for tag in tags if tag not in _TIFF_KEPT}
    found.parts = sorted(names)
    extra = tags.get(EXTRA_SAMPLES, ())
    if any(kind not in ALPHAS for kind in extra[:1]) or len(extra) > 1:
        found.parts.append("channels that are neither colours nor alpha")
    if stream is not None and _has_maker_notes(stream, tags.get(ExifTags.IFD.Exif)):
        found.parts.append("maker notes")
    photoshop = tags.get(PHOTOSHOP)
    if isinstance(photoshop, bytes) and resources.settings_in(photoshop):
        found.parts.append("Photoshop settings")
    return _with_aspect(image, found)


def _has_maker_notes(stream: BinaryIO, place: object) -> bool:
    """Whether the Exif directory of a TIFF file has notes of the camera's maker, which Pillow hides."""
    if not isinstance(place, int):
        return False
    try:
        directory = ImageFileDirectory_v2(stream.read(8))
        stream.seek(place)
        directory.load(stream)
        return ExifTags.Base.MakerNote in directory
    except Exception:  # on a damaged directory Pillow raises almost anything; it is told where the tags are read
        return False


def _png(image: Image.Image, stream: BinaryIO | None) -> Findings:
    found = (
        Findings() if stream is None else pngchunks.described(stream, has_profile=bool(image.info.get("icc_profile")))
    )
    return _with_aspect(image, found)


def _webp(image: Image.Image, stream: BinaryIO | None) -> Findings:
    found = Findings()
    for kind in [] if stream is None else _riff_chunks(stream, found):
        if kind not in _WEBP_KEPT:
            found.parts.append("C2PA credentials" if kind == b"C2PA" else f"chunk {segments.printable(kind)}")
    return found


def _bitmap(image: Image.Image, stream: BinaryIO | None) -> Findings:
    """The profile in a BMP file of version 5, whose header names where it begins, counted from itself."""
    head = b"" if stream is None else stream.read(_BMP_HEADER + 124)
    if stream is None or head[_BMP_HEADER : _BMP_HEADER + 4] != b"\x7c\0\0\0" or head[70:74] != b"DEBM":
        return Findings()
    place, length = struct.unpack_from("<II", head, _BMP_HEADER + 112)
    stream.seek(_BMP_HEADER + place)
    return Findings(icc=stream.read(min(length, MOST_BYTES)))


def _pixmap(image: Image.Image, stream: BinaryIO | None) -> Findings:
    """The largest value of a PPM or PGM file, which Pillow scales to 255 or 65535."""
    header = b"" if stream is None else re.sub(rb"#[^\n]*", b"", stream.read(1024)).split()
    largest = int(header[3]) if len(header) > 3 and header[0] in (b"P2", b"P3", b"P5", b"P6") else 0
    return Findings(bits=largest.bit_length(), white=largest)


def _silicon(image: Image.Image, stream: BinaryIO | None) -> Findings:
    """An SGI file says in its fourth byte how many bytes a sample takes."""
    return Findings(bits=0 if stream is None else 8 * stream.read(4)[3])


def _jpeg_2000(image: Image.Image, stream: BinaryIO | None) -> Findings:
    """Boxes, or a bare codestream, which begins with its sizes (ISO/IEC 15444-1, A.5.1)."""
    head = b"" if stream is None else stream.read(44)
    if head[:2] == b"\xff\x4f" and len(head) > 42:
        return Findings(bits=1 + (head[42] & 0x7F), refused=boxes.SIGNED if head[42] & 0x80 else None)
    return _iso(image, stream)


def _psd(image: Image.Image, stream: BinaryIO | None) -> Findings:
    """IPTC, Exif and XMP among the resources of a Photoshop file, which Pillow lists."""
    found = Findings()
    for number, _, data in getattr(image, "resources", ()):
        if number == resources.IPTC:
            found.iptc = data
        elif number == resources.EXIF:
            found.exif = data
        elif number == resources.XMP:
            found.xmp = data
    if stream is not None and _has_layers(stream):
        found.parts.append("layers")
    return found


def _has_layers(stream: BinaryIO) -> bool:
    """Whether a Photoshop file has others than one as large as the picture, which flat ones may have."""
    try:
        with Image.open(stream, formats=["PSD"]) as image:
            places = [place for _, _, place, _ in image.layers]  # type: ignore[attr-defined]
            return places not in ([], [(0, 0, *image.size)])
    except Exception:  # damage, which matters only where pixels are read
        return False


def _gif(image: Image.Image, stream: BinaryIO | None) -> Findings:
    return Findings() if stream is None else gifblocks.described(stream)


def _icon(image: Image.Image, stream: BinaryIO | None) -> Findings:
    """Of an icon Pillow takes the largest."""
    return Findings(parts=["smaller sizes"] if len(image.info.get("sizes", ())) > 1 else [])


def _photo_cd(image: Image.Image, stream: BinaryIO | None) -> Findings:
    """Of a Photo CD's file Pillow takes 768×512 pixels."""
    return Findings(parts=["larger sizes"])


def _with_aspect(image: Image.Image, found: Findings) -> Findings:
    """Name pixels that are not square, as JPEG, PNG and TIFF may say without a unit."""
    aspect = image.info.get("jfif_density") if image.info.get("jfif_unit") == 0 else image.info.get("aspect")
    aspect = image.info.get("resolution", aspect)
    if aspect is not None and aspect[0] != aspect[1]:
        found.parts.append("shape of pixels that are not square")
    return found


def _riff_chunks(stream: BinaryIO, found: Findings) -> Iterator[bytes]:
    """The kinds of the chunks of a WebP file; what follows its end is named in `found`."""
    end = 8 + int.from_bytes(stream.read(8)[4:], "little")
    place = 12
    for _ in range(MOST_CHUNKS):
        if place >= end:
            break
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            return
        yield head[:4]
        length = int.from_bytes(head[4:], "little")
        place += 8 + length + length % 2
    stream.seek(end)
    found.parts += segments.behind(stream.read(MOST_BYTES))


_LOOKS: dict[str, Callable[[Image.Image, BinaryIO | None], Findings]] = {
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "ICNS": _icon,
    "ICO": _icon,
    "PCD": _photo_cd,
    "PSD": _psd,
    "AVIF": _iso,
    "HEIF": _iso,
    "JPEG2000": _jpeg_2000,
    "BMP": _bitmap,
    "PPM": _pixmap,
    "SGI": _silicon,
    "TIFF": _tiff,
}
