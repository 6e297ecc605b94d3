"""Files made to do harm: their checksums are right and what they say is not. Each ends in one line, at once.

What the container alone refuses stands in test_container.py, what chunks may hold in test_chunks.py; here are files
that go for the commands: for their time, their memory, their messages, and the decoders behind the checksums.
"""

import resource
import struct
import time
import warnings
import zlib
from collections.abc import Callable
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

SECONDS = 1.0  # of processor time a command may take
MEGABYTES = 250  # of memory it may add to the largest amount before
LARGEST = (1 << 32) - 1
INFO, VERIFY, DECOMPRESS = ["info"], ["verify"], ["decompress"]
VIEWS = [["decompress", "--salvage"], ["decompress", "--scale", "1/16"], ["decompress", "--region", "0,0,1,1"]]
WAYS = [INFO, VERIFY, ["verify", "--quick"], DECOMPRESS, *VIEWS]


def table(chunk_lengths: list[int], slice_lengths: list[int], body: bytes = b"", kind: bytes = b"note") -> bytes:
    """A file of the extended form, 16 pixels wide and 64 high a slice, that claims these lengths."""
    height = varint(64 * max(1, len(slice_lengths)))
    parts = [start(EXTENDED, height=height), varint(len(chunk_lengths)), varint(len(slice_lengths))]
    parts += [kind + varint(length) + bytes(4) for length in chunk_lengths]
    parts += [b"\4" + varint(length) + bytes(8) for length in slice_lengths]
    return with_header_crc(b"".join(parts), body)


def sized(width: int, height: int) -> bytes:
    """A file of the simple form that claims a size."""
    return with_header_crc(start(width=varint(width), height=varint(height)) + CRCS, b"x")


def unchecked(value: Container, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file that no writer would write."""
    with monkeypatch.context() as patch:
        patch.setattr(layout, "_check_fields", lambda header, entries: None)
        return container.write(value)


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
    """What a command said that failed: one printable line."""
    assert code == 1, (code, out, err)
    assert (out + err).count("\n") == 1 and (out + err)[:-1].isprintable(), (out, err)
    return out + err


def at_once(run: Callable[[], tuple[int, str, str]]) -> tuple[int, str, str]:
    """What a command did, within the limits of time and memory."""
    before, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    done = run()
    seconds = time.process_time() - clock
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert seconds < SECONDS and grown < MEGABYTES << 10, (seconds, grown)
    return done


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("name", HEADERS)
def test_headers(name: str, call: Call) -> None:
    """No command believes a word, and nothing is left behind."""
    Path("bad.ldc").write_bytes(HEADERS[name])
    for way in WAYS:
        assert "bad.ldc: " in one_line(*at_once(lambda: call(*way, "bad.ldc")))  # noqa: B023
    assert [path.name for path in Path().iterdir()] == ["bad.ldc"]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("name", LENGTHS)
def test_lengths(name: str, call: Call) -> None:
    """Salvage, which is to bear damage, finds nothing intact."""
    Path("bad.ldc").write_bytes(LENGTHS[name])
    for way in WAYS:
        assert "bad.ldc: " in one_line(*at_once(lambda: call(*way, "bad.ldc")))  # noqa: B023
    assert [path.name for path in Path().iterdir()] == ["bad.ldc"]


@pytest.mark.parametrize("extra", [1, 100_000])
def test_trailing_bytes(call: Call, extra: int) -> None:
    data = encode(texture(20, 30), lossless=True)
    Path("bad.ldc").write_bytes(data + bytes(extra))
    for way in (INFO, VERIFY, DECOMPRESS):
        one_line(*at_once(lambda: call(*way, "bad.ldc")))  # noqa: B023
    code, _, err = call("decompress", "--salvage", "bad.ldc")
    assert code == 0 and f"followed by {extra} foreign bytes" in err


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


@pytest.mark.parametrize("quality", [0, 4095])
@pytest.mark.parametrize("name", payloads())
def test_payloads(name: str, quality: int, call: Call, model: Model) -> None:
    """The range coder is fed what no encoder wrote, whatever the symbols' checksum; a slice with it is no slice."""
    payload = payloads()[name]
    header = Header(150, 130, quality, False, model.parse_id)
    value = Container(header, tuple(Slice(4, payload, zlib.crc32(payload)) for _ in range(3)))
    Path("bad.ldc").write_bytes(container.write(value))
    assert call("info", "bad.ldc")[0] == 0
    for way in (VERIFY, DECOMPRESS, *VIEWS[1:]):
        one_line(*at_once(lambda: call(*way, "bad.ldc")))  # noqa: B023
    assert not list(Path().glob("*.png"))


def png(
    *parts: tuple[bytes, bytes], size: tuple[int, int] = (7, 5), depth: int = 8, rows: bytes | None = None
) -> bytes:
    """A PNG of grey pixels with more chunks before its pixels."""
    width, height = size
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * height) if rows is None else rows)
    listed = [(b"IHDR", header), *parts, (b"IDAT", pixels), (b"IEND", b"")]
    framed = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in listed]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


BOMB = zlib.compress(bytes(1 << 28), 9)  # 256 MB in 260 kB


def webp(**changes: bytes) -> bytes:
    """Lossless WebP of 7×5 grey pixels, bytes of it replaced: at … = b"…"."""
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


@pytest.mark.parametrize("name", WHOLES)
def test_pictures_without_loss_that_are_none(name: str, call: Call) -> None:
    kind, data = WHOLES[name]
    value = Container(Header(7, 5, 0, True, bytes(8)), (Slice(4, b"", 0),), (Chunk(kind, data),))
    Path("bad.ldc").write_bytes(container.write(value))
    assert at_once(lambda: call("info", "bad.ldc"))[0] == 0
    for way in (DECOMPRESS, *VIEWS):
        assert f"chunk {kind}: its" in one_line(*at_once(lambda: call(*way, "bad.ldc")))  # noqa: B023
    assert [path.name for path in Path().iterdir()] == ["bad.ldc"]


@pytest.mark.parametrize("name", WHOLES)
def test_alpha_that_is_none(name: str, call: Call, model: Model) -> None:
    """Refused before anything is decoded that the codec wrote."""
    kind, data = WHOLES[name]
    coding = {"PNGI": b"\1", "WEBP": b"\0"}[kind]
    source = container.read(encode(np.full((5, 7), 9, np.uint8), quality=50, fallback=False, model=model))
    value = Container(source.header, source.slices, (Chunk("ALPH", coding + data),))
    Path("bad.ldc").write_bytes(container.write(value))
    for way in (DECOMPRESS, *VIEWS):
        assert "chunk ALPH: its" in one_line(*at_once(lambda: call(*way, "bad.ldc")))  # noqa: B023


def test_the_frame_of_the_pictures_is_sound(call: Call) -> None:
    """What the hostile ones differ from is a picture."""
    for kind, data in (("PNGI", png()), ("WEBP", webp())):
        value = Container(Header(7, 5, 0, True, bytes(8)), (Slice(4, b"", 0),), (Chunk(kind, data),))
        Path(f"{kind}.ldc").write_bytes(container.write(value))
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


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif", "ppm"])
@pytest.mark.parametrize("name", TEXTS)
def test_metadata_never_cost_the_picture(name: str, extension: str, call: Call) -> None:
    """They are passed on or left out with a warning: the picture is whole, in every format."""
    kind, data = TEXTS[name]
    whole = Chunk("WEBP", webp())
    value = Container(Header(7, 5, 0, True, bytes(8)), (Slice(4, b"", 0),), (Chunk(kind, data), whole))
    Path("odd.ldc").write_bytes(container.write(value))
    code, _, err = at_once(lambda: call("decompress", "odd.ldc", "-o", f"odd.{extension}"))
    assert code == 0, err
    assert all(line.startswith("warning: odd.ldc: ") and line.isprintable() for line in err.splitlines())
    with warnings.catch_warnings(action="ignore"), Image.open(f"odd.{extension}") as image:  # it warns of damaged Exif
        assert image.size == (7, 5)
        assert abs(int(np.asarray(image.convert("L"))[2, 3]) - 9) <= 1
