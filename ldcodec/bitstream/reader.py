"""Random access to an .ldc file: the header is parsed at once, chunks and slices are read on demand.

Offsets are computed and checksums verified here only. Uses the standard library only.
"""

import io
import os
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from ldcodec.bitstream.layout import Entry, Header, Layout, read_layout
from ldcodec.bitstream.slices import Span, spans_of
from ldcodec.errors import DamagedError

FIRST_BYTES = 1 << 12  # of the first read: nearly every header fits
LARGEST_HEADER = 1 << 19  # bytes, more than the tables of 4096 chunks and 16384 slices take


@dataclass(frozen=True)
class Chunk:
    """Data that accompanies the picture. `kind` is four ASCII letters; readers may skip a lower-case first letter."""

    kind: str
    data: bytes


@dataclass(frozen=True)
class Slice:
    """A group of latent rows (a multiple of 4), its entropy-coded symbols, and the CRC-32 of the decoded symbols."""

    rows: int
    payload: bytes
    symbols_crc: int


MAX_LISTED = 8  # damaged parts that one message lists


@dataclass(frozen=True)
class Damage:
    """A truncated or altered part of a file: its name, the reason, and the slice number from 0 if it is a slice."""

    part: str
    reason: str
    slice: int | None = None

    def __str__(self) -> str:
        return f"{self.part} is {self.reason}"


class Reader:
    """An open file. `header`, `layout` and `spans` are known at once, everything else is read on demand.

    `length` is the file's length in bytes, `bytes_read` counts what was read from the stream so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """Parse the header and tables of a binary, seekable stream.

        Raises FormatError for another kind of file, and DamagedError if the header is damaged.
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
        return self.layout.header

    @property
    def lossless(self) -> bool:
        """Whether a chunk stores the picture losslessly, so that no model is needed."""
        return self.layout.lossless

    @property
    def chunk_count(self) -> int:
        return len(self._chunks)

    def chunk_kind(self, number: int) -> str:
        """The type of a chunk, numbered from 0, from the tables."""
        return self.layout.entries[self._chunks[number]].kind

    def chunk_length(self, number: int) -> int:
        """Length of a chunk in bytes, from the tables."""
        return self.layout.entries[self._chunks[number]].length

    def chunk(self, number: int) -> Chunk:
        """Read a chunk, numbered from 0. Raises DamagedError."""
        place = self._chunks[number]
        return Chunk(self.layout.entries[place].kind, self._content(place))

    def slice(self, number: int) -> Slice:
        """Read a slice, numbered from 0 at the top. Raises DamagedError."""
        place = self._slices[number]
        entry = self.layout.entries[place]
        return Slice(entry.rows, self._content(place), entry.symbols_crc)

    def payload_length(self, number: int) -> int:
        """Length of a slice's payload in bytes, from the tables."""
        return self.layout.entries[self._slices[number]].length

    def holds_a_slice(self) -> bool:
        """Whether the file is long enough to hold at least one of its slices."""
        return any(self._offsets[place + 1] <= self.length for place in self._slices)

    def load(self) -> None:
        """Read the whole file into memory, so that checking and decoding it fetch each byte once."""
        data = self._read(0, self.layout.end)
        self._stream = io.BytesIO(data)

    def damage(self) -> list[Damage]:
        """List every chunk and slice that is truncated or altered; reads the whole file, one part at a time."""
        damages = [damage for place in range(len(self.layout.entries)) if (damage := self._verified(place)[0])]
        if not damages and self.layout.problem(self.length) is not None:
            damages.append(Damage("the end of the file", f"followed by {self.length - self.layout.end} foreign bytes"))
        return damages

    def check(self) -> None:
        """Verify the length and every part of the file. Raises DamagedError for the first that is wrong."""
        self.check_length()
        for place in range(len(self.layout.entries)):
            self._content(place)

    def check_length(self) -> None:
        """Raise DamagedError unless the file is as long as its tables say; nothing is read."""
        problem = self.layout.problem(self.length)
        if problem is not None:
            raise DamagedError(problem)

    def _beginning(self) -> bytes:
        """Read the start of the file, at least up to the end of the header."""
        data = self._read(0, FIRST_BYTES)
        while len(data) < min(self.length, LARGEST_HEADER) and not self._holds_header(data):
            data += self._read(len(data), 3 * len(data))  # four times as many bytes at each attempt
        return data

    def _holds_header(self, data: bytes) -> bool:
        """Whether the header ends within these bytes. Damage looks like a missing end until the last attempt."""
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
        damage, content = self._verified(place)
        if damage is not None:
            raise DamagedError(str(damage))
        return content

    def _verified(self, place: int) -> tuple[Damage | None, bytes]:
        entry = self.layout.entries[place]
        if self._offsets[place + 1] > self.length:  # before memory for the claimed length is allocated
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
        """The name of a slice in messages, with its rows of the picture."""
        first, end = self.spans[number].pixel_rows(self.header.height)
        return f"slice {number + 1} of {len(self.spans)} (rows {first} to {end - 1})"
