"""A whole .ldc file as a value: `Container` ⇄ bytes, every length and checksum tested (docs/bitstream.md)."""

import io
import zlib
from dataclasses import dataclass

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.layout import Entry, Header, describe, write_layout
from ldcodec.bitstream.reader import Chunk, Reader, Slice


@dataclass(frozen=True)
class Container:
    """A whole file: its header, its slices from top to bottom, its chunks in file order."""

    header: Header
    slices: tuple[Slice, ...]
    chunks: tuple[Chunk, ...] = ()

    def chunk(self, kind: str) -> bytes | None:
        """The data of the chunk of this type; None without one."""
        return next((chunk.data for chunk in self.chunks if chunk.kind == kind), None)

    @property
    def lossless(self) -> bool:
        """Whether a chunk holds the picture exactly, so that no model is needed."""
        return any(chunk.kind in chunktypes.WHOLE_PICTURES for chunk in self.chunks)


def write(container: Container) -> bytes:
    """A container as the bytes of a file. Raises FormatError for a field out of its range."""
    entries = [Entry(len(chunk.data), zlib.crc32(chunk.data), kind=chunk.kind) for chunk in container.chunks]
    entries += [
        Entry(len(piece.payload), zlib.crc32(piece.payload), rows=piece.rows, symbols_crc=piece.symbols_crc)
        for piece in container.slices
    ]
    data = [chunk.data for chunk in container.chunks] + [piece.payload for piece in container.slices]
    return b"".join([write_layout(container.header, entries), *data])


def read(data: bytes) -> Container:
    """A whole file, every length and CRC-32 in it tested.

    Raises FormatError for another kind of file or one of a newer version, DamagedError for a cut or altered one.
    """
    reader = Reader(io.BytesIO(data))
    reader.check_length()
    slices = tuple(reader.slice(number) for number in range(len(reader.spans)))
    return Container(reader.header, slices, tuple(reader.chunk(number) for number in range(reader.chunk_count)))


def info(data: bytes, name: str = "") -> dict[str, object]:
    """What `ldcodec info` says of a file, as plain values that JSON can hold. Raises as `read` does."""
    reader = Reader(io.BytesIO(data))
    reader.check()
    return describe(reader.layout, len(data), name)
