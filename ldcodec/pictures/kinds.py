"""Kinds of picture files: those that Pillow opens, those that need more than that, and why the others are refused."""

import io
import struct
from typing import BinaryIO, NoReturn

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from ldcodec.errors import PictureError

HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}  # brands of HEIF files with HEVC
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO = "white is zero"  # key in an image's `info`: its values rise from white to black
DEEP_GREY = "I;16"  # how Pillow's modes of 16 bits begin

_REDUCED, _PHOTOMETRIC, _BITS, _SUB_DIRECTORIES, _SAMPLE_FORMAT, _DNG = 254, 262, 258, 330, 339, 50706  # tags of TIFF
_FLOATS = 3  # of the sample formats
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


def opened(stream: BinaryIO) -> Image.Image:
    """Open a picture file without decoding it. The stream must be seekable and stand at its beginning.

    Raises PictureError for a kind that is known but not read, and whatever Pillow raises for others.
    """
    head = stream.read(64)
    stream.seek(0)
    for name, place, mark in _RAW:
        if head[place : place + len(mark)] == mark:
            _refuse_raw(name)
    try:
        return Image.open(stream)
    except UnidentifiedImageError:
        stream.seek(0)
        if head[:4] in TIFF_MARKS:
            return _opened_tiff(stream)
        if head[4:8] == b"ftyp" and _brands(head) & HEIC:
            return _opened_heic(stream)
        _refuse_known(head, stream)
        raise


def check(image: Image.Image) -> None:
    """Raise PictureError for a raw file: Pillow opens those that look like TIFF, and shows their small preview."""
    if isinstance(image, TiffImageFile):
        _check_raw(image.tag_v2)


def is_white_zero(image: Image.Image) -> bool:
    """Whether the values of an image, as Pillow decodes them, rise from white to black: it inverts 8 bits and fewer."""
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
    end = min(int.from_bytes(head[:4], "big"), len(head))
    found = {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}
    return set() if found & {b"avif", b"avis"} else found


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
    bits = tags.get(_BITS, (1,))
    if _FLOATS in tags.get(_SAMPLE_FORMAT, ()):
        raise PictureError(f"its samples are floats of {bits[0]} bits; convert it to integers of 8 or 16 bits first")
    if max(bits) > 16:
        raise PictureError(f"its samples are integers of {max(bits)} bits; convert it to 8 or 16 bits first")
    stream.seek(0)
    if tags.get(_PHOTOMETRIC) == 0 and max(bits) > 8:
        image = Image.open(_black_is_zero(stream.read()))
        image.info[WHITE_IS_ZERO] = True
        return image
    raise UnidentifiedImageError


def _black_is_zero(data: bytes) -> io.BytesIO:
    """The TIFF file with its photometric interpretation set to 1. Raises struct.error for one that ends too early."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    changed = bytearray(data)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(f"{order}H", data, place)
        if tag == _PHOTOMETRIC:
            struct.pack_into(f"{order}HH", changed, place + 8, 1, 0)
    return io.BytesIO(bytes(changed))


def _refuse_known(head: bytes, stream: BinaryIO) -> None:
    if head[:2] == b"\xff\x0a" or head[4:8] == b"JXL ":
        raise PictureError("a JPEG XL picture, which Pillow does not read; convert it to PNG first, as with djxl")
    if head[:3] == b"\xff\xd8\xff" and (bits := _jpeg_bits(stream)) not in (None, 8):
        raise PictureError(f"a JPEG picture of {bits} bits a sample, which Pillow does not read; convert it first")


def _jpeg_bits(stream: BinaryIO) -> int | None:
    """The bits a sample that the frame header of a JPEG file names; None if there is none."""
    stream.seek(2)
    while (marker := stream.read(4)) and len(marker) == 4 and marker[0] == 0xFF:
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(stream.read(1), "big") or None
        stream.seek(max(0, int.from_bytes(marker[2:], "big") - 2), 1)
    return None
