"""Segments of JPEG files, and what follows the picture: gain maps, films, credentials and other programs' data."""

import hashlib
import re
from collections.abc import Sequence
from typing import BinaryIO

from ldcodec.bitstream.chunktypes import EXIF_MARK
from ldcodec.pictures import resources
from ldcodec.pictures.findings import Findings

XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_GUID = 32  # characters, then the length of the whole and the place of the part as u32
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_KEPT = {  # beginnings of segments that are kept, or belong to how the pixels are coded
    "APP0": (b"JFIF\0",),
    "APP1": (EXIF_MARK, XMP_MARK, _EXTENDED),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0", _GAIN_MAP),
    "APP12": (b"Ducky",),
    "APP13": (resources.MARK,),
    "APP14": (b"Adobe",),
}
_NAMED = {  # beginnings of segments that have a name
    "APP0": ((b"JFXX\0", "second thumbnail"),),
    "APP2": ((b"FPXR\0", "FlashPix data"),),
}
_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the first marker behind entropy-coded data


def tells_of_gain_map(xmp: object) -> bool:
    """Whether XMP says that a gain map follows the picture."""
    return isinstance(xmp, bytes) and b"hdr-gain-map/1.0" in xmp


def described(segments: Sequence[tuple[str, bytes]], stream: BinaryIO | None) -> Findings:
    """What the segments that Pillow lists, and the bytes after the picture, hold beside it."""
    found = Findings()
    photoshop = b"".join(data.removeprefix(resources.MARK) for name, data in segments if _is_photoshop(name, data))
    found.iptc = resources.iptc_in(photoshop)
    found.comments = [data for name, data in segments if name == "COM"]
    found.extended_xmp = _extended([data for name, data in segments if name == "APP1" and data.startswith(_EXTENDED)])
    if resources.settings_in(photoshop):
        found.parts.append("Photoshop settings")
    found.parts += [name for segment in segments if (name := _name(*segment)) is not None]
    if sum(name == "APP1" and data.startswith(XMP_MARK) for name, data in segments) > 1:
        found.parts.append("second XMP")  # Pillow gives the last
    if stream is not None:
        data = stream.read()
        found.parts += behind(data[_end(data) :])
    return found


def behind(rest: bytes) -> list[str]:
    """Names of what follows the end of a picture in its file."""
    if b"ftyp" in rest:
        return ["film"]
    if rest.startswith(b"\xff\xd8"):
        return ["second picture"]
    return ["data after its end"] if rest.strip(b"\0\r\n\t \xff") else []


def printable(kind: bytes) -> str:
    """The name of a chunk or a box, for messages."""
    return "".join(chr(byte) if 32 < byte < 127 else "?" for byte in kind.rstrip())


def _is_photoshop(name: str, data: bytes) -> bool:
    return name == "APP13" and data.startswith(resources.MARK)


def _name(segment: str, data: bytes) -> str | None:
    """What to call a segment that is not kept; None for one that is."""
    if segment == "APP2" and data.startswith(_GAIN_MAP):
        return "gain map"
    if segment == "APP11" and data.startswith(b"JP"):
        return "C2PA credentials" if b"c2pa" in data else "JUMBF data"
    if segment == "COM" or data.startswith(_KEPT.get(segment, ())):
        return None
    named = (name for mark, name in _NAMED.get(segment, ()) if data.startswith(mark))
    return next(named, f"{segment} data")


def _extended(parts: list[bytes]) -> dict[str, bytes]:
    """Whole extended XMP (XMP specification, part 3) by its GUID, which is its MD5: what is not whole is left out."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    for part in parts:
        guid, rest = part[len(_EXTENDED) :][:_GUID], part[len(_EXTENDED) + _GUID :]
        found.setdefault(guid.decode("latin-1"), []).append((int.from_bytes(rest[4:8], "big"), rest[8:]))
    wholes = {guid: b"".join(content for _, content in sorted(pieces)) for guid, pieces in found.items()}
    digests = {guid: hashlib.md5(whole, usedforsecurity=False).hexdigest() for guid, whole in wholes.items()}
    return {guid: whole for guid, whole in wholes.items() if digests[guid] == guid.lower()}


def _end(data: bytes) -> int:
    """The place after the end marker of the first picture; the end of the data if there is none."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xD9:
            return place + 2
        if marker == 0xFF or 0xD0 <= marker <= 0xD7:
            place += 1 if marker == 0xFF else 2
            continue
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xDA:
            found = _IN_SCAN.search(data, place)
            place = len(data) if found is None else found.start()
    return place + 2 if data[place : place + 2] == b"\xff\xd9" else len(data)
