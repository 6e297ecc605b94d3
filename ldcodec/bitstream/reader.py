"""An .ldc file read on demand: its header at once, a chunk or a slice when it is asked for, damage where it lies.

This is the one walk over the offsets and checksums of a file. Only the standard library is used.
"""

import io
import os
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from ldcodec.bitstream.layout import Entry, Header, Layout, read_layout
from ldcodec.bitstream.slices import Span, spans_of
from ldcodec.errors import DamagedError

FIRST_BYTES = 1 << 12  # enough for the header of nearly every file
LARGEST_HEADER = 1 << 19  # 4096 chunks and 16384 slices fill less


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
class Damage:
    """A part of a file that is cut short or altered: its name, the reason, and its number from 0 if it is a slice."""

    part: str
    reason: str
    slice: int | None = None

    def __str__(self) -> str:
        return f"{self.part} is {self.reason}"


class Reader:
    """A file open for reading. `header`, `layout` and `spans` are known from the start, the rest is read on demand.

    `bytes_read` counts what was read from the stream so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """stream: binary and seekable, at any position.

        Raises FormatError for another kind of file, DamagedError for a damaged header: nothing can be restored then.
        """
        self._stream = stream
        self.length = stream.seek(0, os.SEEK_END)
        self.bytes_read = 0
        self.layout: Layout = read_layout(self._beginning(), self.length)
        self._offsets = self.layout.offsets
        self._chunks = [place for place, entry in enumerate(self.layout.entries) if entry.kind]
        self._slices = [place for place, entry in enumerate(self.layout.entries) if not entry.kind]
        self.spans: list[Span] = spans_of(self.layout.entries[place].rows for place in self._slices)

    @property
    def header(self) -> Header:
        """Size, quality and parse id of the picture."""
        return self.layout.header

    @property
    def lossless(self) -> bool:
        """Whether a chunk holds the picture exactly, so that no model is needed."""
        return self.layout.lossless

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return len(self._chunks)

    def chunk_kind(self, number: int) -> str:
        """The kind of a chunk by its number from 0, without reading it."""
        return self.layout.entries[self._chunks[number]].kind

    def chunk_length(self, number: int) -> int:
        """Bytes of a chunk according to the tables."""
        return self.layout.entries[self._chunks[number]].length

    def chunk(self, number: int) -> Chunk:
        """A chunk by its number from 0. Raises DamagedError."""
        place = self._chunks[number]
        return Chunk(self.layout.entries[place].kind, self._content(place))

    def slice(self, number: int) -> Slice:
        """A slice by its number from 0, from top to bottom. Raises DamagedError."""
        place = self._slices[number]
        entry = self.layout.entries[place]
        return Slice(entry.rows, self._content(place), entry.symbols_crc)

    def payload_length(self, number: int) -> int:
        """Bytes of a slice's payload according to the tables."""
        return self.layout.entries[self._slices[number]].length

    def holds_a_slice(self) -> bool:
        """Whether the file is long enough for at least one of its slices."""
        return any(self._offsets[place + 1] <= self.length for place in self._slices)

    def load(self) -> None:
        """Read the whole file into memory, so that testing it and decoding it fetch each byte once."""
        data = self._read(0, self.layout.end)
        self._stream = io.BytesIO(data)

    def damage(self) -> list[Damage]:
        """Every chunk and slice that is cut short or altered; reads the whole file, one part at a time."""
        found = [damage for place in range(len(self.layout.entries)) if (damage := self._tested(place)[0]) is not None]
        if not found and self.layout.problem(self.length) is not None:
            found.append(Damage("the end of the file", f"followed by {self.length - self.layout.end} foreign bytes"))
        return found

    def check(self) -> None:
        """Test the length and every part of the file. Raises DamagedError at the first that is wrong."""
        self.check_length()
        for place in range(len(self.layout.entries)):
            self._content(place)

    def check_length(self) -> None:
        """Raise DamagedError unless the file is as long as its tables say, at the cost of one seek."""
        problem = self.layout.problem(self.length)
        if problem is not None:
            raise DamagedError(problem)

    def _beginning(self) -> bytes:
        """The bytes of the header and perhaps more; a short first read is extended where the header goes on."""
        data = self._read(0, FIRST_BYTES)
        while len(data) < min(self.length, LARGEST_HEADER) and not self._is_whole(data):
            data += self._read(len(data), 3 * len(data))
        return data

    def _is_whole(self, data: bytes) -> bool:
        """Whether the header ends within these bytes; other problems are left to the last attempt."""
        try:
            read_layout(data, self.length)
        except DamagedError:
            return False
        return True

    def _read(self, start: int, count: int) -> bytes:
        self._stream.seek(start)
        data = self._stream.read(count)
        self.bytes_read += len(data)
        return data

    def _content(self, place: int) -> bytes:
        damage, content = self._tested(place)
        if damage is not None:
            raise DamagedError(str(damage))
        return content

    def _tested(self, place: int) -> tuple[Damage | None, bytes]:
        entry = self.layout.entries[place]
        if self._offsets[place + 1] > self.length:  # tested before anything of the claimed length is allocated
            return self._damage(place, entry, "cut short"), b""
        content = self._read(self._offsets[place], entry.length)
        if zlib.crc32(content) != entry.crc:
            return self._damage(place, entry, "altered (its CRC-32 differs)"), b""
        return None, content

    def _damage(self, place: int, entry: Entry, reason: str) -> Damage:
        if entry.kind:
            return Damage(f"chunk {entry.kind}", reason)
        number = place - len(self._chunks)  # the tables name every chunk before the first slice
        return Damage(self.slice_name(number), reason, number)

    def slice_name(self, number: int) -> str:
        """How messages call a slice."""
        first, end = self.spans[number].pixel_rows(self.header.height)
        return f"slice {number + 1} of {len(self.spans)} (rows {first} to {end - 1})"
