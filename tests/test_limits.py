"""Limits: what claims to be larger than it may or can be is refused before anything of its size is made."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import pytest
from PIL import Image

from ldcodec.bitstream import container, layout, slices
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Slice
from ldcodec.bitstream.slices import Span
from ldcodec.codec import encode
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.tiles import halo_of
from ldcodec.encoder.target import EncodeSettings, Target
from ldcodec.entropy.config import BASE, SMALL, Config
from ldcodec.errors import TooManyPixelsError
from ldcodec.jobs import limits
from ldcodec.nets.model import Model
from ldcodec.pictures.read import read
from tests.commands import Call, error_line
from tests.pictures import texture

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 300e6  # bytes of memory
LONGEST = 10.0  # seconds of CPU, about ten times what it takes

# A process counts the memory of the one that started it as its own peak: a small one stands between.
LAUNCHER = """
import os, sys
process = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(process, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


class Outcome(NamedTuple):
    """How a command in a separate process ended: exit code, standard error, seconds of CPU, peak bytes of memory."""

    code: int
    err: str
    seconds: float
    peak: float


def measured(models: str, *arguments: str | Path) -> Outcome:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LDCODEC_MODELS": models, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ldcodec", *map(str, arguments)]
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, env=environment, capture_output=True, check=True)
    code, seconds, peak = done.stdout.splitlines()[-1].split()
    return Outcome(int(code), done.stderr.decode(), float(seconds), 1024 * float(peak))


def assert_refused_at_once(outcome: Outcome, message: str) -> None:
    """One line, exit code 1, within the limits of time and memory."""
    assert outcome.code == 1 and re.fullmatch(r"ldcodec: error: [^\n]+\n", outcome.err), outcome
    assert message in outcome.err
    assert outcome.seconds < LONGEST and outcome.peak < LARGEST, outcome


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG file, 8-bit RGB, with these compressed rows, true or not."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", rows) + part(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count & (1 << 20) - 1)), packer.flush()])


PNG_BOMBS = {
    "beyond all limits": (100_000, 100_000, 0, "--max-pixels"),
    "beyond the limit": (40_000, 26_000, 1 << 26, "--max-pixels"),
    "beyond its bytes": (30_000, 30_000, 1 << 26, "do not fit"),
    "empty": (30_000, 30_000, 0, "do not fit"),
}


def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a test fails that loads a model, or pixels."""
    for place in ("encoder.library.load_model", "encoder.library.find_model", "pictures.read.read"):
        monkeypatch.setattr(f"ldcodec.{place}", Mock(side_effect=AssertionError(place)))


def test_png_bombs(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_is_loaded(monkeypatch)
    for name, (width, height, count, message) in PNG_BOMBS.items():
        (tmp_path / "bomb.png").write_bytes(png(width, height, zeros(count) if count else b""))
        code, out, err = call("compress", "bomb.png", "--quality", "50", "--model", "tiny")
        assert (code, out) == (1, "") and message in error_line(err), name
        assert not (tmp_path / "bomb.ldc").exists()


def test_true_pngs_are_no_bombs(call: Call, tmp_path: Path) -> None:
    """The densest PNG that there is, and the smallest."""
    (tmp_path / "flat.png").write_bytes(png(600, 700, zeros(1801 * 700)))
    Image.new("1", (1, 1)).save(tmp_path / "dot.png")
    assert call("compress", "flat.png", "dot.png", "--lossless", "--quiet")[::2] == (0, "")


def bombs(model: Model) -> dict[str, tuple[Container, str]]:
    """Files whose checksums are right and whose claims are not, and what is said of them."""
    sound = container.read(encode(texture(64, 64), quality=20, model=model))
    side = 32768  # 2^30 pixels, as many as the format allows
    rows = layout.latent_size(side, side)[0]
    large, allowed = (replace(sound.header, width=side, height=height) for height in (side, 30000))
    spans = slices.cut(side, 30000)
    one = replace(sound.slices[0], rows=rows)
    many = tuple(Slice(span.rows, sound.slices[0].payload[:16], 0) for span in spans)
    least = tuple(Slice(4, b"", 0) for _ in range(layout.latent_size(side, 30000)[0] // 4))
    return {
        "beyond the limit": (Container(large, (one,)), "--max-pixels"),
        "few bytes": (Container(allowed, many), "cannot hold its symbols"),
        "no bytes": (Container(allowed, least), "cannot hold its symbols"),
    }


def test_ldc_bombs(model: Model, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = bombs(model)
    nothing_is_loaded(monkeypatch)
    for name, (file, message) in files.items():
        (tmp_path / "bomb.ldc").write_bytes(container.write(file))
        for command in (["decompress"], ["decompress", "--scale", "1/8"], ["verify"]):
            code, out, err = call(*command, "bomb.ldc")
            assert code == 1 and message in out + err and (out + err).count("\n") == 1, (name, command)
        assert not (tmp_path / "bomb.png").exists()


@pytest.mark.timing
def test_bombs_are_refused_at_once(model: Model, tiny_model: str, tmp_path: Path) -> None:
    """Within the limits of time and memory."""
    for width, height, count, message in PNG_BOMBS.values():
        (tmp_path / "bomb.png").write_bytes(png(width, height, zeros(count) if count else b""))
        arguments = ("compress", tmp_path / "bomb.png", "--quality", "50", "--model", "tiny")
        assert_refused_at_once(measured(tiny_model, *arguments), message)
    for file, message in bombs(model).values():
        (tmp_path / "lying.ldc").write_bytes(container.write(file))
        for command in (["decompress"], ["decompress", "--scale", "1/8"]):
            assert_refused_at_once(measured(tiny_model, *command, tmp_path / "lying.ldc"), message)
        outcome = measured(tiny_model, "verify", tmp_path / "lying.ldc")
        assert outcome.code == 1 and outcome.seconds < LONGEST and outcome.peak < LARGEST, outcome


def test_slices_that_claim_more_than_the_file_holds_are_not_read(model: Model, call: Call, tmp_path: Path) -> None:
    """A table that claims 4 GB, in a file of some bytes."""
    fields = b"\x8aLDC\x01" + struct.pack("<H", 0x8000) + model.parse_id + b"\x40\x40\x00\x01"
    fields += b"\x04\xff\xff\xff\xff\x0f" + bytes(8)
    (tmp_path / "bomb.ldc").write_bytes(fields + struct.pack("<I", zlib.crc32(fields)) + b"abc")
    code, out, err = call("decompress", "bomb.ldc", "--salvage")
    assert (code, out) == (1, "") and "bomb.ldc" in error_line(err)


def test_max_pixels(call: Call, tmp_path: Path, model: Model) -> None:
    Image.fromarray(texture(30, 40)).save(tmp_path / "a.png")
    (tmp_path / "b.ldc").write_bytes(encode(texture(30, 40), quality=50, model=model))
    for arguments in (["compress", "a.png", "--lossless"], ["decompress", "b.ldc"]):
        code, out, err = call(*arguments, "--max-pixels", "1199")
        assert (code, out) == (1, "") and "40x30 pixels are more than the 1199 allowed; --max-pixels" in err
        assert call(*arguments, "--max-pixels", "1200", "--quiet") == (0, "", "")
    assert call("compress", "a.png", "--quality", "50", "--max-pixels", str(2**30 + 1))[0] == 2


def test_missing_memory_is_reported_before_it_is_taken(
    call: Call, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.ldc").write_bytes(encode(texture(30, 40), quality=50, model=model))
    needed = limits.PROGRAM
    for free, code, said in ((None, 0, ""), (10 * needed, 0, ""), (1.5 * needed, 0, "note"), (needed / 2, 1, "error")):
        monkeypatch.setattr(limits, "free_memory", lambda free=free: free)
        found = call("decompress", "a.ldc", "--force")
        assert found[0] == code
        assert re.fullmatch(
            rf"(ldcodec: )?{said}: .*needs about 25\d MB of memory, .* free\n" if said else "", found[2]
        )


def test_free_memory_is_known_on_linux() -> None:
    found = limits.free_memory()
    if not Path("/proc/meminfo").exists():
        assert found is None
    else:
        assert found is not None and 0 <= found < 1e15


@pytest.mark.parametrize("config", [SMALL, BASE], ids=["small", "base"])
def test_the_memory_forecast_counts_the_halo_of_the_tiles(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as the code that cuts the tiles makes them for this model, with many steps."""
    side = 10_000
    networks = Mock(denoiser_halo=config.denoiser_halo, synthesis_halo=config.synthesis.halo)
    halo = halo_of(Mock(networks=networks), DecodeSettings(steps=1000))
    reader = Mock(header=Header(side, side, 0, False, bytes(8)), spans=slices.cut(side, side), lossless=False)
    reader.layout.patched = False
    monkeypatch.setattr(limits, "config_of", lambda weights: config)
    picture = io.BytesIO(f"P6 {side} {side} 255\n".encode())
    check = Mock()
    monkeypatch.setattr(limits.Limits, "check_memory", check)
    tested = limits.Limits(Mock(), side**2)
    tested.check_file(reader, None, 1, Path("weights"))
    expected = limits.decoding_memory(reader.header, reader.spans, halo.denoiser + halo.synthesis, side**2)
    check.assert_called_once_with(expected)
    for target, effort, rows in ((Target(quality=50), 2, config.analysis.halo), (Target(lossless=True), 1, 0)):
        tested.check_picture(picture, EncodeSettings(target, effort=2), Path("weights"))
        check.assert_called_with(limits.encoding_memory(side, side, reader.spans, effort, rows))


def test_the_memory_forecast_follows_the_sizes_of_tiles_and_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    header, spans = Header(10_000, 10_000, 0, False, bytes(8)), slices.cut(10_000, 10_000)
    tile = limits.decoding_memory(header, spans, BASE.analysis.halo, 100)
    assert limits.decoding_memory(header, spans, BASE.analysis.halo + 1, 100) > tile
    monkeypatch.setattr(slices, "TILE", slices.TILE + 16)
    assert limits.decoding_memory(header, spans, BASE.analysis.halo, 100) > tile
    square = slices.REFINED_SIDE + 2 * slices.REFINED_MARGIN
    monkeypatch.setattr(limits, "REFINING", 1e12)
    forecasts = [
        limits.encoding_memory(16 * (square + 1 - k), 16 * (square + 1), slices.cut(64, 64), 2, BASE.analysis.halo)
        for k in (0, 1, 16)
    ]
    assert forecasts[0] == forecasts[1] > forecasts[2]


@pytest.mark.parametrize("side", [5000, 32768])
def test_the_memory_forecast_grows_with_the_picture_alone(side: int) -> None:
    """Beyond 8 bytes a pixel, which the picture itself takes while it is opened, less than 1.6 gigabytes."""
    spans, halo = slices.cut(side, side), BASE.analysis.halo + slices.DENOISER_HALO
    header = Header(side, side, 0, False, bytes(8))
    encoding = limits.encoding_memory(side, side, spans, 1, BASE.analysis.halo)
    decoding = limits.decoding_memory(header, spans, halo, side * side)
    assert max(encoding, decoding) < 8 * side * side + 1.6e9
    assert limits.decoding_memory(header, spans, halo, 100) < decoding
    one = [Span(0, layout.latent_size(side, side)[0])]
    assert limits.decoding_memory(header, one, halo, side * side) > decoding


@pytest.mark.parametrize("side", [512, 5000])
def test_refining_counts_in_the_memory_forecast(side: int) -> None:
    spans = slices.cut(side, side)
    plain, least, most = (limits.encoding_memory(side, side, spans, effort, 0) for effort in (1, 2, 9))
    assert most == least > plain and most >= limits.PROGRAM + 0.2 * limits.REFINING


def test_the_limit_holds_for_pipes(tmp_path: Path) -> None:
    """What comes through a pipe is held to the limits of a file, before it is decoded."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ldcodec", "compress", "-", "-o", str(tmp_path / "a.ldc"), "--quality", "50"]
    bomb = png(100_000, 100_000, b"")
    done = subprocess.run(command, input=bomb, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r".* 100000x100000 pixels are more than .*; --max-pixels sets another limit\n", done.stderr.decode()
    )


def test_the_library_advises_no_option_of_the_command_line() -> None:
    with pytest.raises(TooManyPixelsError, match=r"more pixels than is safe to open$"):
        read(io.BytesIO(png(100_000, 100_000, b"")), "bomb.png")
