"""Chunks of PNG files: what Pillow does not tell of them, and what follows the last."""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ldcodec.pictures import segments
from ldcodec.pictures.codepoints import CodePoints
from ldcodec.pictures.findings import Findings

MOST_BYTES = 1 << 24  # of a chunk that is read
MOST_CHUNKS = 100_000

# What is kept, or says how the pixels are coded.
_KEPT = frozenset(b"IHDR PLTE IDAT IEND tRNS cHRM gAMA sBIT sRGB cICP pHYs eXIf acTL fcTL fdAT".split())
_PARTS = {
    b"iCCP": "damaged colour profile",
    b"bKGD": "background colour",
    b"tIME": "time of its last change",
    b"caBX": "C2PA credentials",
    b"hIST": "histogram of its palette",
    b"sPLT": "suggested palette",
    b"mDCV": "brightness of the mastering display",
    b"cLLI": "content light levels",
    b"oFFs": "place on a page",
    b"sTER": "stereo layout",
}
_TEXTS = b"tEXt", b"zTXt", b"iTXt"


def described(stream: BinaryIO, has_profile: bool) -> Findings:
    """Look at the chunks of a whole file. has_profile: whether Pillow has found a profile before the pixels."""
    found, keywords = Findings(), []
    kept = _KEPT
    for kind, data in _chunks(stream):
        if kind == b"IHDR" and len(data) == 13:
            found.bits = data[8]
        elif kind == b"cICP" and len(data) == 4:
            found.code_points = CodePoints(data[0], data[1], bool(data[3]))
        elif kind == b"IDAT":
            kept = _KEPT | {b"iCCP"}  # Pillow reads it behind the pixels too, but only with them
        elif kind == b"IEND":
            found.parts += segments.behind(data)
        elif kind in _TEXTS:
            keywords.append(data.split(b"\0")[0])
            found.parts += _lost_of_text(kind, data)
        elif kind not in kept and not (kind == b"iCCP" and has_profile):
            found.parts.append(_PARTS.get(kind) or f"chunk {segments.printable(kind)}")
    if len(set(keywords)) < len(keywords):
        found.parts.append("texts under a keyword that is there again")  # Pillow gives the last
    return found


def _lost_of_text(kind: bytes, data: bytes) -> list[str]:
    """What is lost of a text: keyword, 0; then in zTXt a byte for how it is deflated, and the text so; in iTXt a byte
    that says whether it is, that byte, language, 0, the keyword in that, 0, and the text.
    """
    _, _, rest = data.partition(b"\0")
    lost, text = [], b"" if kind == b"tEXt" else rest[1:]
    if kind == b"iTXt":
        lost = ["languages of texts"] if rest[2:4] != b"\0\0" and len(rest) >= 4 else []
        text = rest[2:].split(b"\0", 2)[-1] if rest[:1] == b"\1" else b""
    return lost if _can_be_inflated(text) else [*lost, "damaged texts"]


def _can_be_inflated(text: bytes) -> bool:
    """Whether a deflated text is sound; Pillow takes others for empty ones, or passes over them."""
    try:
        zlib.decompressobj().decompress(text, MOST_BYTES)
    except zlib.error:
        return False
    return True


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The kind and content of each chunk of a PNG file; pixels, and chunks that are too long, are not read.

    What follows the last one, IEND, is given as its content.
    """
    stream.seek(8)
    for _ in range(MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        skipped = kind in (b"IDAT", b"fdAT") or length > MOST_BYTES
        data = b"" if skipped else stream.read(length)
        stream.seek(length + 4 if skipped else 4, 1)
        if kind == b"IEND":
            yield kind, stream.read(MOST_BYTES)
            return
        yield kind, data
