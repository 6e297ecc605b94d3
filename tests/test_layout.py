"""A second reader of .ldc files, written from docs/bitstream.md alone, reads what the program writes.

It shares no code with the package, so one of these tests fails wherever document and program differ.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NoReturn

import numpy as np
import pytest

from ldcodec.bitstream import container, slices
from ldcodec.bitstream.reader import Chunk
from ldcodec.codec import encode
from ldcodec.encoder.ratecontrol import Coded
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.errors import FormatError
from ldcodec.nets.model import Model
from tests.pictures import texture

pytestmark = pytest.mark.usefixtures("without_patches")


class NoFile(Exception):
    """A file that a reader must refuse, according to the document."""


def refuse(why: str) -> NoReturn:
    raise NoFile(why)


@dataclass
class Part:
    """A chunk (kind) or a slice (rows, symbols CRC), and its bytes."""

    data: bytes
    kind: str = ""
    rows: int = 0
    symbols_crc: int = 0


@dataclass
class Layout:
    """Everything that a file says without a model."""

    width: int
    height: int
    index: int
    grey: bool
    trellis: bool
    extended: bool
    parse_id: bytes
    depth: int = 8
    chunks: list[Part] = field(default_factory=list)
    slices: list[Part] = field(default_factory=list)


def crc32(data: bytes) -> int:
    """Polynomial 0x04C11DB7 reflected, initial value and final exclusive-or 0xFFFFFFFF."""
    reflected = int(f"{0x04C11DB7:032b}"[::-1], 2)
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (reflected if value & 1 else 0)
    return value ^ 0xFFFFFFFF


class Fields:
    """The fields of a file, read one after another."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def bytes(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count : self.place] if self.place <= len(self.data) else refuse("cut short")

    def number(self, layout: str) -> int:
        value: int = struct.unpack("<" + layout, self.bytes(struct.calcsize("<" + layout)))[0]
        return value

    def varint(self) -> int:
        value = 0
        for group in range(5):
            byte = self.number("B")
            value |= (byte & 0x7F) << 7 * group
            if byte < 0x80:
                return value if value < 1 << 32 and (byte or not group) else refuse("no valid varint")
        refuse("a varint of more than five bytes")


def layout_of(data: bytes) -> Layout:
    """Steps 1 to 6 of "Reading a file"."""
    fields = Fields(data)
    if fields.bytes(4) != b"\x8aLDC" or fields.number("B") != 1:
        refuse("magic or version")
    word = fields.number("H")
    extended, grey, trellis = (bool(word & flag) for flag in (0x8000, 0x4000, 0x2000))
    parse_id = fields.bytes(8)
    layout = Layout(fields.varint(), fields.varint(), word & 0xFFF, grey, trellis, extended, parse_id)
    if word & 0x1000:
        layout.depth = fields.number("B")
    lengths = extended_tables(fields, layout) if layout.extended else simple_table(fields, layout)
    if crc32(data[: fields.place]) != fields.number("I"):
        refuse("header CRC")
    if word & 0x1000 and not 9 <= layout.depth <= 16:
        refuse("depth")
    check_limits(layout)
    parts = layout.chunks + layout.slices
    if not layout.extended:
        lengths = [(len(data) - fields.place, lengths[0][1])]
    for part, (length, crc) in zip(parts, lengths, strict=True):
        part.data = fields.bytes(length)
        if crc32(part.data) != crc:
            refuse("CRC of a part")
    return layout if fields.place == len(data) else refuse("foreign bytes at the end")


def simple_table(fields: Fields, layout: Layout) -> list[tuple[int, int]]:
    symbols_crc, payload_crc = fields.number("I"), fields.number("I")
    layout.slices.append(Part(b"", rows=4 * -(-layout.height // 64), symbols_crc=symbols_crc))
    return [(0, payload_crc)]


def extended_tables(fields: Fields, layout: Layout) -> list[tuple[int, int]]:
    """The length and CRC of each chunk and slice."""
    chunks, slices = fields.varint(), fields.varint()
    if chunks > 4096 or not 1 <= slices <= 16384:
        refuse("counts")
    found = []
    for _ in range(chunks):
        layout.chunks.append(Part(b"", kind=fields.bytes(4).decode("latin-1")))
        found.append((fields.varint(), fields.number("I")))
    for _ in range(slices):
        rows, length = fields.varint(), fields.varint()
        layout.slices.append(Part(b"", rows=rows, symbols_crc=fields.number("I")))
        found.append((length, fields.number("I")))
    return found


def check_limits(layout: Layout) -> None:
    """Check sizes, chunk types and latent rows. This reader knows no chunk types, so critical ones are refused."""
    width, height = layout.width, layout.height
    if not (1 <= width <= 1 << 20 and 1 <= height <= 1 << 20 and width * height <= 1 << 30):
        refuse("size")
    for chunk in layout.chunks:
        if not (chunk.kind.isascii() and chunk.kind.isalpha()) or chunk.kind[0].isupper():
            refuse("chunk type")
    rows = [piece.rows for piece in layout.slices]
    if any(count < 4 or count % 4 for count in rows) or sum(rows) != 4 * -(-height // 64):
        refuse("latent rows")


def sliced(model: Model) -> bytes:
    """A file of five slices and two chunks."""
    encoder = SlicedEncoder(texture(600, 150), model)
    encoder.spans = slices.cut(150, 600, area=8 * 12)
    written: Coded = encoder.code(1800)
    return container.write(replace(written.container, chunks=(Chunk("note", b"noon"), Chunk("eMPT", b""))))


def scalar(model: Model) -> bytes:
    source = container.read(encode(texture(40, 90), quality=50, model=model))
    return container.write(replace(source, header=replace(source.header, trellis=False)))


Maker = Callable[[Model], bytes]
MAKERS: dict[str, Maker] = {
    "rgb": lambda model: encode(texture(130, 200), quality=40, model=model),
    "grey": lambda model: encode(texture(70, 65)[:, :, 0], quality=30, model=model),
    "deep": lambda model: encode(texture(70, 65).astype(np.uint16) * 250, quality=90, model=model),
    "one pixel": lambda model: encode(np.array([[[0, 0, 9]]], np.uint8), quality=0, model=model),
    "without a trellis": scalar,
    "slices": sliced,
}


def test_the_checksum_is_the_documented_one() -> None:
    assert crc32(b"123456789") == 0xCBF43926 and crc32(b"") == 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_reader_made_from_the_document_reads_what_the_program_writes(model: Model, name: str) -> None:
    data = MAKERS[name](model)
    found, known = layout_of(data), container.read(data)
    header = known.header
    assert (found.width, found.height, found.index, found.grey, found.trellis, found.depth) == (
        header.width, header.height, header.quality, header.grey, name != "without a trellis", header.depth,
    )  # fmt: skip
    assert header.depth == (16 if name == "deep" else 8)
    assert found.parse_id == model.parse_id and found.extended == (name == "slices")
    assert [(chunk.kind, chunk.data) for chunk in found.chunks] == [(chunk.kind, chunk.data) for chunk in known.chunks]
    assert [(piece.rows, piece.data, piece.symbols_crc) for piece in found.slices] == [
        (piece.rows, piece.payload, piece.symbols_crc) for piece in known.slices
    ]


def test_slices_are_laid_out_as_documented(model: Model) -> None:
    found = layout_of(sliced(model))
    assert [piece.rows for piece in found.slices] == [8, 8, 8, 8, 8] and len(found.chunks) == 2
    assert all(len(piece.data) > 16 for piece in found.slices)


@pytest.mark.parametrize("name", MAKERS)
def test_both_readers_refuse_the_same(model: Model, name: str) -> None:
    """Every cut of the header and a change of each of its bytes: as damage, and with a new header CRC as a lie."""
    data = MAKERS[name](model)
    end = len(data) - sum(len(piece.payload) for piece in container.read(data).slices)
    cases = [data[:length] for length in range(0, end + 1)]
    for place in range(end):
        for change in (0x01, 0x80):
            bad = data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]
            cases.append(bad)
            if name != "slices":
                cases.append(bad[: end - 4] + struct.pack("<I", crc32(bad[: end - 4])) + bad[end:])
    verdicts = [(accepts(layout_of, NoFile, case), accepts(container.read, FormatError, case)) for case in cases]
    assert all(mine == theirs for mine, theirs in verdicts)
    assert sum(mine for mine, _ in verdicts) < len(cases) / 2


def accepts(read: Callable[[bytes], object], refusal: type[Exception], data: bytes) -> bool:
    try:
        read(data)
    except refusal:
        return False
    return True
