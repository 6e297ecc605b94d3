"""Kinds of picture files: those that Pillow opens, those that need more than that, and why the others are refused."""

import io
import struct
from contextlib import suppress
from typing import BinaryIO, NoReturn

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from ldcodec.bitstream.layout import MAGIC
from ldcodec.errors import PictureError
from ldcodec.pictures import oddtiff
from ldcodec.pictures.oddtiff import OddTiff
from ldcodec.pictures.pages import beginning_with

HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}  # brands of HEIF files with HEVC
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0")
WHITE_IS_ZERO = "white is zero"  # key in an image's `info`: its values rise from white to black
DEEP_GREY = "I;16"  # how Pillow's modes of 16 bits begin

_REDUCED, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 258, 259, 262  # tags of TIFF
_SUB_DIRECTORIES, _SAMPLE_FORMAT, _DNG = 330, 339, 50706
_SIGNED, _FLOATS = 2, 3  # of the sample formats
_SENSOR = {32803, 34892}  # photometric interpretations: behind a filter of colours, and linear
_RAW = (  # names of raw files that are no plain TIFF, and what stands where in their first bytes
    ("CR2", 8, b"CR\2"),
    ("CR3", 4, b"ftypcrx "),
    ("CRW", 6, b"HEAPCCDR"),
    ("RAF", 0, b"FUJIFILMCCD-RAW"),
    ("RW2", 0, b"IIU\0"),
    ("ORF", 0, b"IIRO"),
    ("ORF", 0, b"IIRS"),
    ("ORF", 0, b"MMOR"),
    ("MRW", 0, b"\0MRM"),
    ("X3F", 0, b"FOVb"),
)
_KNOWN = (  # names of files that Pillow does not know, and what stands where in their first bytes
    ("a JPEG XL picture", 0, b"\xff\x0a"),
    ("a JPEG XL picture", 4, b"JXL "),
    ("an OpenEXR picture of floats", 0, b"\x76\x2f\x31\1"),
    ("a Radiance picture of floats", 0, b"#?RADIANCE"),
    ("a Radiance picture of floats", 0, b"#?RGBE"),
    ("a portable map of floats", 0, b"PF\n"),
    ("a portable arbitrary map", 0, b"P7\n"),
    ("a BigTIFF picture in big-endian order", 0, b"MM\0+"),
    ("a JPEG XR picture", 0, b"II\xbc\1"),
    ("a JPEG-LS picture", 0, b"\xff\xd8\xff\xf7"),
    ("a JPEG-LS picture", 0, b"\xff\xd8\xff\xe8\0\x20SPIFF"),
    ("a Photoshop picture of a kind", 0, b"8BPS\0\1"),
    ("a large Photoshop document", 0, b"8BPS\0\2"),
    ("a GIMP document", 0, b"gimp xcf"),
    ("a DPX picture", 0, b"SDPX"),
    ("a DPX picture", 0, b"XPDS"),
    ("a Cineon picture", 0, b"\x80\x2a\x5f\xd7"),
    ("a PDF document", 0, b"%PDF-"),
)
_FILMS = (  # what stands where in their first bytes, beside those with `ftyp` and a brand that no picture has
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska and WebM
    (8, b"AVI LIST"),
    (0, b"\0\0\1\xba"),  # MPEG
    (0, b"\0\0\1\xb3"),
    (4, b"moov"),  # QuickTime of old
)
# Brands of pictures and of sound in ISO base media files; those of films are many.
_PICTURE_BRANDS = HEIC | {b"avif", b"avis", b"mif1", b"mif2", b"msf1", b"miaf", b"crx ", b"jp2 ", b"jpx ", b"jpm "}
_SOUND_BRANDS = {b"M4A ", b"M4B ", b"M4P ", b"F4A "}
# Formats of Pillow that hold no pixels of a picture, or show them wrongly.
_UNFIT = {
    "BUFR": "a file of measurements, which is not read",
    "EPS": "a drawing in PostScript, which is not read; give it as PNG",
    "FITS": "a FITS file, whose numbers name no white; give it as PNG or TIFF",
    "GRIB": "a file of measurements, which is not read",
    "HDF5": "a file of measurements, which is not read",
    "MPEG": "a film, which is not read",
    "WMF": "a drawing for Windows, which is not read; give it as PNG",
}
_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 50002: "JPEG XL", 52546: "JPEG XL"}  # of TIFF, and no others
_PHOTOMETRICS = {8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
_PICTURES = (  # what stands where in the first bytes of pictures
    (0, b"\xff\xd8\xff"),  # JPEG
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"GIF8"),
    (8, b"WEBPVP8"),
    (0, b"8BPS"),
    (0, b"qoif"),
    (4, b"jP  \r\n\x87\n"),
    (0, b"\xff\x4f\xff\x51"),  # a bare stream of JPEG 2000
    *((4, b"ftyp" + brand) for brand in sorted(HEIC | {b"avif", b"avis", b"mif1", b"msf1"})),
    (0, b"\0\0\0\x0cJXL "),
    (0, b"\x76\x2f\x31\1"),
    (0, b"#?RADIANCE"),
    *((place, mark) for _, place, mark in _RAW),
)


def is_picture(head: bytes) -> bool:
    """Whether the first 64 bytes of a file are those of a picture, of a kind that is read or not.

    Kinds that begin with text or less than three bytes are not recognised, since other files may begin like that too.
    """
    return head[:4] in TIFF_MARKS or any(head[place : place + len(mark)] == mark for place, mark in _PICTURES)


def is_film(head: bytes) -> bool:
    """Whether the first 64 bytes of a file are those of a film."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _SOUND_BRANDS and not {head[8:12], *_further_brands(head)} & _PICTURE_BRANDS
    return any(head[place : place + len(mark)] == mark for place, mark in _FILMS)


def opened(stream: BinaryIO, page: int = 1) -> Image.Image:
    """Open a picture file without decoding it. The stream must be seekable and stand at its beginning.

    page: of a TIFF file, counted from 1; other files are opened at their first picture. Raises PictureError for a kind
    that is known but not read, and for a page that there is not, and whatever Pillow raises for others.
    """
    head = stream.read(64)
    stream.seek(0)
    for name, place, mark in _RAW:
        if head[place : place + len(mark)] == mark:
            _refuse_raw(name)
    if page > 1 and head[:4] in TIFF_MARKS:
        stream = beginning_with(stream, page)
    try:
        image = Image.open(stream)
        return _deep_tiff(image, stream) if isinstance(image, TiffImageFile) else image
    except UnidentifiedImageError:
        stream.seek(0)
        if head[:4] in TIFF_MARKS:
            return _opened_tiff(stream)
        if head[4:8] == b"ftyp" and _brands(head) & HEIC:
            return _opened_heic(stream)
        _refuse_known(head, stream)
        raise


def _deep_tiff(image: TiffImageFile, stream: BinaryIO) -> Image.Image:
    """A TIFF file without what Pillow makes of it, where that is wrong or less than there is."""
    if not (oddtiff.is_odd(image.tag_v2) and (image.mode == "F" or _in_planes(image))):
        return image
    stream.seek(0)
    return OddTiff(stream)


def _in_planes(image: TiffImageFile) -> bool:
    """Whether samples of 16 bits stand in a plane for each colour, which Pillow reads as if they had 8."""
    return bool(image.tag_v2.get(oddtiff.PLANES) == 2 and max(image.tag_v2.get(_BITS, (1,))) > 8)


def check(image: Image.Image) -> None:
    """Raise PictureError for what Pillow opens and shows wrongly.

    Of raw files that look like TIFF it shows the small preview, signed integers of 8 bits as if they had no sign, and
    planes of 16 bits as noise. Of FITS it takes the first plane, and signed numbers as if they had no sign; for
    PostScript it would run Ghostscript on the file.
    """
    if image.format in _UNFIT:
        raise PictureError(_UNFIT[image.format])
    if isinstance(image, TiffImageFile):
        _check_raw(image.tag_v2)
        if _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ()):
            raise PictureError("its samples are signed integers; convert it to unsigned ones of 8 or 16 bits first")
        if _in_planes(image) and image.mode != "I;16" and not isinstance(image, OddTiff):
            raise PictureError(
                "its planes of 16 bits, which Pillow shows wrongly; tifffile.imread gives them as an array"
            )


def is_white_zero(image: Image.Image) -> bool:
    """Whether the values of an image, as Pillow decodes them, rise from white to black.

    In TIFF it inverts 8 bits and fewer; in XBM, whose ink is 1, nothing.
    """
    if image.format == "XBM":
        return True
    if isinstance(image, TiffImageFile) and image.mode.startswith(DEEP_GREY) and image.tag_v2.get(_PHOTOMETRIC) == 0:
        return True
    return WHITE_IS_ZERO in image.info


def _refuse_raw(name: str) -> NoReturn:
    raise PictureError(
        f"a camera's raw file ({name}); develop it to TIFF or PNG first, as with darktable, RawTherapee or dcraw"
    )


def _check_raw(tags: ImageFileDirectory_v2) -> None:
    if _DNG in tags:
        _refuse_raw("DNG")
    if tags.get(_PHOTOMETRIC) in _SENSOR or (tags.get(_REDUCED) == 1 and _SUB_DIRECTORIES in tags):
        _refuse_raw("such as NEF or ARW")


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO base media file that stand in its first bytes; none if AVIF is among them."""
    found = {head[8:12], *_further_brands(head)}
    return set() if found & {b"avif", b"avis"} else found


def _further_brands(head: bytes) -> set[bytes]:
    """The brands with which an ISO base media file says that it is compatible, as far as its first bytes hold them."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[place : place + 4] for place in range(16, end, 4)}


def _opened_heic(stream: BinaryIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise PictureError("a HEIC picture, which needs pillow-heif: pip install 'ldcodec[heic]'") from error
    image: Image.Image = HeifImageFile(stream)  # type: ignore[no-untyped-call]  # where pillow-heif is installed
    return image


def _opened_tiff(stream: BinaryIO) -> Image.Image:
    """A TIFF file that Pillow does not know: it may only miss an inverted kind of one that it knows."""
    header = stream.read(8)
    header += stream.read(8) if b"+" in header[2:4] else b""  # the mark of BigTIFF
    tags = ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    _check_raw(tags)
    if tags.get(_PHOTOMETRIC) == 0:
        stream.seek(0)
        with suppress(UnidentifiedImageError):
            image = Image.open(_black_is_zero(stream.read()))
            if image.mode != "F":
                image.info[WHITE_IS_ZERO] = True
                return image
    if oddtiff.is_odd(tags):
        stream.seek(0)
        return OddTiff(stream)
    bits = tags.get(_BITS, (1,))
    kind = "floats" if _FLOATS in tags.get(_SAMPLE_FORMAT, ()) else "integers"
    if kind == "floats" or max(bits) > 16:
        raise PictureError(f"its samples are {kind} of {max(bits)} bits; convert it to integers of 8 or 16 bits first")
    _refuse_tiff(tags)


def _refuse_tiff(tags: ImageFileDirectory_v2) -> NoReturn:
    bits = tags.get(_BITS, (1,))
    if not 0 < len(bits) < 10:  # so it is damaged
        raise UnidentifiedImageError
    details = [f"channels of {', '.join(map(str, bits))} bits"]
    details += [_PHOTOMETRICS[value] for value in [tags.get(_PHOTOMETRIC)] if value in _PHOTOMETRICS]
    details += [_COMPRESSIONS[value] for value in [tags.get(_COMPRESSION)] if value in _COMPRESSIONS]
    raise PictureError(f"a TIFF picture of a kind that is not read ({'; '.join(details)}), or damaged")


def _black_is_zero(data: bytes) -> io.BytesIO:
    """The TIFF file with its photometric interpretation set to 1. Raises struct.error for one that ends too early."""
    order = "<" if data[:2] == b"II" else ">"
    big = b"+" in data[2:4]
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)
    first, size, value = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    changed = bytearray(data)
    for place in range(first, min(first + size * count, len(data)), size):
        (tag,) = struct.unpack_from(f"{order}H", data, place)
        if tag == _PHOTOMETRIC:
            struct.pack_into(f"{order}H", changed, place + value, 1)
    return io.BytesIO(bytes(changed))


def _refuse_known(head: bytes, stream: BinaryIO) -> None:
    for name, place, mark in _KNOWN:
        if head[place : place + len(mark)] == mark:
            raise PictureError(f"{name}, which is not read; give it as PNG, TIFF or JPEG")
    if head[:4] == MAGIC:
        raise PictureError("an .ldc file, which is compressed already")
    if is_film(head):
        raise PictureError("a film, which is not read")
    if b"<svg" in head:
        raise PictureError("a drawing in SVG, which is not read; give it as PNG")
    if head[:3] == b"\xff\xd8\xff" and (bits := _jpeg_bits(stream)) not in (None, 8):
        raise PictureError(f"a JPEG picture of {bits} bits a sample, which is not read; give it as PNG or TIFF")


def _jpeg_bits(stream: BinaryIO) -> int | None:
    """The bits a sample that the frame header of a JPEG file names; None if there is none."""
    stream.seek(2)
    while (marker := stream.read(4)) and len(marker) == 4 and marker[0] == 0xFF:
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(stream.read(1), "big") or None
        stream.seek(max(0, int.from_bytes(marker[2:], "big") - 2), 1)
    return None
