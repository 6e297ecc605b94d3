"""Files made to do harm: their checksums are right, and what they say is not. Each is refused at once, in one line.

test_container.py has what the container itself refuses, and test_chunks.py what chunks may hold. The files here attack
the commands: their time, their memory, their messages, and the decoders behind the checksums. Time and memory depend on
the machine, so one test measures them at night.
"""

import resource
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldcodec.bitstream import chunktypes, container, layout
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header, u32, varint
from ldcodec.bitstream.reader import Chunk, Slice
from ldcodec.codec import encode
from ldcodec.nets.model import Model
from ldcodec.pictures import planes
from tests.commands import Call
from tests.pictures import texture
from tests.test_container import CRCS, EXTENDED, simple, start, with_header_crc

LARGEST = (1 << 32) - 1
INFO, VERIFY, DECOMPRESS = ["info"], ["verify"], ["decompress"]
VIEWS = [["decompress", "--salvage"], ["decompress", "--scale", "1/16"], ["decompress", "--region", "0,0,1,1"]]
WAYS = [INFO, VERIFY, ["verify", "--quick"], DECOMPRESS, *VIEWS]


def table(chunk_lengths: list[int], slice_lengths: list[int], body: bytes = b"", kind: bytes = b"note") -> bytes:
    """A file in extended form, 16 pixels wide with 64 rows per slice, that claims these lengths."""
    height = varint(64 * max(1, len(slice_lengths)))
    parts = [start(EXTENDED, height=height), varint(len(chunk_lengths)), varint(len(slice_lengths))]
    parts += [kind + varint(length) + bytes(4) for length in chunk_lengths]
    parts += [b"\4" + varint(length) + bytes(8) for length in slice_lengths]
    return with_header_crc(b"".join(parts), body)


def sized(width: int, height: int) -> bytes:
    """A file in simple form that claims a size."""
    return with_header_crc(start(width=varint(width), height=varint(height)) + CRCS, b"x")


HEADERS: dict[str, bytes] = {
    "nothing": b"",
    "magic alone": layout.MAGIC,
    "numbers without end": layout.MAGIC + b"\1" + b"\x80" * 600_000,
    "tables without end": start(EXTENDED) + varint(4096) + varint(16384) + b"note\1\0\0\0\0" * 60_000,
    "no width": sized(0, 9),
    "no height": sized(9, 0),
    "largest numbers": sized(LARGEST, LARGEST),
    "sides allowed, area not": sized(1 << 20, 1 << 20),
    "area that is 0 in 32 bits": sized(1 << 16, 1 << 16),
    "16385 slices": table([], [0] * 16_385),
    "4097 chunks": table([0] * 4097, [0]),
    "no slices": table([0], []),
    "rows that are right in 32 bits": with_header_crc(
        start(EXTENDED) + b"\0\2" + varint(LARGEST - 3) + b"\1" + CRCS + b"\x08\1" + CRCS, b"xx"
    ),
    "chunk that erases the screen": table([0], [0], kind=b"\x1b[2J"),
    "chunk type beyond ASCII": table([0], [0], kind="éé".encode()),
    "chunk that must be understood": table([0], [0], kind=b"EVIL"),
    "alpha twice": table([1, 1], [0], b"xx", kind=b"ALPH"),
    "a picture without loss twice": table([1, 1], [0], b"xx", kind=b"WEBP"),
    "a picture without loss beside a model": table([1], [0], b"x", kind=b"WEBP"),
}

LENGTHS: dict[str, bytes] = {
    "chunk beyond the file": table([LARGEST], [0]),
    "every chunk beyond the file": table([LARGEST] * 4096, [0], bytes(100)),
    "slice beyond the file": table([], [LARGEST], bytes(100)),
    "every slice beyond the file": table([], [LARGEST] * 16_384, bytes(100)),
    "two chunks that claim the same bytes": table([100, 100], [0], bytes(100)),
    "two slices that claim the same bytes": table([], [100, 100], bytes(100)),
    "a chunk and a slice that claim the same bytes": table([100], [100], bytes(100)),
    "every slice altered": table([], [1] * 16_384, b"x" * 16_384),
}


def one_line(code: int, out: str, err: str) -> str:
    """The output of a command that failed: one printable line."""
    assert code == 1, (code, out, err)
    assert (out + err).count("\n") == 1 and (out + err)[:-1].isprintable(), (out, err)
    return out + err


def refused(call: Call, ways: list[list[str]], name: str) -> None:
    """Every command refuses bad.ldc and leaves nothing behind."""
    for way in ways:
        assert "bad.ldc: " in one_line(*call(*way, "bad.ldc")), name
    assert [path.name for path in Path().iterdir()] == ["bad.ldc"], name


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_headers(call: Call) -> None:
    """No command believes a word of them."""
    for name, data in HEADERS.items():
        Path("bad.ldc").write_bytes(data)
        refused(call, WAYS, name)


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_lengths(call: Call) -> None:
    """Even salvage, which tolerates damage, finds nothing intact."""
    for name, data in LENGTHS.items():
        Path("bad.ldc").write_bytes(data)
        refused(call, WAYS, name)


def test_trailing_bytes(call: Call) -> None:
    data = encode(texture(20, 30), lossless=True)
    for extra in (1, 100_000):
        Path("bad.ldc").write_bytes(data + bytes(extra))
        refused(call, [INFO, VERIFY, DECOMPRESS], str(extra))
        code, _, err = call("decompress", "--salvage", "bad.ldc")
        assert code == 0 and f"followed by {extra} foreign bytes" in err
        Path("bad.png").unlink()


def payloads() -> dict[str, bytes]:
    noise = np.random.default_rng(0).bytes(200_000)
    return {
        "nothing": b"",
        "no words": noise[:77],
        "zeros": bytes(4000),
        "ones": b"\xff" * 4000,
        "noise": noise[:4000],
        "much noise": noise,
    }


def coded_badly(quality: int, model: Model) -> dict[str, bytes]:
    """Files of three slices with these payloads."""
    header = Header(150, 130, quality, False, model.parse_id, model.coder.trellis is not None)
    return {
        name: container.write(Container(header, tuple(Slice(4, data, zlib.crc32(data)) for _ in range(3))))
        for name, data in payloads().items()
    }


@pytest.mark.parametrize("quality", [0, 4095])
def test_payloads(quality: int, call: Call, either: Model) -> None:
    """Words that no encoder wrote, whatever the checksum of the symbols, make no slice."""
    for name, data in coded_badly(quality, either).items():
        Path("bad.ldc").write_bytes(data)
        assert call("info", "bad.ldc")[0] == 0
        refused(call, [VERIFY, DECOMPRESS, *VIEWS[1:]], name)


def png(
    *parts: tuple[bytes, bytes], size: tuple[int, int] = (7, 5), depth: int = 8, rows: bytes | None = None
) -> bytes:
    """A PNG of grey pixels with more chunks ahead of its pixels."""
    width, height = size
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * height) if rows is None else rows)
    listed = [(b"IHDR", header), *parts, (b"IDAT", pixels), (b"IEND", b"")]
    framed = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in listed]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def bomb(megabytes: int) -> bytes:
    """zlib data of zeros: one compressed megabyte again and again, an empty last block, and Adler-32."""
    packer = zlib.compressobj(9)
    first, again = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + (megabytes - 1) * again + b"\3\0" + struct.pack(">HH", (megabytes << 20) % 65521, 1)


BOMB = bomb(256)  # in 260 kB


def webp(**changes: bytes) -> bytes:
    """Lossless WebP of 7×5 grey pixels, with bytes replaced: `at16=b"…"` replaces those from the 16th on."""
    data = bytearray(planes.webp(np.full((5, 7), 9, np.uint8)))
    for place, content in changes.items():
        at = int(place.removeprefix("at"))
        data[at : at + len(content)] = content
    return bytes(data)


WHOLES: dict[str, tuple[str, bytes]] = {
    "text bomb": ("PNGI", png((b"zTXt", b"a\0\0" + BOMB))),
    "international text bomb": ("PNGI", png((b"iTXt", b"a\0\1\0\0\0" + BOMB))),
    "many texts": ("PNGI", png(*[(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 80)),
    "second header of another size": ("PNGI", png((b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)))),
    "rows that are too few": ("PNGI", png(rows=bytes(9))),
    "filter that does not exist": ("PNGI", png(rows=b"\x77" * 40)),
    "one bit a pixel": ("PNGI", png(depth=1)),
    "sixteen bits a pixel": ("PNGI", png(depth=16, rows=bytes(75))),
    "size of the largest picture": ("PNGI", png(size=(1 << 20, 1 << 10), rows=b"")),
    "a chunk of PNG that is too long": ("PNGI", png()[:8] + b"\x7f\xff\xff\xff" + png()[12:]),
    "length of RIFF": ("WEBP", webp(at4=u32(LARGEST))),
    "no length of RIFF": ("WEBP", webp(at4=u32(0))),
    "length of VP8L": ("WEBP", webp(at16=u32(LARGEST))),
    "another version": ("WEBP", webp(at24=b"\xe0")),
    "noise for codes": ("WEBP", webp(at25=np.random.default_rng(0).bytes(8))),
    "other kind": ("WEBP", b"GIF89a" + bytes(30)),
    "PNG as WebP": ("WEBP", png()),
    "WebP as PNG": ("PNGI", webp()),
    "ldc as WebP": ("WEBP", container.write(simple())),
}


def whole(kind: str, data: bytes) -> bytes:
    """A file that holds a picture of 7×5 grey pixels without loss."""
    return container.write(Container(Header(7, 5, 0, True, bytes(8)), (Slice(4, b"", 0),), (Chunk(kind, data),)))


@pytest.mark.slow
def test_data_that_is_no_picture(call: Call) -> None:
    for name, (kind, data) in WHOLES.items():
        Path("bad.ldc").write_bytes(whole(kind, data))
        assert call("info", "bad.ldc")[0] == 0
        for way in (DECOMPRESS, *VIEWS):
            assert f"chunk {kind}: its" in one_line(*call(*way, "bad.ldc")), name
    assert [path.name for path in Path().iterdir()] == ["bad.ldc"]


def with_alpha(model: Model) -> dict[str, bytes]:
    """Files of the model whose alpha plane is such a picture."""
    source = container.read(encode(np.full((5, 7), 9, np.uint8), quality=50, fallback=False, model=model))
    coding = {"PNGI": b"\1", "WEBP": b"\0"}
    planes = {name: Chunk("ALPH", coding[kind] + data) for name, (kind, data) in WHOLES.items()}
    return {name: container.write(Container(source.header, source.slices, (plane,))) for name, plane in planes.items()}


@pytest.mark.slow
def test_data_that_is_no_alpha(call: Call, model: Model) -> None:
    """It is refused before anything else is decoded."""
    for name, data in with_alpha(model).items():
        Path("bad.ldc").write_bytes(data)
        for way in (DECOMPRESS, *VIEWS):
            assert "chunk ALPH: its" in one_line(*call(*way, "bad.ldc")), name


def test_the_frame_of_the_pictures_is_sound(call: Call) -> None:
    """The hostile pictures are changes of valid ones."""
    for kind, data in (("PNGI", png()), ("WEBP", webp())):
        Path(f"{kind}.ldc").write_bytes(whole(kind, data))
        assert call("decompress", f"{kind}.ldc")[0] == 0


def exif(count: int, kind: int = 2, offset: int = 8) -> bytes:
    """Exif whose only entry claims `count` values of a kind at an offset."""
    return b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x010E, kind, count, offset) + bytes(4)


def deep_exif() -> bytes:
    """Exif whose directories point to themselves."""
    return b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + u32(8)


TEXTS: dict[str, tuple[str, bytes]] = {
    "bomb": ("iccp", b"\1" + BOMB),
    "Exif bomb": ("exif", b"\1" + BOMB),
    "bomb within the limit": ("xmpp", chunktypes.pack(bytes(1 << 24))),
    "nothing": ("exif", b""),
    "empty Exif": ("exif", b"\0"),
    "noise as Exif": ("exif", b"\0" + np.random.default_rng(0).bytes(500)),
    "noise behind a mark": ("exif", b"\0II*\0" + np.random.default_rng(0).bytes(500)),
    "endless values": ("exif", b"\0" + exif(LARGEST)),
    "values beyond the end": ("exif", b"\0" + exif(100, offset=LARGEST)),
    "values of no kind": ("exif", b"\0" + exif(1, kind=99)),
    "a number where text is due": ("exif", b"\0" + exif(1, kind=4, offset=1751477356)),
    "directory in itself": ("exif", b"\0" + deep_exif()),
    "noise as a profile": ("iccp", b"\0" + np.random.default_rng(0).bytes(500)),
    "empty profile": ("iccp", b"\0"),
    "profile that claims its length": ("iccp", b"\0" + struct.pack(">I", LARGEST) + bytes(124)),
    "XMP that is no text": ("xmpp", b"\0" + b"\xff\xfe\x80" * 50),
    "XMP that erases the screen": ("xmpp", b"\0\x1b[2J\0\r\n"),
    "too long for JPEG": ("xmpp", b"\0" + b"x" * 70_000),
}


def with_text(kind: str, data: bytes) -> bytes:
    """A file that holds a picture of 7×5 grey pixels without loss, and metadata."""
    chunks = (Chunk(kind, data), Chunk("WEBP", webp()))
    return container.write(Container(Header(7, 5, 0, True, bytes(8)), (Slice(4, b"", 0),), chunks))


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif", "ppm"])
def test_metadata_never_cost_the_picture(extension: str, call: Call) -> None:
    """Metadata are passed on, or left out with a warning; the picture is whole in every format."""
    for kind, data in TEXTS.values():
        check_metadata(kind, data, extension, call)


def check_metadata(kind: str, data: bytes, extension: str, call: Call) -> None:
    Path("odd.ldc").write_bytes(with_text(kind, data))
    code, _, err = call("decompress", "odd.ldc", "-o", f"odd.{extension}", "--force")
    assert code == 0, err
    assert all(line.startswith("warning: odd.ldc: ") and line.isprintable() for line in err.splitlines())
    with warnings.catch_warnings(action="ignore"), Image.open(f"odd.{extension}") as image:  # it warns of damaged Exif
        assert image.size == (7, 5)
        assert abs(int(np.asarray(image.convert("L"))[2, 3]) - 9) <= 1


@pytest.mark.timing
def test_seconds_and_memory(call: Call, model: Model, scalar_model: Model) -> None:
    """Every file of this module, in every way, within CPU seconds and an addition to the peak memory."""
    files = [*HEADERS.values(), *LENGTHS.values(), *(whole(*data) for data in WHOLES.values())]
    files += [data for quality in (0, 4095) for data in coded_badly(quality, model).values()]
    files += [*coded_badly(4095, scalar_model).values(), *with_alpha(model).values()]
    files += [with_text(*data) for data in TEXTS.values()]
    for data in files:
        Path("bad.ldc").write_bytes(data)
        for way in WAYS:
            before, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            call(*way, "bad.ldc", *(["--force"] if "decompress" in way else []))
            spent = time.process_time() - clock
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert spent < 1 and grown < 250 << 10, (way, data[:100], spent, grown)
