"""Photoshop's image resources, the blocks in which JPEG, TIFF, PSD and PNG carry IPTC."""

import struct
from collections.abc import Iterator

IPTC, EXIF, XMP = 0x0404, 0x0422, 0x0424
MARK = b"Photoshop 3.0\0"  # precedes them in JPEG's APP13
_FIRST = b"\x1c"  # of IPTC data (IIM 4.2)

# What follows from the picture or is kept elsewhere: resolution, sizes of printing, thumbnails, ICC profile, Exif, XMP,
# digest of IPTC, and the versions of the program.
_DERIVED = {0x03ED, 0x03F3, 0x0409, 0x040C, 0x040F, 0x0411, 0x0421, 0x0422, 0x0423, 0x0424, 0x0425}


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The number and the content of each resource; damage ends the search."""
    place = 0
    while data[place : place + 4] == b"8BIM" and place + 7 <= len(data):
        number, name = struct.unpack_from(">HB", data, place + 4)
        place += 6 + (1 + name + 1) // 2 * 2  # the name takes an even number of bytes with that for its length
        length = int.from_bytes(data[place : place + 4], "big")
        content = data[place + 4 : place + 4 + length]
        if len(content) < length or place + 4 > len(data):
            return
        yield number, content
        place += 4 + length + length % 2


def iptc_in(data: bytes) -> bytes | None:
    """IPTC, given as it is or among resources; None if there is none."""
    if data.startswith(_FIRST):
        return data
    return next((content for number, content in blocks(data.removeprefix(MARK)) if number == IPTC), None)


def settings_in(data: bytes) -> bool:
    """Whether there are resources that nothing else holds, such as paths and guides."""
    return any(number not in _DERIVED | {IPTC} for number, _ in blocks(data.removeprefix(MARK)))


def around(iptc: bytes) -> bytes:
    """IPTC as a resource."""
    return b"8BIM" + struct.pack(">HHI", IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
