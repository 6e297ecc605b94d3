"""The chunk types of format version 1 (docs/bitstream.md), and the coding of those that hold bytes, texts or numbers.

Chunks that hold pixels are coded in `pictures.chunks`.
"""

import struct
import zlib
from collections.abc import Sequence

ICC = "iccp"
EXIF = "exif"
XMP = "xmpp"
IPTC = "iptc"
TEXTS = "text"
RESOLUTION = "dpis"
NEUTRAL = "grey"  # red, green and blue are equal everywhere
DRAFTED = "drft"  # squares that are drawn as in a draft
ALPHA = "ALPH"
PATCHES = "PTCH"  # blocks that are stored exactly
BRIGHT = "CICP"  # samples are coded by PQ or HLG
WEBP = "WEBP"
PNG = "PNGI"

WHOLE_PICTURES = frozenset({WEBP, PNG})  # the whole picture, stored losslessly; the file has no latent
CRITICAL = WHOLE_PICTURES | {ALPHA, BRIGHT, PATCHES}  # a reader that does not know one of these must refuse the file
DEFINED = CRITICAL | {ICC, EXIF, XMP, IPTC, TEXTS, RESOLUTION, NEUTRAL, DRAFTED}

NO_MODEL = bytes(8)  # parse id of a file that needs no model
EXIF_MARK = b"Exif\0\0"  # precedes Exif data in JPEG files and in Pillow; chunks store Exif without it
MAX_TEXT = 1 << 24  # bytes of a profile, metadata or texts after inflation: bounds what a hostile chunk can expand to

MAX_RESOLUTION = (1 << 32) // 10_000  # pixels per inch

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
    if wholes and PATCHES in known:
        return "it holds patches although its picture is lossless"
    return None


def pack(text: bytes) -> bytes:
    """Code a profile or metadata as a chunk: one byte for the coding, then the data, deflated if that is smaller."""
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


def pack_texts(texts: Sequence[tuple[str, str]]) -> bytes:
    """Code pairs of keyword and text, neither of which may hold the character 0 or half a surrogate pair."""
    return pack(_joined(texts))


def unpack_texts(data: bytes) -> tuple[tuple[str, str], ...] | None:
    """The inverse of `pack_texts`; None if the chunk is invalid."""
    joined = unpack(data)
    try:
        *parts, rest = (joined or b"").decode("utf-8").split("\0")
    except UnicodeDecodeError:
        return None
    if joined is None or rest or len(parts) % 2:
        return None
    return tuple(zip(parts[::2], parts[1::2], strict=True))


def fits(texts: Sequence[tuple[str, str]]) -> bool:
    """Whether texts are short enough for a chunk."""
    return len(_joined(texts)) <= MAX_TEXT


def pack_resolution(resolution: tuple[float, float]) -> bytes:
    """Code pixels per inch across and down, each above 0 and below `MAX_RESOLUTION`, as two u32 of ten-thousandths."""
    return struct.pack("<II", *(round(10_000 * value) for value in resolution))


def unpack_resolution(data: bytes) -> tuple[float, float] | None:
    """The inverse of `pack_resolution`; None if the chunk is invalid."""
    if len(data) != 8 or b"\0\0\0\0" in (data[:4], data[4:]):
        return None
    across, down = struct.unpack("<II", data)
    return across / 10_000, down / 10_000


def _joined(texts: Sequence[tuple[str, str]]) -> bytes:
    return "".join(f"{keyword}\0{text}\0" for keyword, text in texts).encode("utf-8")
