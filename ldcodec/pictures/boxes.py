"""Boxes of ISO base media files (ISO/IEC 14496-12): what AVIF, HEIC and JPEG 2000 say beside the pixels.

Lengths come from the file and are not trusted: a box that reaches beyond what holds it ends the search.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from ldcodec.pictures.codepoints import CodePoints
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.segments import printable

MOST_BYTES = 1 << 24  # of a box that is read
MOST_BOXES = 10_000  # in a file or a box: more are not looked at
# Boxes of a file that hold its pixels or say how, and fillers.
_STRUCTURE = frozenset((b"ftyp", b"styp", b"mdat", b"free", b"skip", b"idat", b"wide", b"pdin", b"jP  ", b"jp2c"))
_TO_SAMPLES = (
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"stsd",
)  # inside `moov`, to how samples are coded
_UUID_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_UUID_EXIF = b"JpgTiffExif->JP2"
_UUID_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_UUID_GEO = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
_UUID_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
SIGNED = "its samples are signed integers; convert it to unsigned ones of 8 or 16 bits first"
# Colour spaces of JPEG 2000 (ISO/IEC 15444-1 and -2) whose numbers its decoders bring into RGB, grey or CMYK.
_SPACES = {0, 12, 15, 16, 17, 18}
_ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
_ALPHA_HEVC = b"urn:mpeg:hevc:2015:auxid:1"


def described(stream: BinaryIO) -> Findings:
    """Read the boxes of a whole file."""
    found = Findings()
    for kind, data in _boxes_of(stream):
        if kind == b"meta":
            _item(data[4:], found)
        elif kind == b"moov":
            _track(data, found)
        elif kind == b"jp2h":
            _properties(list(boxes(data)), found)
            _check_space(data, found)
        elif kind == b"uuid":
            _uuid(data, found)
        elif kind == b"mpvd":
            found.parts.append("film")
        elif kind not in _STRUCTURE:
            found.parts.append(f"box {printable(kind)}")
    return found


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the content of each box in `data`."""
    place = 0
    for _ in range(MOST_BOXES):
        if place + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, place)
        start = place + 8
        if length == 1 and place + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = len(data) if length == 0 else place + length
        if not start <= end <= len(data):
            return
        yield kind, data[start:end]
        place = end


def _boxes_of(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of a file; the content of those with pixels, and of ones that are too long, is not read."""
    place = 0
    for _ in range(MOST_BOXES):
        stream.seek(place)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        skip = 8
        if length == 1 and len(head) == 16:
            (length,), skip = struct.unpack_from(">Q", head, 8), 16
        wanted = kind not in (b"mdat", b"jp2c", b"mpvd") and (length == 0 or skip <= length <= MOST_BYTES)
        stream.seek(place + skip)
        yield kind, stream.read(MOST_BYTES if length == 0 else length - skip) if wanted else b""
        if length < skip:
            return
        place += length


def _item(data: bytes, found: Findings) -> None:
    """The main item of a `meta` box (ISO/IEC 23008-12) and its properties."""
    inner = dict(boxes(data))
    primary = inner.get(b"pitm", b"")
    number = int.from_bytes(primary[4:8] if primary[:1] == b"\1" else primary[4:6], "big")
    properties, associations = b"", b""
    for kind, content in boxes(inner.get(b"iprp", b"")):
        if kind == b"ipco":
            properties = content
        elif kind == b"ipma":
            associations = content
    every = list(boxes(properties))
    owned = [every[index - 1] for index in _associated(associations, number) if 0 < index <= len(every)]
    _properties(owned, found)
    _neighbours(inner.get(b"iinf", b""), every, found)


def _associated(data: bytes, number: int) -> list[int]:
    """The numbers of the properties that an `ipma` box gives to an item, counted from 1."""
    try:
        version, flags, count = struct.unpack_from(">B2xBI", data)
        place = 8
        for _ in range(count):
            (item,) = struct.unpack_from(">I" if version else ">H", data, place)
            place += 4 if version else 2
            size = 2 if flags & 1 else 1
            length = data[place] * size
            values = data[place + 1 : place + 1 + length]
            place += 1 + length
            if item == number:
                mask = (1 << 8 * size - 1) - 1  # the highest bit says that the property is essential
                return [int.from_bytes(values[at : at + size], "big") & mask for at in range(0, length, size)]
    except (struct.error, IndexError):  # the box ends early
        pass
    return []


def _properties(found_boxes: list[tuple[bytes, bytes]], found: Findings) -> None:
    for kind, data in found_boxes:
        if kind == b"colr":
            _colour(data, found)
        elif kind == b"av1C" and len(data) > 2:
            found.bits = found.bits or (8 if not data[2] & 0x40 else 12 if data[2] & 0x20 else 10)
        elif kind == b"pixi" and len(data) > 5:
            found.bits = max(data[5 : 5 + data[4]], default=0)
        elif kind == b"hvcC" and len(data) > 18:
            found.bits = found.bits or 8 + (data[17] & 7)
        elif kind == b"irot" and data:
            found.turned = (1, 8, 3, 6)[data[0] & 3]
        elif kind == b"imir" and found.turned == 1:
            found.turned = 2
        elif kind == b"ihdr" and len(data) > 10:
            found.bits = 0 if data[10] == 255 else 1 + (data[10] & 0x7F)
            found.refused = SIGNED if data[10] != 255 and data[10] & 0x80 else found.refused
        elif kind == b"bpcc" and data:
            found.bits = 1 + max(byte & 0x7F for byte in data)
            found.refused = SIGNED if max(data) & 0x80 else found.refused


def _colour(data: bytes, found: Findings) -> None:
    """A `colr` box of ISO/IEC 14496-12, or of JPEG 2000, which begins with a byte for its method."""
    if data[:4] == b"nclx" and len(data) >= 11:
        primaries, transfer, _, full = struct.unpack_from(">HHHB", data, 4)
        found.code_points = CodePoints(primaries, transfer, bool(full & 0x80))
    elif data[:4] in (b"prof", b"rICC"):
        found.icc = data[4:]
    elif data[:1] in (b"\2", b"\3") and found.icc is None:
        found.icc = data[3:]


def _check_space(data: bytes, found: Findings) -> None:
    """Find out whether a `jp2h` box names a colour space, by method 1, that decoders leave as it is."""
    named = [content[3:7] for kind, content in boxes(data) if kind == b"colr" and content[:1] == b"\1"]
    numbers = [int.from_bytes(number, "big") for number in named]
    if numbers and found.icc is None and not _SPACES & set(numbers):
        found.refused = (
            f"its colours are in space {numbers[0]} of JPEG 2000, which is not read; convert it to sRGB first"
        )


def _neighbours(items: bytes, properties: list[tuple[bytes, bytes]], found: Findings) -> None:
    """Name the items beside the picture, from `iinf` and the kinds of auxiliary pictures among all properties."""
    kinds = {content[8:12] for kind, content in boxes(items[6:]) if kind == b"infe" and content[:1] == b"\2"}
    auxiliary = {content[4:].split(b"\0")[0] for kind, content in properties if kind == b"auxC"}
    auxiliary -= {_ALPHA, _ALPHA_HEVC}
    gain_maps = {kind for kind in auxiliary if b"hdrgainmap" in kind}
    if b"tmap" in kinds or gain_maps:
        found.parts.append("gain map")
    if auxiliary - gain_maps:
        found.parts.append("auxiliary pictures such as depth")


def _track(data: bytes, found: Findings, path: tuple[bytes, ...] = _TO_SAMPLES) -> None:
    """The sample description of the first picture track of a sequence, where there is no main item."""
    for kind, content in boxes(data):
        if kind != path[0]:
            continue
        if len(path) > 1:
            _track(content, found, path[1:])
        elif found.code_points is None and found.icc is None:
            for _, entry in boxes(content[8:]):
                _properties(list(boxes(entry[78:])), found)  # after the fixed fields of a picture's description


def _uuid(data: bytes, found: Findings) -> None:
    name, content = data[:16], data[16:]
    if name == _UUID_XMP:
        found.xmp = content
    elif name == _UUID_EXIF:
        found.exif = content
    elif name == _UUID_IPTC:
        found.iptc = content
    elif name == _UUID_GEO:
        found.parts.append("GeoJP2 data")
    elif name == _UUID_C2PA:
        found.parts.append("C2PA credentials")
    else:
        found.parts.append("private data")
