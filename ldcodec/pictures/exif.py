"""Exif as bytes: its values are read, and a few are changed in place.

Rewriting the stream would break maker notes, which refer to data by absolute offsets.
"""

import struct
from typing import NamedTuple

from PIL import ExifTags

ORIENTATION = ExifTags.Base.Orientation
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height

# The tags of a TIFF file that describe the picture rather than how its pixels are stored.
DESCRIPTIVE = (
    ExifTags.Base.DocumentName,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.PageName,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
)
DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)

# Tags that say how pixels are stored or shown, of which a file has its own.
_OF_PIXELS = frozenset((*range(254, 270), *range(273, 305), *range(317, 326), *range(512, 533))) - set(DESCRIPTIVE)

_THUMBNAIL, _THUMBNAIL_LENGTH = ExifTags.Base.JpegIFOffset, ExifTags.Base.JpegIFByteCount
_SIZE = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_COLOUR_SPACE, _ADOBE_RGB, _UNCALIBRATED = ExifTags.Base.ColorSpace, 2, 0xFFFF
_INTEROPERABILITY_INDEX = 1
_FORMATS = {3: "H", 4: "I"}  # of the kinds of numbers that a file may use for what is read here


class ExifError(ValueError):
    """The bytes are not a TIFF stream, or end too early."""


class _Entry(NamedTuple):
    """kind: its type in TIFF; place: where its value, or the offset of its value, stands."""

    kind: int
    length: int
    place: int


class _Stream:
    """The bytes of a TIFF stream, and its directories. Raises ExifError for what does not lie within them."""

    def __init__(self, data: bytes) -> None:
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
        if order is None:
            raise ExifError("not a TIFF stream")
        self.data, self.order = bytearray(data), order
        self.main, self.after = self.directory(self.number("I", 4))

    def directory(self, start: int) -> tuple[dict[int, _Entry], int]:
        """The entries of a directory, and where the offset of the next one stands."""
        count = self.number("H", start)
        places = range(start + 2, start + 2 + 12 * count, 12)
        entries: dict[int, _Entry] = {}
        for place in places:
            try:
                tag, kind, number = struct.unpack_from(f"{self.order}HHI", self.data, place)
                struct.unpack_from("4s", self.data, place + 8)
            except struct.error as error:
                raise ExifError("a directory is cut short") from error
            entries.setdefault(tag, _Entry(kind, number, place + 8))
        return entries, start + 2 + 12 * count

    def inner(self, tag: int, entries: dict[int, _Entry]) -> dict[int, _Entry]:
        """The entries of the directory that a tag points to; none if there is none or it is damaged."""
        try:
            return self.directory(self.value(entries[tag]))[0]
        except (KeyError, ExifError):
            return {}

    def number(self, form: str, place: int) -> int:
        try:
            return int(struct.unpack_from(self.order + form, self.data, place)[0])
        except struct.error as error:
            raise ExifError("it is cut short") from error

    def value(self, entry: _Entry) -> int:
        form = _FORMATS.get(entry.kind)
        if form is None:
            raise ExifError("not a number")
        return self.number(form, entry.place)

    def set(self, entry: _Entry, value: int) -> None:
        """Replace a number; what is no LONG becomes a SHORT and two unused bytes."""
        packed = struct.pack(f"{self.order}I", value) if entry.kind == 4 else struct.pack(f"{self.order}HH", value, 0)
        self.data[entry.place : entry.place + 4] = packed


def orientation(exif: bytes) -> int | None:
    """The orientation that Exif asks for; None if it says nothing. Raises ExifError."""
    stream = _Stream(exif)
    entry = stream.main.get(ORIENTATION)
    return None if entry is None else stream.number(_FORMATS.get(entry.kind, "H"), entry.place)


def upright(exif: bytes, turned: int) -> bytes:
    """Exif of a picture that was turned as its orientation, 1 to 8, asked. Raises ExifError.

    The orientation becomes 1. Where it was not 1, the thumbnail, which would stay as it was, is left out; where the
    picture lay on its side, ExifImageWidth and ExifImageHeight change places.
    """
    stream = _Stream(exif)
    if ORIENTATION in stream.main:
        stream.set(stream.main[ORIENTATION], 1)
    if turned in SIDEWAYS:
        _exchange_sizes(stream)
    if 2 <= turned <= 8:
        _drop_thumbnail(stream)
    return bytes(stream.data)


def without_orientation(exif: bytes) -> bytes:
    """Exif without its orientation: the entries after it move up, and nothing else does. Raises ExifError."""
    stream = _Stream(exif)
    if ORIENTATION in stream.main:
        entry, end = stream.main[ORIENTATION].place - 8, stream.after + 4
        stream.data[entry:end] = stream.data[entry + 12 : end] + bytes(12)
        first = stream.number("I", 4)
        struct.pack_into(f"{stream.order}H", stream.data, first, stream.number("H", first) - 1)
    return bytes(stream.data)


def lost_in_tiff(exif: bytes) -> list[str]:
    """Names of what Exif holds that cannot become tags of a TIFF file with other pixels."""
    try:
        stream = _Stream(exif)
    except ExifError:
        return []
    lost = ["maker notes"] if ExifTags.Base.MakerNote in stream.inner(ExifTags.IFD.Exif, stream.main) else []
    return [*lost, "other tags of Exif"] if stream.main.keys() - {*DESCRIPTIVE, *DIRECTORIES, *_OF_PIXELS} else lost


def is_adobe_rgb(exif: bytes) -> bool:
    """Whether Exif says Adobe RGB: by the interoperability index R03 of DCF 2.0, or by the number that cameras use."""
    try:
        stream = _Stream(exif)
    except ExifError:
        return False
    details = stream.inner(ExifTags.IFD.Exif, stream.main)
    try:
        colours = stream.value(details[_COLOUR_SPACE])
    except (KeyError, ExifError):
        return False
    index = stream.inner(ExifTags.IFD.Interop, details).get(_INTEROPERABILITY_INDEX)
    named = b"" if index is None else bytes(stream.data[index.place : index.place + 3])
    return colours == _ADOBE_RGB or (colours == _UNCALIBRATED and named == b"R03")


def _exchange_sizes(stream: _Stream) -> None:
    """Exchange the sizes in the Exif directory; only where both are there as numbers."""
    details = stream.inner(ExifTags.IFD.Exif, stream.main)
    try:
        width, height = (details[tag] for tag in _SIZE)
        values = stream.value(height), stream.value(width)
    except (KeyError, ExifError):
        return
    for entry, value in zip((width, height), values, strict=True):
        if entry.kind == 4 or value <= 0xFFFF:
            stream.set(entry, value)


def _drop_thumbnail(stream: _Stream) -> None:
    """Cut the second directory off, which describes the thumbnail, and blank its picture, or cut it off at the end."""
    try:
        thumbnail, _ = stream.directory(stream.number("I", stream.after))
        start, length = (stream.value(thumbnail[tag]) for tag in (_THUMBNAIL, _THUMBNAIL_LENGTH))
    except (KeyError, ExifError):
        start = length = 0
    if stream.data[start : start + 2] == b"\xff\xd8":  # nothing but a JPEG file is overwritten
        end = min(start + length, len(stream.data))
        stream.data[start:end] = b"" if end == len(stream.data) else bytes(end - start)
    if stream.after + 4 <= len(stream.data):
        stream.data[stream.after : stream.after + 4] = bytes(4)
