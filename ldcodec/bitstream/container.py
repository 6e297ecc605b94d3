"""An .ldc file as a value: `Container` ⇄ bytes, with every length and checksum tested (docs/bitstream.md).

Only the standard library is used, so that `ldcodec info` answers at once.
"""

import struct
import zlib
from dataclasses import dataclass

from ldcodec.bitstream import chunktypes as chunk_types
from ldcodec.bitstream.bytefields import Cursor, u32, varint
from ldcodec.errors import DamagedError, FormatError

MAGIC = b"\x8aLDC"
VERSION = 1

MAX_SIDE = 1 << 20
MAX_PIXELS = 1 << 30
MAX_QUALITY = (1 << 12) - 1
MAX_CHUNKS = 1 << 12
MAX_SLICES = 1 << 14
PARSE_ID_BYTES = 8

FLAG_EXTENDED = 1 << 15
FLAG_GREY = 1 << 14
FLAGS_RESERVED = 3 << 12


@dataclass(frozen=True)
class Header:
    """What the decoder must know first: size in pixels, quality index 0..4095, grey or RGB, parse id (8 bytes)."""

    width: int
    height: int
    quality: int
    grey: bool
    parse_id: bytes


@dataclass(frozen=True)
class Chunk:
    """Data beside the picture; `kind` is four ASCII letters, the first lower-case if readers may skip it."""

    kind: str
    data: bytes


@dataclass(frozen=True)
class Slice:
    """A group of latent rows (a multiple of 4), its coded symbols and the CRC-32 of those symbols once decoded."""

    rows: int
    payload: bytes
    symbols_crc: int


@dataclass(frozen=True)
class Container:
    """A whole file: its header, its slices from top to bottom, its chunks in file order."""

    header: Header
    slices: tuple[Slice, ...]
    chunks: tuple[Chunk, ...] = ()

    def chunk(self, kind: str) -> bytes | None:
        """What the chunk of this type holds; None without one."""
        return next((chunk.data for chunk in self.chunks if chunk.kind == kind), None)

    @property
    def lossless(self) -> bool:
        """Whether a chunk holds the picture exactly, so that no model is needed."""
        return any(chunk.kind in chunk_types.WHOLE_PICTURES for chunk in self.chunks)


@dataclass(frozen=True)
class Entry:
    """A line of the tables: the bytes of one chunk (rows 0) or slice (kind "") and their CRC-32."""

    length: int
    crc: int
    kind: str = ""
    rows: int = 0
    symbols_crc: int = 0


@dataclass(frozen=True)
class Layout:
    """Everything before the first byte of data: the header, the tables and where the data begins."""

    header: Header
    entries: list[Entry]
    start: int

    @property
    def end(self) -> int:
        """The length that the whole file must have."""
        return self.start + sum(entry.length for entry in self.entries)

    def problem(self, length: int) -> str | None:
        """What is wrong with a file of this many bytes; None where nothing is."""
        if length == self.end:
            return None
        return f"the file is cut short or has grown: it has {length} bytes instead of {self.end}"


def latent_size(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the latent at 1/16, of a picture padded to multiples of 64 pixels."""
    return -(-height // 64) * 4, -(-width // 64) * 4


def coded_size(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the latent that are coded; beyond them lies only padding."""
    return -(-height // 16), -(-width // 16)


def size_problem(width: int, height: int) -> str | None:
    """Why a picture of this size cannot be stored, as the end of a sentence; None if it can."""
    if width < 1 or height < 1:
        return f"its size of {width}x{height} pixels holds no picture"
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        return f"its size of {width}x{height} pixels is beyond the limit of 2^20 a side and 2^30 in all"
    return None


def write(container: Container) -> bytes:
    """Write a container as the bytes of a file, in the simple form wherever it will do.

    Raises FormatError if a field is out of its range.
    """
    _check(container)
    simple = len(container.slices) == 1 and not container.chunks
    fields = [_fixed_fields(container.header, extended=not simple)]
    fields.append(_crc_pair(container.slices[0]) if simple else _tables(container))
    before_crc = b"".join(fields)
    body = [chunk.data for chunk in container.chunks] + [piece.payload for piece in container.slices]
    return b"".join([before_crc, u32(zlib.crc32(before_crc)), *body])


def read(data: bytes) -> Container:
    """Read a whole file and check every length and CRC-32 in it.

    Raises FormatError for another kind of file or one of a newer version, DamagedError for a cut or altered one.
    """
    layout = read_layout(data, len(data))
    problem = layout.problem(len(data))
    if problem is not None:
        raise DamagedError(problem)
    position = layout.start
    chunks: list[Chunk] = []
    slices: list[Slice] = []
    for entry in layout.entries:
        content = data[position : position + entry.length]
        position += entry.length
        if zlib.crc32(content) != entry.crc:
            what = f"chunk {entry.kind}" if entry.kind else f"the payload of slice {len(slices) + 1}"
            raise DamagedError(f"{what} is cut short or altered (its CRC-32 differs)")
        if entry.kind:
            chunks.append(Chunk(entry.kind, content))
        else:
            slices.append(Slice(entry.rows, content, entry.symbols_crc))
    return Container(layout.header, tuple(slices), tuple(chunks))


def read_header(data: bytes) -> Header:
    """Read and check the header alone; `data` may end anywhere after the header's own CRC-32. Raises as `read` does."""
    return read_layout(data, len(data)).header


def describe(data: bytes, name: str = "") -> dict[str, object]:
    """What `ldcodec info` tells of a file, as plain values that JSON can hold. Raises as `read` does."""
    read(data)
    return describe_layout(read_layout(data, len(data)), len(data), name)


def describe_layout(layout: Layout, file_length: int, name: str = "") -> dict[str, object]:
    """As `describe`, of a file of `file_length` bytes of which no more than the header need be known."""
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
        "alpha": any(entry.kind == chunk_types.ALPHA for entry in chunks),
        "lossless": any(entry.kind in chunk_types.WHOLE_PICTURES for entry in chunks),
        "quality_index": header.quality,
        "quality": round(100 * header.quality / MAX_QUALITY, 2),
        "parse_id": header.parse_id.hex(),
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
    start = MAGIC + struct.pack("<BH", VERSION, word)
    return start + header.parse_id + varint(header.width) + varint(header.height)


def _crc_pair(piece: Slice) -> bytes:
    return u32(piece.symbols_crc) + u32(zlib.crc32(piece.payload))


def _tables(container: Container) -> bytes:
    parts = [varint(len(container.chunks)), varint(len(container.slices))]
    for chunk in container.chunks:
        parts += [chunk.kind.encode("ascii"), varint(len(chunk.data)), u32(zlib.crc32(chunk.data))]
    for piece in container.slices:
        parts += [varint(piece.rows), varint(len(piece.payload)), _crc_pair(piece)]
    return b"".join(parts)


def _is_kind(kind: str) -> bool:
    return len(kind) == 4 and kind.isascii() and kind.isalpha()


def _check(container: Container) -> None:
    """Refuse what the fields of a file cannot hold."""
    header = container.header
    problem = size_problem(header.width, header.height)
    if problem is not None:
        raise FormatError(f"the picture cannot be stored: {problem}")
    if not 0 <= header.quality <= MAX_QUALITY:
        raise FormatError(f"quality index {header.quality} is outside 0..{MAX_QUALITY}")
    if len(header.parse_id) != PARSE_ID_BYTES:
        raise FormatError(f"a parse id has {PARSE_ID_BYTES} bytes, not {len(header.parse_id)}")
    for chunk in container.chunks:
        if not _is_kind(chunk.kind):
            raise FormatError(f"chunk type {chunk.kind!r} is not four ASCII letters")
    problem = chunk_types.problem([chunk.kind for chunk in container.chunks], header.parse_id)
    if problem is not None:
        raise FormatError(f"the file would contradict itself: {problem}")
    if len(container.chunks) > MAX_CHUNKS or len(container.slices) > MAX_SLICES:
        raise FormatError(f"more than {MAX_CHUNKS} chunks or {MAX_SLICES} slices")
    _check_rows(header, [piece.rows for piece in container.slices])
    problem = _lossless_problem(header, [(len(piece.payload), piece.symbols_crc) for piece in container.slices])
    if problem is not None:
        raise FormatError(f"the file would contradict itself: {problem}")


def _check_chunks(header: Header, kinds: list[str]) -> None:
    for kind in kinds:
        if kind[0].isupper() and kind not in chunk_types.CRITICAL:
            raise FormatError(f"the file needs a newer version of ldcodec: chunk type {kind} is unknown")
    problem = chunk_types.problem(kinds, header.parse_id)
    if problem is not None:
        raise FormatError(f"the file contradicts itself: {problem}")


def _lossless_problem(header: Header, slices: list[tuple[int, int]]) -> str | None:
    """Why slices of these payload lengths and symbols CRCs cannot stand beside a picture without loss, as the end of a
    sentence; None where they can, or there is no such picture.
    """
    if header.parse_id != chunk_types.NO_MODEL or slices == [(0, 0)]:
        return None
    return "it has symbols, or several slices, beside a picture without loss"


def _check_rows(header: Header, rows: list[int]) -> None:
    total = latent_size(header.width, header.height)[0]
    if sum(rows) != total or any(count < 4 or count % 4 for count in rows):
        raise DamagedError(f"the slices do not cover the picture's {total} latent rows in multiples of 4")


def read_layout(data: bytes, file_length: int) -> Layout:
    """Read and check the header and the tables of a file of `file_length` bytes of which `data` is the beginning.

    Raises FormatError as `read` does, DamagedError also where `data` ends before the header's CRC-32.
    """
    cursor = Cursor(data)
    _check_start(data, cursor)
    word = cursor.u16()
    if word & FLAGS_RESERVED:
        raise FormatError("the file needs a newer version of ldcodec: it sets unknown flags")
    parse_id = cursor.take(PARSE_ID_BYTES)
    header = Header(cursor.varint(), cursor.varint(), word & MAX_QUALITY, bool(word & FLAG_GREY), parse_id)
    entries = _read_tables(cursor) if word & FLAG_EXTENDED else [_read_only_slice(cursor, header, file_length)]
    if zlib.crc32(data[: cursor.position]) != cursor.u32():
        raise DamagedError("the header is altered (its CRC-32 differs)")
    _check_layout(header, entries)
    return Layout(header, entries, cursor.position)


def _check_start(data: bytes, cursor: Cursor) -> None:
    if not data:
        raise FormatError("the file is empty")
    if not data.startswith(MAGIC[: len(data)]):
        raise FormatError("not an .ldc file")
    cursor.take(len(MAGIC))
    version = cursor.u8()
    if version != VERSION:
        raise FormatError(f"the file needs another version of ldcodec: its format version is {version}, not {VERSION}")


def _read_only_slice(cursor: Cursor, header: Header, file_length: int) -> Entry:
    symbols_crc, payload_crc = cursor.u32(), cursor.u32()
    rows = latent_size(header.width, header.height)[0]
    return Entry(file_length - cursor.position - 4, payload_crc, rows=rows, symbols_crc=symbols_crc)


def _read_tables(cursor: Cursor) -> list[Entry]:
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


def _check_layout(header: Header, entries: list[Entry]) -> None:
    """Refuse sizes beyond the limits, chunks that must be understood and are not, slices that leave gaps."""
    problem = size_problem(header.width, header.height)
    if problem is not None:
        raise FormatError(f"the picture cannot be read: {problem}")
    _check_chunks(header, [entry.kind for entry in entries if entry.kind])
    slices = [entry for entry in entries if not entry.kind]
    _check_rows(header, [entry.rows for entry in slices])
    problem = _lossless_problem(header, [(entry.length, entry.symbols_crc) for entry in slices])
    if problem is not None:
        raise FormatError(f"the file contradicts itself: {problem}")
