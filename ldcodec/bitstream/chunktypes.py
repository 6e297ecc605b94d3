"""The chunk types of format version 1 (docs/bitstream.md), and the coding of text chunks.

Chunks that hold pixels are coded in `pictures.chunks`.
"""

import zlib
from collections.abc import Sequence

ICC = "iccp"
EXIF = "exif"
XMP = "xmpp"
ALPHA = "ALPH"
WEBP = "WEBP"
PNG = "PNGI"

WHOLE_PICTURES = frozenset({WEBP, PNG})  # the whole picture, stored losslessly; the file has no latent
CRITICAL = WHOLE_PICTURES | {ALPHA}  # a reader that does not know one of these must refuse the file
DEFINED = CRITICAL | {ICC, EXIF, XMP}

NO_MODEL = bytes(8)  # parse id of a file that needs no model
EXIF_MARK = b"Exif\0\0"  # precedes Exif data in JPEG files and in Pillow; chunks store Exif without it
MAX_TEXT = 1 << 24  # bytes of a profile, Exif or XMP after inflation: bounds what a hostile chunk can expand to

_PLAIN, _DEFLATED = b"\0", b"\1"


def problem(kinds: Sequence[str], parse_id: bytes) -> str | None:
    """Return why a file with this parse id cannot hold these chunks, as the end of a sentence, or None if it can.

    Each type that version 1 defines may occur once, and a file stores a lossless picture if and only if it names no
    model.
    """
    known = [kind for kind in kinds if kind in DEFINED]
    twice = next((kind for kind in known if known.count(kind) > 1), None)
    if twice is not None:
        return f"it has more than one chunk {twice}"
    wholes = [kind for kind in known if kind in WHOLE_PICTURES]
    if len(wholes) > 1:
        return "it holds two lossless pictures"
    if bool(wholes) != (parse_id == NO_MODEL):
        return "it names a model although its picture is lossless" if wholes else "it names no model"
    return None


def pack(text: bytes) -> bytes:
    """Code a profile, Exif or XMP as a chunk: one byte for the coding, then the data, deflated if that is smaller."""
    deflated = zlib.compress(text, 9)
    return _DEFLATED + deflated if len(deflated) < len(text) else _PLAIN + text


def unpack(data: bytes) -> bytes | None:
    """The inverse of `pack`; None if the chunk is invalid or inflates to more than `MAX_TEXT` bytes."""
    coding, body = data[:1], data[1:]
    if coding == _PLAIN:
        return body if len(body) <= MAX_TEXT else None
    if coding != _DEFLATED:
        return None
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(body, MAX_TEXT)  # stops at the limit; `eof` below is false then
    except zlib.error:
        return None
    return text if inflater.eof and not inflater.unused_data else None
