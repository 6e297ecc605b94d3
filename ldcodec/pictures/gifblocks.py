"""Extensions of GIF files that Pillow passes over: XMP, ICC profiles, and other programs' data."""

from collections.abc import Iterator
from typing import BinaryIO

from ldcodec.pictures.findings import Findings
from ldcodec.pictures.segments import behind

_PLAIN_TEXT, _APPLICATION = 0x01, 0xFF  # labels of extensions (GIF89a, sections 25 and 26)
_XMP, _ICC = b"XMP DataXMP", b"ICCRGBG1012"
_KEPT = (b"NETSCAPE2.0", b"ANIMEXTS1.0")  # how often an animation repeats
# XMP stands in its block as it is. Whoever reads it as blocks of given lengths is led out by these bytes.
_MAGIC = b"\1" + bytes(range(255, -1, -1))


def described(stream: BinaryIO) -> Findings:
    """Look at the extensions of a whole GIF file, and at what follows it."""
    found, data = Findings(), stream.read()
    for name, content in _extensions(data, found):
        if name == _XMP:
            found.xmp = content.removesuffix(_MAGIC)
        elif name == _ICC:
            found.icc = _joined(content)
        elif name == _PLAIN_TEXT.to_bytes():
            found.parts.append("plain text over the picture")
        elif name not in _KEPT:
            found.parts.append("application data")
    return found


def _extensions(data: bytes, found: Findings) -> Iterator[tuple[bytes, bytes]]:
    """Name and blocks of each extension with text or of an application; what follows the end is named in `found`."""
    place = 13 + _table(data[10:11])
    while place + 1 < len(data):
        kind, label = data[place], data[place + 1]
        if kind == 0x2C:  # a picture
            place = _end(data, place + 11 + _table(data[place + 9 : place + 10]))
        elif kind == 0x21:
            first = place + 2
            place = _end(data, first)
            if label == _APPLICATION:
                yield data[first + 1 : first + 12], data[first + 12 : place - 1]
            elif label == _PLAIN_TEXT:
                yield _PLAIN_TEXT.to_bytes(), b""
        else:
            break
    if data[place : place + 1] == b"\x3b":
        found.parts += behind(data[place + 1 :])


def _table(flags: bytes) -> int:
    """Bytes of the table of colours that a byte of flags announces."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _end(data: bytes, place: int) -> int:
    """The place after blocks, of which the last is empty."""
    while place < len(data) and data[place]:
        place += 1 + data[place]
    return place + 1


def _joined(blocks: bytes) -> bytes:
    """The content of blocks that follow each other."""
    content, place = b"", 0
    while place < len(blocks):
        content += blocks[place + 1 : place + 1 + blocks[place]]
        place += 1 + blocks[place]
    return content
