"""A whole .ldc file as a value: `Container` ⇄ bytes, with every length and checksum verified (docs/bitstream.md)."""

import io
import zlib
from dataclasses import dataclass

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.arguments import file_bytes
from ldcodec.bitstream.layout import Entry, Header, describe, write_layout
from ldcodec.bitstream.reader import Chunk, Reader, Slice


@dataclass(frozen=True)
class Container:
    """The contents of a file: header, slices from top to bottom, chunks in file order."""

    header: Header
    slices: tuple[Slice, ...]
    chunks: tuple[Chunk, ...] = ()

    def chunk(self, kind: str) -> bytes | None:
        return next((chunk.data for chunk in self.chunks if chunk.kind == kind), None)

    @property
    def lossless(self) -> bool:
        """Whether a chunk stores the picture losslessly, so that no model is needed."""
        return any(chunk.kind in chunktypes.WHOLE_PICTURES for chunk in self.chunks)


def write(container: Container) -> bytes:
    """Serialise a container. Raises FormatError for a field that is out of range."""
    entries = [Entry(len(chunk.data), zlib.crc32(chunk.data), kind=chunk.kind) for chunk in container.chunks]
    entries += [
        Entry(len(piece.payload), zlib.crc32(piece.payload), rows=piece.rows, symbols_crc=piece.symbols_crc)
        for piece in container.slices
    ]
    data = [chunk.data for chunk in container.chunks] + [piece.payload for piece in container.slices]
    return b"".join([write_layout(container.header, entries), *data])


def read(data: bytes) -> Container:
    """Parse a whole file and verify every length and CRC-32.

    Raises FormatError for another kind of file or a newer version, DamagedError for a truncated or altered file.
    """
    reader = Reader(io.BytesIO(data))
    reader.check_length()
    slices = tuple(reader.slice(number) for number in range(len(reader.spans)))
    return Container(reader.header, slices, tuple(reader.chunk(number) for number in range(reader.chunk_count)))


def info(data: bytes | bytearray | memoryview, name: str = "") -> dict[str, object]:
    """Describe a file as a dict that JSON can hold, as `ldcodec info` does.

    Raises like `read`, and UsageError for data that holds no bytes.
    """
    reader = Reader(io.BytesIO(file_bytes(data)))
    reader.check()
    return describe(reader.layout, reader.length, name)
