"""Header and tables ⇄ bytes: everything in an .ldc file before its data (docs/bitstream.md).

Uses the standard library only, so that `ldcodec info` answers at once.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.errors import DamagedError, FormatError

MAGIC = b"\x8aLDC"
VERSION = 1

MAX_SIDE = 1 << 20
MAX_PIXELS = 1 << 30
MAX_CHUNKS = 1 << 12
MAX_SLICES = 1 << 14
PARSE_ID_BYTES = 8

FLAG_EXTENDED = 1 << 15
FLAG_GREY = 1 << 14
FLAG_TRELLIS = 1 << 13
FLAG_DEEP = 1 << 12

DEPTHS = range(9, 17)  # bits a sample of what the flag DEEP marks; all other pictures have 8


@dataclass(frozen=True)
class Header:
    """The fixed fields: size in pixels, quality index 0..4095, grey or RGB, parse id (8 bytes), whether a trellis
    quantised the latent, and the bits a sample of the picture, 8..16.
    """

    width: int
    height: int
    quality: int
    grey: bool
    parse_id: bytes
    trellis: bool = False
    depth: int = 8


@dataclass(frozen=True)
class Entry:
    """One table entry: length in bytes and CRC-32 of a chunk (`rows` is 0) or of a slice's payload (`kind` is "").

    rows: latent rows of the slice; symbols_crc: CRC-32 of its decoded symbols.
    """

    length: int
    crc: int
    kind: str = ""
    rows: int = 0
    symbols_crc: int = 0


@dataclass(frozen=True)
class Layout:
    """Header, table entries in file order (chunks first), and the offset of the first byte of data."""

    header: Header
    entries: list[Entry]
    start: int

    @property
    def offsets(self) -> list[int]:
        """The offset of each entry's data, followed by that of the end of the file."""
        return list(accumulate((entry.length for entry in self.entries), initial=self.start))

    @property
    def end(self) -> int:
        """The length in bytes that the file must have."""
        return self.offsets[-1]

    @property
    def lossless(self) -> bool:
        """Whether a chunk stores the picture losslessly, so that no model is needed."""
        return any(entry.kind in chunktypes.WHOLE_PICTURES for entry in self.entries)

    @property
    def drawn_grey(self) -> bool:
        """Whether pixels are drawn as single values: those of a grey picture, or of one in RGB without colours."""
        return self.header.grey or any(entry.kind == chunktypes.NEUTRAL for entry in self.entries)

    @property
    def patched(self) -> bool:
        """Whether a chunk stores blocks of the picture exactly, up to all of them."""
        return any(entry.kind == chunktypes.PATCHES for entry in self.entries)

    def problem(self, length: int) -> str | None:
        """Return what is wrong with a file of this many bytes, or None."""
        if length == self.end:
            return None
        return f"the file is cut short or has grown: it has {length} bytes instead of {self.end}"


def latent_size(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the latent of a picture padded to multiples of 64 pixels, one position per 16×16 pixels."""
    return -(-height // 64) * 4, -(-width // 64) * 4


def coded_size(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the latent that are coded; the positions beyond cover padding only."""
    return -(-height // 16), -(-width // 16)


def size_problem(width: int, height: int) -> str | None:
    """Return why a picture of this size cannot be stored, as the end of a sentence, or None if it can."""
    if width < 1 or height < 1:
        return f"its size of {width}x{height} pixels holds no picture"
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        return f"its size of {width}x{height} pixels is beyond the limit of 2^20 per side and 2^30 in all"
    return None


def write_layout(header: Header, entries: Sequence[Entry]) -> bytes:
    """Serialise header and tables, in the simple form if there is one slice and no chunk.

    entries: the chunks, then the slices from top to bottom. Raises FormatError for a field that is out of range and
    for entries that a reader would refuse.
    """
    _check_fields(header, entries)
    simple = len(entries) == 1 and not entries[0].kind
    fields = _fixed_fields(header, extended=not simple) + (_crc_pair(entries[0]) if simple else _tables(entries))
    return fields + u32(zlib.crc32(fields))


def read_layout(data: bytes, file_length: int) -> Layout:
    """Parse and check the header and tables of a file of `file_length` bytes that begins with `data`.

    Raises FormatError for another kind of file or a newer version, and DamagedError for a damaged header or if `data`
    ends before the header's CRC-32.
    """
    cursor = Cursor(data)
    _check_start(data, cursor)
    word = cursor.u16()
    parse_id = cursor.take(PARSE_ID_BYTES)
    flags = bool(word & FLAG_GREY), parse_id, bool(word & FLAG_TRELLIS)
    header = Header(cursor.varint(), cursor.varint(), word & TOP_INDEX, *flags)
    if word & FLAG_DEEP:
        header = replace(header, depth=cursor.u8())
    entries = _read_tables(cursor) if word & FLAG_EXTENDED else [_read_only_slice(cursor, header, file_length)]
    if zlib.crc32(data[: cursor.position]) != cursor.u32():
        raise DamagedError("the header is altered (its CRC-32 differs)")
    if word & FLAG_DEEP and header.depth not in DEPTHS:
        raise FormatError(f"the file needs a newer version of ldcodec: its depth {header.depth} is unknown")
    _check_layout(header, entries)
    return Layout(header, entries, cursor.position)


def describe(layout: Layout, file_length: int, name: str = "") -> dict[str, object]:
    """Describe a file of `file_length` bytes as a dict that JSON can hold, as `ldcodec info` does."""
    header = layout.header
    chunks = [entry for entry in layout.entries if entry.kind]
    slices = [entry for entry in layout.entries if not entry.kind]
    payload = sum(entry.length for entry in slices)
    fields: dict[str, object] = {"name": name} if name else {}
    return fields | {
        "version": VERSION,
        "width": header.width,
        "height": header.height,
        "grey": header.grey,
        "depth": header.depth,
        "alpha": any(entry.kind == chunktypes.ALPHA for entry in chunks),
        "lossless": layout.lossless,
        "quality_index": header.quality,
        "quality": round(100 * header.quality / TOP_INDEX, 2),
        "parse_id": header.parse_id.hex(),
        "trellis": header.trellis,
        "bytes": file_length,
        "bpp": round(8 * file_length / (header.width * header.height), 6),
        "payload_bytes": payload,
        "overhead_bytes": file_length - payload,
        "chunks": [{"kind": entry.kind, "bytes": entry.length} for entry in chunks],
        "slices": [
            {"rows": entry.rows, "bytes": entry.length, "symbols_crc": f"{entry.symbols_crc:08x}"} for entry in slices
        ],
    }


def _fixed_fields(header: Header, extended: bool) -> bytes:
    word = header.quality | (FLAG_EXTENDED if extended else 0) | (FLAG_GREY if header.grey else 0)
    word |= FLAG_TRELLIS if header.trellis else 0
    word |= FLAG_DEEP if header.depth > 8 else 0
    start = MAGIC + struct.pack("<BH", VERSION, word)
    fields = start + header.parse_id + varint(header.width) + varint(header.height)
    return fields + bytes([header.depth] if header.depth > 8 else [])


def _crc_pair(entry: Entry) -> bytes:
    return u32(entry.symbols_crc) + u32(entry.crc)


def _tables(entries: Sequence[Entry]) -> bytes:
    chunks = [entry for entry in entries if entry.kind]
    slices = [entry for entry in entries if not entry.kind]
    parts = [varint(len(chunks)), varint(len(slices))]
    for entry in chunks:
        parts += [entry.kind.encode("ascii"), varint(entry.length), u32(entry.crc)]
    for entry in slices:
        parts += [varint(entry.rows), varint(entry.length), _crc_pair(entry)]
    return b"".join(parts)


def _check_start(data: bytes, cursor: "Cursor") -> None:
    if not data:
        raise FormatError("the file is empty")
    if not data.startswith(MAGIC[: len(data)]):  # a file that ends within the magic is damaged, not foreign
        raise FormatError("not an .ldc file")
    cursor.take(len(MAGIC))
    version = cursor.u8()
    if version != VERSION:
        raise FormatError(f"the file needs another version of ldcodec: its format version is {version}, not {VERSION}")


def _read_only_slice(cursor: "Cursor", header: Header, file_length: int) -> Entry:
    symbols_crc, payload_crc = cursor.u32(), cursor.u32()
    rows = latent_size(header.width, header.height)[0]
    # The simple form stores no length: the payload is what follows the four bytes of the header CRC.
    return Entry(file_length - cursor.position - 4, payload_crc, rows=rows, symbols_crc=symbols_crc)


def _read_tables(cursor: "Cursor") -> list[Entry]:
    chunk_count, slice_count = cursor.varint(), cursor.varint()
    if chunk_count > MAX_CHUNKS or slice_count > MAX_SLICES:
        raise DamagedError(f"the header is damaged: it counts {chunk_count} chunks and {slice_count} slices")
    entries = []
    for _ in range(chunk_count):
        kind, length, crc = cursor.take(4).decode("latin-1"), cursor.varint(), cursor.u32()
        if not _is_kind(kind):
            raise DamagedError("the header is damaged: a chunk type is not four ASCII letters")
        entries.append(Entry(length, crc, kind=kind))
    for _ in range(slice_count):
        rows, length, symbols_crc, crc = cursor.varint(), cursor.varint(), cursor.u32(), cursor.u32()
        entries.append(Entry(length, crc, rows=rows, symbols_crc=symbols_crc))
    return entries


def _is_kind(kind: str) -> bool:
    return len(kind) == 4 and kind.isascii() and kind.isalpha()


def _check_fields(header: Header, entries: Sequence[Entry]) -> None:
    """Refuse to write a header or entries that the fields cannot hold or that a reader would refuse."""
    problem = size_problem(header.width, header.height)
    if problem is not None:
        raise FormatError(f"the picture cannot be stored: {problem}")
    if not 0 <= header.quality <= TOP_INDEX:
        raise FormatError(f"quality index {header.quality} is outside 0..{TOP_INDEX}")
    if header.depth != 8 and header.depth not in DEPTHS:
        raise FormatError(f"samples of {header.depth} bits are outside 8..16")
    if len(header.parse_id) != PARSE_ID_BYTES:
        raise FormatError(f"a parse id has {PARSE_ID_BYTES} bytes, not {len(header.parse_id)}")
    kinds = [entry.kind for entry in entries if entry.kind]
    unfit = next((kind for kind in kinds if not _is_kind(kind)), None)
    if unfit is not None:
        raise FormatError(f"chunk type {unfit!r} is not four ASCII letters")
    if len(kinds) > MAX_CHUNKS or len(entries) - len(kinds) > MAX_SLICES:
        raise FormatError(f"more than {MAX_CHUNKS} chunks or {MAX_SLICES} slices")
    _check_agreement(header, entries, "would contradict")


def _check_layout(header: Header, entries: Sequence[Entry]) -> None:
    """Refuse sizes beyond the limits, unknown critical chunks, and slices that do not cover the picture."""
    problem = size_problem(header.width, header.height)
    if problem is not None:
        raise FormatError(f"the picture cannot be read: {problem}")
    for entry in entries:
        if entry.kind[:1].isupper() and entry.kind not in chunktypes.CRITICAL:  # upper case: must be understood
            raise FormatError(f"the file needs a newer version of ldcodec: chunk type {entry.kind} is unknown")
    _check_agreement(header, entries, "contradicts")


def _check_agreement(header: Header, entries: Sequence[Entry], verb: str) -> None:
    """Refuse chunks, slices and a parse id that contradict each other."""
    slices = [entry for entry in entries if not entry.kind]
    problem = chunktypes.problem([entry.kind for entry in entries if entry.kind], header.parse_id)
    if problem is None:
        _check_rows(header, [entry.rows for entry in slices])
        problem = _lossless_problem(header, slices, [entry.kind for entry in entries])
    if problem is not None:
        raise FormatError(f"the file {verb} itself: {problem}")


def _check_rows(header: Header, rows: list[int]) -> None:
    total = latent_size(header.width, header.height)[0]
    if sum(rows) != total or any(count < 4 or count % 4 for count in rows):
        raise DamagedError(f"the slices do not cover the picture's {total} latent rows in multiples of 4")


def _lossless_problem(header: Header, slices: Sequence[Entry], kinds: Sequence[str]) -> str | None:
    """A file without a model must have a single, empty slice, and no quantiser, and no WebP of more than 8 bits."""
    if header.parse_id == chunktypes.NO_MODEL and header.trellis:
        return "it has a trellis although its picture is lossless"
    if header.depth > 8 and chunktypes.WEBP in kinds:
        return "its picture is lossless WebP although it has more than 8 bits a sample"
    if header.parse_id != chunktypes.NO_MODEL or [(entry.length, entry.symbols_crc) for entry in slices] == [(0, 0)]:
        return None
    return "it has symbols, or several slices, although its picture is lossless"


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def varint(value: int) -> bytes:
    """Encode a value below 2^32 as unsigned LEB128 in the fewest bytes, 1 to 5."""
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value} does not fit a varint of this format")
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(groups) + bytes([value])


class Cursor:
    """Reads fields one after the other. Raises DamagedError where the data ends, and never returns a short field."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        """Read `count` bytes."""
        end = self.position + count
        if end > len(self._data):
            raise DamagedError("the file is cut short in its header")
        field = self._data[self.position : end]
        self.position = end
        return field

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        """Read a varint. Raises DamagedError if it is not in its shortest form or is 2^32 or more."""
        value = 0
        for shift in range(0, 35, 7):  # at most five bytes of seven bits
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or value >> 32:  # a last byte of zero could have been left out
                    break
                return value
        raise DamagedError("the header is damaged: a number in it is too large or not in its shortest form")
