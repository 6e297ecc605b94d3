"""The container: what is written can be read again, and nothing that is cut, changed or lying passes for a picture."""

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldcodec.bitstream import container, layout
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Cursor, Header, varint
from ldcodec.bitstream.reader import Chunk, Slice
from ldcodec.errors import DamagedError, FormatError

PARSE_ID = bytes(range(1, 9))
DOCUMENT = Path(__file__).parent.parent / "docs" / "bitstream.md"


def simple(
    width: int = 100, height: int = 70, payload: bytes = b"payload", grey: bool = False, **more: Any
) -> Container:
    """A container of one slice and no chunks. more: trellis and depth of the header."""
    rows = layout.latent_size(width, height)[0]
    return Container(Header(width, height, 2000, grey, PARSE_ID, **more), (Slice(rows, payload, 0xDEADBEEF),))


def extended() -> Container:
    """A container of three slices, one of them empty, and two chunks that a reader may skip."""
    slices = (Slice(4, b"top", 1), Slice(8, b"", 2), Slice(4, b"bottom", 3))
    return Container(
        Header(33, 200, 4095, True, PARSE_ID, trellis=True), slices, (Chunk("exif", b"metadata"), Chunk("note", b""))
    )


def test_roundtrip() -> None:
    sizes = [simple(), simple(1, 1), simple(1 << 20, 1), simple(32768, 32768, b"")]
    flags = [simple(grey=True), simple(trellis=True), simple(grey=True, trellis=True)]
    flags += [simple(depth=9), simple(depth=16, grey=True)]
    for value in (*sizes, *flags, extended()):
        assert container.read(container.write(value)) == value


def test_overhead() -> None:
    for side, overhead in [(1, 29), (127, 29), (128, 31), (16383, 31), (16384, 33)]:
        assert len(container.write(simple(side, side, b"12345"))) - 5 == overhead
        assert len(container.write(simple(side, side, b"12345", depth=10))) - 5 == overhead + 1


def test_header_needs_no_payload() -> None:
    for value in (simple(), extended()):
        data = container.write(value)
        header_end = data.index(b"payload" if not value.chunks else b"metadata")
        assert layout.read_layout(data[:header_end], len(data[:header_end])).header == value.header
        with pytest.raises(DamagedError):
            layout.read_layout(data[: header_end - 1], header_end - 1)


@pytest.mark.parametrize(
    "value", [simple(), simple(1, 1, b""), simple(depth=12), extended()], ids=["simple", "empty", "deep", "extended"]
)
def test_every_cut_is_refused(value: Container) -> None:
    data = container.write(value)
    for length in range(len(data)):
        with pytest.raises(FormatError) as caught:
            container.read(data[:length])
        assert length == 0 or isinstance(caught.value, DamagedError), length
    with pytest.raises(DamagedError):
        container.read(data + b"\0")


@pytest.mark.parametrize(
    "value", [simple(), simple(1, 1, b""), simple(depth=12), extended()], ids=["simple", "empty", "deep", "extended"]
)
def test_every_change_of_a_byte_is_refused(value: Container) -> None:
    data = container.write(value)
    for position in range(len(data)):
        for byte in set(range(256)) - {data[position]}:
            changed = data[:position] + bytes([byte]) + data[position + 1 :]
            with pytest.raises(FormatError):
                container.read(changed)


def test_every_swap_of_two_bytes_is_refused() -> None:
    data = container.write(extended())
    for i in range(len(data)):
        for j in range(i):
            swapped = bytearray(data)
            swapped[i], swapped[j] = data[j], data[i]
            if swapped != data:
                with pytest.raises(FormatError):
                    container.read(bytes(swapped))


def test_other_files_are_refused() -> None:
    for data in (b"", b"\x89PNG\r\n\x1a\n" + bytes(40), b"text, not a picture", b"\x8aLDX" + bytes(40), b"\x8b"):
        with pytest.raises(FormatError) as caught:
            container.read(data)
        assert not isinstance(caught.value, DamagedError)


def test_magic_is_not_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        layout.MAGIC.decode()


def with_header_crc(data: bytes, payload: bytes) -> bytes:
    """The file of which `data` is the header without its CRC-32."""
    return data + struct.pack("<I", zlib.crc32(data)) + payload


def start(word: int = 0, width: bytes = b"\x10", height: bytes = b"\x10", version: int = 1) -> bytes:
    """The fields before the CRCs or the tables."""
    return layout.MAGIC + struct.pack("<BH", version, word) + PARSE_ID + width + height


CRCS = bytes(4) + struct.pack("<I", zlib.crc32(b"x"))
EXTENDED = layout.FLAG_EXTENDED


def lying_headers() -> Iterator[tuple[str, bytes]]:
    """Headers with the right CRC-32 and wrong fields, each with a part of the error message that is due."""
    yield "another version", start(version=2) + CRCS
    yield "another version", start(version=0) + CRCS
    for depth in (0, 7, 8, 17, 255):
        yield "newer version", start(layout.FLAG_DEEP) + bytes([depth]) + CRCS
    yield "0x16 pixels", start(width=b"\0") + CRCS
    yield "beyond the limit", start(width=varint((1 << 20) + 1)) + CRCS
    yield "beyond the limit", start(width=varint(1 << 16), height=varint(1 << 15)) + CRCS
    yield "shortest form", start(width=b"\x90\x00") + CRCS
    yield "shortest form", start(width=b"\xff\xff\xff\xff\x7f") + CRCS
    yield "shortest form", start(width=b"\xff\xff\xff\xff\xff\x01") + CRCS
    yield "do not cover", start(EXTENDED) + b"\0\0"
    yield "do not cover", start(EXTENDED) + b"\0\1\5\1" + CRCS
    yield "do not cover", start(EXTENDED) + b"\0\2" + b"\4\1" + CRCS + b"\4\1" + CRCS
    yield "do not cover", start(EXTENDED) + b"\0\2" + b"\0\1" + CRCS + b"\4\1" + CRCS
    yield "type CODE is unknown", start(EXTENDED) + b"\1\1" + b"CODE\0\0\0\0\0" + b"\4\1" + CRCS
    yield "ASCII letters", start(EXTENDED) + b"\1\1" + b"no 1\0\0\0\0\0" + b"\4\1" + CRCS
    yield "counts", start(EXTENDED) + b"\0" + varint(layout.MAX_SLICES + 1)
    yield "counts", start(EXTENDED) + varint(layout.MAX_CHUNKS + 1) + b"\0"
    yield "cut short", start(EXTENDED) + b"\0" + varint(layout.MAX_SLICES) + b"\4\1" + CRCS
    yield "instead of", start(EXTENDED) + b"\0\1\4" + varint((1 << 32) - 1) + CRCS


def test_lying_headers_are_refused() -> None:
    for message, fields in lying_headers():
        with pytest.raises(FormatError, match=re.escape(message)):
            container.read(with_header_crc(fields, b"x"))


def test_handmade_headers_are_sound() -> None:
    """The frame of the lying headers is right: with honest fields the same bytes are read."""
    assert container.read(with_header_crc(start() + CRCS, b"x")).slices == (Slice(4, b"x", 0),)
    assert container.read(with_header_crc(start(EXTENDED) + b"\0\1\4\1" + CRCS, b"x")).slices == (Slice(4, b"x", 0),)


def test_write_refuses_what_fields_cannot_hold() -> None:
    piece = Slice(4, b"", 0)
    headers = [Header(0, 5, 0, False, PARSE_ID), Header(1 << 20, 1 << 11, 0, False, PARSE_ID)]
    headers += [Header(5, 5, 4096, False, PARSE_ID), Header(5, 5, 0, False, b"short")]
    headers += [Header(5, 5, 0, False, PARSE_ID, depth=depth) for depth in (0, 7, 17)]
    sound = Header(5, 5, 0, False, PARSE_ID)
    wrong = [Container(header, (piece,)) for header in headers]
    wrong += [Container(sound, (Slice(8, b"", 0),)), Container(sound, ())]
    for value in [*wrong, Container(sound, (piece,), (Chunk("bad!", b""),))]:
        with pytest.raises(FormatError):
            container.write(value)


def test_unknown_chunks_follow_their_first_letter() -> None:
    optional = Container(simple().header, simple().slices, (Chunk("nEWS", b"?"),))
    assert container.read(container.write(optional)).chunks == optional.chunks
    critical = Container(simple().header, simple().slices, (Chunk("News", b"?"),))
    with pytest.raises(FormatError, match="newer version"):
        container.read(container.write(critical))


def test_varint() -> None:
    for value in (0, 1, 127, 128, 16383, 16384, 1 << 20, (1 << 28) - 1, 1 << 28, (1 << 32) - 1):
        data = varint(value)
        assert len(data) == max(1, -(-value.bit_length() // 7))
        cursor = Cursor(data + b"\xff")
        assert cursor.varint() == value
        assert cursor.position == len(data)


def test_varint_has_limits() -> None:
    for value in (-1, 1 << 32):
        with pytest.raises(ValueError, match="varint"):
            varint(value)


def test_sizes() -> None:
    for size, latent, coded in [
        ((1, 1), (4, 4), (1, 1)),
        ((64, 65), (8, 4), (5, 4)),
        ((768, 512), (32, 48), (32, 48)),
        ((17, 129), (12, 4), (9, 2)),
    ]:
        assert layout.latent_size(*size) == latent
        assert layout.coded_size(*size) == coded


def test_describe() -> None:
    value = extended()
    data = container.write(value)
    fields = container.info(data, "a.ldc")
    assert (fields["name"], fields["width"], fields["height"], fields["grey"]) == ("a.ldc", 33, 200, True)
    assert (fields["alpha"], fields["lossless"], fields["trellis"]) == (False, False, True)
    assert (fields["quality_index"], fields["quality"], fields["parse_id"]) == (4095, 100.0, PARSE_ID.hex())
    assert (fields["version"], fields["bytes"], fields["payload_bytes"]) == (1, len(data), 9)
    assert fields["overhead_bytes"] == len(data) - 9
    assert fields["bpp"] == pytest.approx(8 * len(data) / 6600, abs=1e-6)
    assert fields["chunks"] == [{"kind": "exif", "bytes": 8}, {"kind": "note", "bytes": 0}]
    assert fields["slices"] == [
        {"rows": 4, "bytes": 3, "symbols_crc": "00000001"},
        {"rows": 8, "bytes": 0, "symbols_crc": "00000002"},
        {"rows": 4, "bytes": 6, "symbols_crc": "00000003"},
    ]
    assert "name" not in container.info(data)


def test_standard_library_only() -> None:
    show = "print(*{m.split('.')[0] for m in sys.modules} - sys.stdlib_module_names)"
    code = f"import sys, ldcodec.bitstream.container; {show}"
    root = DOCUMENT.parent.parent
    found = subprocess.run([sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True)
    assert set(found.stdout.split()) - {"__main__"} == {"ldcodec"}, found.stderr


def documented_bytes(heading: str) -> bytes:
    """The hexadecimal column of the worked example under `heading` in docs/bitstream.md."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"### {heading}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `([0-9a-f ]+)` \|", section, re.MULTILINE)
    return bytes.fromhex(" ".join(rows))


def test_documented_simple_example() -> None:
    header = Header(768, 512, 1640, False, bytes.fromhex("0123456789abcdef"))
    value = Container(header, (Slice(32, bytes.fromhex("c0ffee"), 0x11223344),))
    assert container.write(value) == documented_bytes("Simple form")
    assert container.read(documented_bytes("Simple form")) == value


def test_documented_extended_example() -> None:
    header = Header(20, 100, 1640, True, bytes.fromhex("0123456789abcdef"))
    slices = (Slice(4, bytes.fromhex("aabb"), 0x11223344), Slice(4, bytes.fromhex("cc"), 0x55667788))
    value = Container(header, slices, (Chunk("note", b"hi"),))
    assert container.write(value) == documented_bytes("Extended form")
    assert container.read(documented_bytes("Extended form")) == value


def test_documented_checksums_are_right() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    documented = re.findall(r"`([0-9a-f ]{11})` \|[^|]* CRC 0x([0-9A-F]{8})(?:, of the (\d+) bytes above)?", text)
    assert len(documented) == 15
    for stored, value, covered in documented:
        assert bytes.fromhex(stored) == bytes.fromhex(value)[::-1]
        if covered:
            heading = {27: "Simple form", 48: "Extended form", 56: "A picture without loss"}[int(covered)]
            assert zlib.crc32(documented_bytes(heading)[: int(covered)]) == int(value, 16)
