"""What an .ldc file may hold beside its coded symbols: the chunk types of version 1 (docs/bitstream.md).

Only the standard library is used, as in `container`. What is inside the chunks with pixels is read in `pictures`.
"""

import zlib
from collections.abc import Sequence

ICC = "iccp"
EXIF = "exif"
XMP = "xmpp"
ALPHA = "ALPH"
WEBP = "WEBP"
PNG = "PNGI"

WHOLE_PICTURES = frozenset({WEBP, PNG})  # a picture without a latent, its pixels exact
CRITICAL = WHOLE_PICTURES | {ALPHA}
DEFINED = CRITICAL | {ICC, EXIF, XMP}

NO_MODEL = bytes(8)  # the parse id of a file that needs no model
EXIF_MARK = b"Exif\0\0"  # before Exif data in JPEG files and in Pillow's hands; a chunk holds none
MAX_TEXT = 1 << 24  # bytes of a profile, Exif or XMP once inflated

_PLAIN, _DEFLATED = b"\0", b"\1"


def problem(kinds: Sequence[str], parse_id: bytes) -> str | None:
    """Why these chunks cannot stand together in a file with this parse id, as the end of a sentence; None if they can.

    A type that version 1 defines stands there once at most, and a file holds a whole picture exactly if it names no
    model.
    """
    known = [kind for kind in kinds if kind in DEFINED]
    twice = next((kind for kind in known if known.count(kind) > 1), None)
    if twice is not None:
        return f"it has more than one chunk {twice}"
    wholes = [kind for kind in known if kind in WHOLE_PICTURES]
    if len(wholes) > 1:
        return "it holds two pictures without loss"
    if bool(wholes) != (parse_id == NO_MODEL):
        return "it names a model beside a picture without loss" if wholes else "it names no model"
    return None


def pack(text: bytes) -> bytes:
    """A profile, Exif or XMP as a chunk holds it: behind one byte, deflated where that is smaller."""
    deflated = zlib.compress(text, 9)
    return _DEFLATED + deflated if len(deflated) < len(text) else _PLAIN + text


def unpack(data: bytes) -> bytes | None:
    """What `pack` was given; None if the chunk holds no such thing or more than `MAX_TEXT` bytes of it."""
    coding, body = data[:1], data[1:]
    if coding == _PLAIN:
        return body if len(body) <= MAX_TEXT else None
    if coding != _DEFLATED:
        return None
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(body, MAX_TEXT)
    except zlib.error:
        return None
    return text if inflater.eof and not inflater.unused_data else None
