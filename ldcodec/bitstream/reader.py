"""An .ldc file read by parts: its header at once, a chunk or a slice when it is asked for, damage where it lies.

Only the standard library is used, and no more than the header is held, however large the file.
"""

import os
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from ldcodec.bitstream.chunktypes import WHOLE_PICTURES
from ldcodec.bitstream.container import Chunk, Entry, Header, Layout, Slice, read_layout
from ldcodec.bitstream.slices import Span, spans_of
from ldcodec.errors import DamagedError

FIRST_BYTES = 1 << 12  # enough for the header of nearly every file
LARGEST_HEADER = 1 << 19  # 4096 chunks and 16384 slices fill less


@dataclass(frozen=True)
class Damage:
    """One part of a file that is cut short or altered: its name, why, and the slice's number from 0 if it is one."""

    part: str
    reason: str
    slice: int | None = None

    def __str__(self) -> str:
        return f"{self.part} is {self.reason}"


class Reader:
    """A file open for reading; `header` and `spans` are known from the start.

    `bytes_read` counts what was read so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """stream: binary and seekable, at any position. Raises FormatError for another kind of file, DamagedError for
        one whose header is damaged: without it nothing can be restored.
        """
        self._stream = stream
        self.length = stream.seek(0, os.SEEK_END)
        self.bytes_read = 0
        self._layout = read_layout(self._beginning(), self.length)
        self._offsets = self._places()
        self._chunks = [k for k, entry in enumerate(self._layout.entries) if entry.kind]
        self._slices = [k for k, entry in enumerate(self._layout.entries) if not entry.kind]
        self.spans: list[Span] = spans_of(self._layout.entries[k].rows for k in self._slices)

    @property
    def header(self) -> Header:
        """What the decoder must know first."""
        return self._layout.header

    @property
    def layout(self) -> Layout:
        """All that the header and the tables say."""
        return self._layout

    @property
    def lossless(self) -> bool:
        """Whether a chunk holds the picture exactly, so that no model is needed."""
        return any(self._layout.entries[place].kind in WHOLE_PICTURES for place in self._chunks)

    @property
    def chunk_count(self) -> int:
        """How many chunks the file names."""
        return len(self._chunks)

    def chunk_kind(self, number: int) -> str:
        """The kind of a chunk by its number from 0, without reading it."""
        return self._layout.entries[self._chunks[number]].kind

    def chunk_length(self, number: int) -> int:
        """Bytes of a chunk, as the tables tell it."""
        return self._layout.entries[self._chunks[number]].length

    def chunk(self, number: int) -> Chunk:
        """A chunk by its number from 0. Raises DamagedError."""
        place = self._chunks[number]
        return Chunk(self._layout.entries[place].kind, self._content(place))

    def slice(self, number: int) -> Slice:
        """A slice by its number from 0, from top to bottom. Raises DamagedError."""
        place = self._slices[number]
        entry = self._layout.entries[place]
        return Slice(entry.rows, self._content(place), entry.symbols_crc)

    def payload_length(self, number: int) -> int:
        """Bytes of a slice's payload, as the tables tell it."""
        return self._layout.entries[self._slices[number]].length

    def holds_a_slice(self) -> bool:
        """Whether the file is long enough for any of its slices, as the tables tell their lengths."""
        return any(self._offsets[k] + self._layout.entries[k].length <= self.length for k in self._slices)

    def damage(self) -> list[Damage]:
        """Every chunk and slice that is cut short or altered; reads the whole file, one part at a time."""
        found = [damage for place in self._chunks + self._slices if (damage := self._damage(place)) is not None]
        if not found and self._layout.problem(self.length) is not None:
            found.append(Damage("the end of the file", f"followed by {self.length - self._layout.end} foreign bytes"))
        return found

    def check_length(self) -> None:
        """Raises DamagedError unless the file is as long as its tables say: a test of every part for one seek."""
        problem = self._layout.problem(self.length)
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

    def _places(self) -> list[int]:
        places, position = [], self._layout.start
        for entry in self._layout.entries:
            places.append(position)
            position += entry.length
        return places

    def _read(self, start: int, count: int) -> bytes:
        self._stream.seek(start)
        data = self._stream.read(count)
        self.bytes_read += len(data)
        return data

    def _content(self, place: int) -> bytes:
        damage, content = self._examined(place)
        if damage is not None:
            raise DamagedError(str(damage))
        return content

    def _damage(self, place: int) -> Damage | None:
        return self._examined(place)[0]

    def _examined(self, place: int) -> tuple[Damage | None, bytes]:
        entry = self._layout.entries[place]
        if self._offsets[place] + entry.length > self.length:  # before anything of the claimed length is made
            return self._told(place, entry, "cut short"), b""
        content = self._read(self._offsets[place], entry.length)
        if zlib.crc32(content) != entry.crc:
            return self._told(place, entry, "altered (its CRC-32 differs)"), b""
        return None, content

    def _told(self, place: int, entry: Entry, reason: str) -> Damage:
        if entry.kind:
            return Damage(f"chunk {entry.kind}", reason)
        number = place - len(self._chunks)  # the tables name every chunk before the first slice
        first, last = self.spans[number].pixel_rows(self.header.height)
        return Damage(f"slice {number + 1} of {len(self._slices)} (rows {first} to {last - 1})", reason, number)
