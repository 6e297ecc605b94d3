"""The command as a user meets it: real files, pipes, signals and exit codes, with a tiny random model."""

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

import ldcodec
from ldcodec.bitstream import container
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Slice
from ldcodec.decoder import threads
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.encoder import library as loader
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.target import Encoded
from ldcodec.jobs import paths, workers
from ldcodec.jobs.messages import library_output_as_warnings
from ldcodec.pictures.picture import Picture
from tests.commands import TARGET, TINY, Call, command, environment, error_line, heed_interrupts, start
from tests.pictures import photo, png

HEAVY = {
    "PIL", "aiohttp", "asyncio", "botocore", "constriction", "fsspec", "hashlib", "multiprocessing", "numpy", "ray",
    "s3fs", "safetensors", "torch", "tqdm",
}  # fmt: skip
STARTUP_LIMIT = 3  # times what Python takes to import click alone: 0.15 s or less where that takes 0.05


@pytest.fixture
def sound(ldc: bytes, tmp_path: Path) -> Path:
    """A folder with sound inputs: a.png, b.png, k.ldc, and exact.ldc, which needs no model."""
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.png").write_bytes(png(seed=1))
    (tmp_path / "k.ldc").write_bytes(ldc)
    (tmp_path / "exact.ldc").write_bytes(ldcodec.encode(photo(), lossless=True))
    return tmp_path


@pytest.fixture
def unchanged(sound: Path) -> Iterator[Path]:
    """The sound folder, which the test must leave as it is."""
    before = contents(sound)
    yield sound
    assert contents(sound) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.timing
def test_answers_at_once(sound: Path) -> None:
    """CPU time compared with that of `import click`, measured in turns so that load on the machine cancels out."""
    for arguments in (["--help"], ["info", "k.ldc"]):
        least, taken = [], []
        for _ in range(5):
            least.append(processor_seconds(sys.executable, "-c", "import click"))
            taken.append(processor_seconds(sys.executable, "-m", "ldcodec", *arguments, cwd=sound))
        assert min(taken) < STARTUP_LIMIT * min(least), (arguments, least, taken)


def processor_seconds(*command: str, cwd: Path | None = None) -> float:
    """Seconds of the processor that a command took, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_imports_nothing_heavy(sound: Path) -> None:
    commands = [["--help"], ["info", "k.ldc"], ["compress", "--help"], ["decompress", "--help"]]
    code = f"import sys, ldcodec.cli as cli; [cli.run(a) for a in {commands!r}]; print('LOADED', *sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=sound, env=environment(), capture_output=True, text=True)
    loaded = set(found.stdout.split("LOADED ")[1].split())
    assert {"click", "ldcodec.cli.compress", "ldcodec.cli.decompress", "ldcodec.cli.info"} <= loaded
    assert not HEAVY & loaded


def test_public_names_load_on_first_use() -> None:
    code = "import sys, ldcodec; print('numpy' in sys.modules); ldcodec.encode; print('numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert found.stdout.split() == ["False", "True"], found.stderr
    for name in ldcodec.__all__:
        assert getattr(ldcodec, name) is not None
    assert set(ldcodec.__all__) <= set(dir(ldcodec))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ldcodec.nonsense


def test_info_of_bytes(ldc: bytes) -> None:
    assert ldcodec.info(ldc)["width"] == 40


@pytest.mark.slow
def test_there_and_back(sound: Path, call: Call) -> None:
    code, out, err = call("compress", "a.png", "--rate", "1", *TINY, "-o", "out.ldc")
    assert (code, err) == (0, "")
    size = (sound / "out.ldc").stat().st_size
    assert re.fullmatch(rf"a\.png → out\.ldc  40x24  {size} bytes  {8 * size / 960:.3f} bpp  \d+\.\d\d s\n", out)
    assert 8 * size / 960 <= 1
    code, out, err = call("decompress", "out.ldc")
    assert (code, err) == (0, "")
    assert re.match(r"out\.ldc → out\.png  40x24 ", out)
    with Image.open(sound / "out.png") as restored:
        assert (restored.size, restored.mode, restored.format) == ((40, 24), "RGB", "PNG")


@pytest.mark.slow
def test_pipes(tmp_path: Path) -> None:
    packed = command("compress", "-", "--lossless", input=png(), cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    assert container.read(packed.stdout).header.width == 40
    assert packed.stderr.decode().startswith("standard input → standard output  40x24")
    unpacked = command("decompress", "-", "-o", "-", "-q", input=packed.stdout, cwd=tmp_path)
    assert (unpacked.returncode, unpacked.stderr) == (0, b"")
    with Image.open(io.BytesIO(unpacked.stdout)) as restored:
        assert (restored.size, restored.format) == ((40, 24), "PNG")
    assert not contents(tmp_path)


def test_several_with_two_bad(sound: Path, call: Call) -> None:
    (sound / "bad.png").write_text("text")
    inputs = ["a.png", "bad.png", "missing.png", "b.png"]
    code, out, err = call("compress", *inputs, "-o", "new/out", *TARGET, *TINY)
    assert code == 1
    assert sorted(contents(sound / "new" / "out")) == ["a.ldc", "b.ldc"]
    assert [line.split(": ")[:3] for line in err.splitlines()] == [
        ["ldcodec", "error", "missing.png"],
        ["ldcodec", "error", "bad.png"],
    ]
    assert [line.split()[0] for line in out.splitlines()] == ["a.png", "b.png"]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["compress", "a.png", "--lossless"], ["decompress", "exact.ldc"]], ids=" ".join)
def test_full_disk(arguments: list[str], unchanged: Path) -> None:
    """No file may grow beyond 20 bytes: one line, and the signal that comes with it kills nothing."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))

    done = command(*arguments, cwd=unchanged, preexec_fn=limit)
    assert done.returncode == 1
    assert "File too large" in error_line(done.stderr)


SLOW_WRITE = """
import sys, time
from ldcodec.pictures import write as module
from ldcodec.cli import main

def write(picture, target, format):
    target.write(b"begun")
    target.flush()
    print("writing", flush=True)
    time.sleep(60)

module.write = write
main(["decompress", "exact.ldc", "-f", "-o", "a.png"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_writing(number: signal.Signals, unchanged: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITE],
        cwd=unchanged,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    assert len(list(unchanged.glob(".ldcodec-*.tmp"))) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert number.name in error_line(err)
    assert not list(unchanged.glob(".*"))


def test_interrupt_while_starting(unchanged: Path, tiny_model_folder: Path) -> None:
    """Ctrl-C while NumPy is being imported."""
    process = start("compress", "a.png", *TARGET, *TINY, cwd=unchanged, models=tiny_model_folder)
    maps = Path(f"/proc/{process.pid}/maps")
    if not maps.exists():
        process.kill()
        process.communicate()
        pytest.skip("no /proc to see from outside when NumPy is being imported")
    while process.poll() is None and "multiarray_umath" not in maps.read_text():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert "SIGINT" in error_line(err)


def test_reader_that_goes_away_is_no_error(sound: Path) -> None:
    names = ["k.ldc"] * 2000  # more lines than a pipe holds
    with start("info", *names, cwd=sound) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_standard_output(sound: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "wb") as full:
        done = command("info", "k.ldc", "k.ldc", cwd=sound, stdout=full)
    assert done.returncode == 1
    assert "No space left" in error_line(done.stderr)


WRONG_USES: dict[str, tuple[list[str], str]] = {
    "unknown command": (["squeeze"], "squeeze"),
    "unknown option": (["compress", "a.png", "--colour"], "--colour"),
    "lossless and a target": (["compress", "a.png", "--lossless", *TARGET], "exactly one of"),
    "lossless and quality 0": (["compress", "a.png", "--lossless", "--quality", "0"], "exactly one of"),
    "lossless without fallback": (["compress", "a.png", "--lossless", "--no-fallback"], "contradict"),
    "quiet and verbose": (["compress", "a.png", "-q", "-v", *TARGET], "contradict"),
    "frame 0": (["compress", "a.png", "--frame", "0", *TARGET], "--frame"),
    "no input": (["compress", *TARGET], "IN..."),
    "no target": (["compress", "a.png"], "exactly one of"),
    "two targets": (["compress", "a.png", "--rate", "1", "--size", "9k"], "exactly one of"),
    "rate 0": (["compress", "a.png", "--rate", "0"], "--rate"),
    "rate nan": (["compress", "a.png", "--rate", "nan"], "--rate"),
    "psnr inf": (["compress", "a.png", "--psnr", "inf"], "--psnr"),
    "quality 101": (["compress", "a.png", "--quality", "101"], "--quality"),
    "quality nan": (["compress", "a.png", "--quality", "nan"], "--quality"),
    "size 0": (["compress", "a.png", "--size", "0"], "number of bytes"),
    "size 0.1": (["compress", "a.png", "--size", "0.1"], "number of bytes"),
    "size 5x": (["compress", "a.png", "--size", "5x"], "number of bytes"),
    "size negative": (["compress", "a.png", "--size", "-5"], "number of bytes"),
    "two to one file": (["compress", "a.png", "a.jpg", *TARGET], "would both become a.ldc"),
    "same twice": (["compress", "a.png", "a.png", *TARGET], "would both become a.ldc"),
    "several to a pipe": (["compress", "a.png", "b.png", "-o", "-", *TARGET], "share standard output"),
    "stdin twice": (["compress", "-", "-", "-o", "d", *TARGET], "standard input"),
    "stdin to folder": (["compress", "-", "-o", "./", *TARGET], "needs a file name"),
    "source is target": (["compress", "a.png", "-o", "./a.png", "--force", *TARGET], "replace the input a.png"),
    "source is other target": (["decompress", "b.ldc", "b.png", "-o", ".", "--force"], "replace the input b.png"),
    "ldc beside itself": (["compress", "k.ldc", "--force", *TARGET], "replace the input k.ldc"),
    "no cuda": (["compress", "a.png", *TINY, "--device", "cuda", *TARGET], "CUDA"),
    "other device": (["compress", "a.png", "--device", "tpu", *TARGET], "--device"),
    "no threads": (["compress", "a.png", "--threads", "0", *TARGET], "--threads"),
    "ldc as jpg": (
        ["compress", "a.png", "-o", "photo.jpg", *TARGET],
        "photo.jpg: the output is no .jpg file; name it .ldc",
    ),
    "ldc as text": (["compress", "a.png", "-o", "new.TXT", "-f", *TARGET], "no .TXT file"),
    "ldc as png at a url": (["compress", "a.png", "-o", "memory://x/photo.png", *TARGET], "no .png file"),
    "page as picture": (["view", "k.ldc", "-o", "page.png", "--no-open"], "no .png file; name it .html"),
    "unknown picture format": (["decompress", "k.ldc", "-o", "k.xyz"], "unknown extension"),
    "no steps": (["decompress", "k.ldc", "--steps", "0"], "--steps"),
    "realism 2": (["decompress", "k.ldc", "--realism", "2"], "--realism"),
    "realism nan": (["decompress", "k.ldc", "--realism", "nan"], "--realism"),
    "sampler": (["decompress", "k.ldc", "--sampler", "euler"], "--sampler"),
    "seed": (["decompress", "k.ldc", "--seed", "-1"], "--seed"),
    "info of nothing": (["info"], "--model"),
    "info of both": (["info", "k.ldc", *TINY], "--model"),
}


def test_wrong_use(call: Call, unchanged: Path) -> None:
    for name, (arguments, message) in WRONG_USES.items():
        if name == "no cuda" and torch.cuda.is_available():
            continue
        code, out, err = call(*arguments)
        assert (code, out) == (2, "") and message in error_line(err), (name, code, out, err)


def test_no_command_shows_the_help(call: Call) -> None:
    code, out, err = call()
    assert (code, out) == (2, "")
    assert "Commands:" in err


def test_help_tells_the_exit_codes(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    assert re.findall(r"^ +(\d+)  ", out, re.MULTILINE) == ["0", "1", "2", "3", "130"]
    assert call("--version") == (0, f"ldcodec {ldcodec.__version__}\n", "")


BAD_INPUTS: dict[str, tuple[list[str], str]] = {
    "missing picture": (["compress", "no.png", *TARGET], "no.png: No such file"),
    "missing file": (["decompress", "no.ldc"], "no.ldc: No such file"),
    "missing info": (["info", "no.ldc"], "no.ldc: No such file"),
    "folder": (["compress", ".", "-o", "x.ldc", *TARGET], "folder"),
    "text": (["compress", "text.png", *TINY, *TARGET], "text.png: not a picture"),
    "picture as ldc": (["decompress", "b.png", "-o", "x.png"], "not an .ldc file"),
    "info of picture": (["info", "b.png"], "not an .ldc file"),
    "wrong magic": (["decompress", "magic.ldc"], "not an .ldc file"),
    "future version": (["decompress", "version.ldc"], "another version"),
    "unknown chunk": (["decompress", "chunk.ldc"], "newer version"),
    "other model's file": (["decompress", "id.ldc"], "0807060504030201"),
    "other model": (["decompress", "id.ldc", *TINY], "id.ldc: "),
    "unknown model": (["compress", "a.png", "--model", "nonesuch", *TARGET], "nonesuch"),
    "unknown model of info": (["info", "--model", "nonesuch"], "nonesuch"),
    "no such frame": (["compress", "a.png", "--frame", "2", *TARGET, *TINY], "no picture number 2"),
    "target exists": (["decompress", "k.ldc", "-o", "a.png"], "a.png: exists already; --force"),
    "target is folder": (["compress", "a.png", "-o", "sub", "--force", *TARGET], "sub/a.ldc: is a folder"),
    "no such folder": (["decompress", "k.ldc", "-o", "none/k.png"], "none: No such file"),
    "file as folder": (["decompress", "k.ldc", "-o", "text.png/k.png"], "text.png: Not a directory"),
    "file as new folder": (["decompress", "k.ldc", "-o", "text.png/sub/"], "text.png"),
    "unwritable folder": (["decompress", "k.ldc", "-o", "/proc/self/k.png"], "k.ldc: /proc/"),
    "full device": (["compress", "a.png", "-o", "/dev/full", *TINY, *TARGET], "No space left"),
}


def test_bad_input(call: Call, sound: Path, ldc: bytes) -> None:
    (sound / "text.png").write_text("this is text")
    (sound / "magic.ldc").write_bytes(b"\x8aLDX" + ldc[4:])
    (sound / "version.ldc").write_bytes(ldc[:4] + b"\x02" + ldc[5:])
    header, slices = container.read(ldc).header, container.read(ldc).slices
    stranger = Header(header.width, header.height, header.quality, False, bytes(range(8, 0, -1)))
    (sound / "id.ldc").write_bytes(container.write(Container(stranger, slices)))
    (sound / "chunk.ldc").write_bytes(container.write(Container(header, slices, (Chunk("Need", b""),))))
    (sound / "sub" / "a.ldc").mkdir(parents=True)
    before = contents(sound)
    for name, (arguments, message) in BAD_INPUTS.items():
        code, out, err = call(*arguments)
        assert (code, out) == (1, "") and message in error_line(err), (name, code, out, err)
        assert contents(sound) == before, name


def test_every_cut_and_change_is_reported_in_one_line(call: Call, ldc: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.ldc"
    damaged = [ldc[:length] for length in range(len(ldc))]
    damaged += [ldc[:i] + bytes([ldc[i] ^ (1 << i % 8)]) + ldc[i + 1 :] for i in range(len(ldc))]
    step = max(1, len(damaged) // 150)
    for data in damaged[::step]:
        path.write_bytes(data)
        code, out, err = call("decompress", "bad.ldc")
        assert (code, out) == (1, "")
        error_line(err)
        assert list(contents(tmp_path)) == ["bad.ldc"]


def test_damaged_symbols_are_reported(call: Call, ldc: bytes, tmp_path: Path) -> None:
    """A payload whose own CRC is right decodes to something else, which the symbols' CRC shows."""
    file = container.read(ldc)
    piece = file.slices[0]
    for payload in (b"", piece.payload[:-4], bytes(len(piece.payload)), b"\xff" * 3):
        forged = Container(file.header, (Slice(piece.rows, payload, piece.symbols_crc),))
        (tmp_path / "bad.ldc").write_bytes(container.write(forged))
        code, out, err = call("decompress", "bad.ldc")
        assert (code, out) == (1, "")
        error_line(err)
    assert list(contents(tmp_path)) == ["bad.ldc"]


def test_damaged_model(call: Call, sound: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = sound / "models" / "tiny"
    broken.mkdir(parents=True)
    (broken / "model.safetensors").write_bytes((tiny_model_folder / "tiny" / "model.safetensors").read_bytes()[:-100])
    monkeypatch.setenv("LDCODEC_MODELS", str(broken.parent))
    code, out, err = call("compress", "a.png", "b.png", *TINY, *TARGET)
    assert (code, out) == (1, "")
    error_line(err)


def test_missing_memory_is_reported(call: Call, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError(), RuntimeError("can't allocate memory: you tried to\nallocate")):
        monkeypatch.setattr("ldcodec.codec.encode_picture", Mock(side_effect=error))
        code, _, err = call("compress", "a.png", *TINY, *TARGET)
        assert code == 1
        assert error_line(err) == "ldcodec: error: a.png: not enough memory\n"


def test_defects_are_not_hidden(call: Call, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldcodec.codec.encode_picture", Mock(side_effect=RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="defect"):
        call("compress", "a.png", *TINY, *TARGET)


def test_default_names_and_formats(call: Call, sound: Path) -> None:
    assert call("compress", "a.png", "--lossless")[0] == 0
    assert call("decompress", "a.ldc", "-o", "a.webp")[0] == 0
    assert call("decompress", "a.ldc", "-o", "a.JPG")[0] == 0
    assert call("decompress", "a.ldc", "k.ldc", "-o", "sub")[0] == 0
    assert call("decompress", "a.ldc", "-o", "one/")[0] == 0
    formats = {}
    for path in ("a.webp", "a.JPG", "sub/a.png", "sub/k.png", "one/a.png"):
        with Image.open(sound / path) as restored:
            formats[path] = restored.format
    assert list(formats.values()) == ["WEBP", "JPEG", "PNG", "PNG", "PNG"]


def test_grey_comes_back_grey(call: Call, tmp_path: Path) -> None:
    photo(33, 9).convert("L").save(tmp_path / "g.png")
    assert call("compress", "g.png", *TARGET, *TINY)[0] == 0
    assert call("decompress", "g.ldc", "-o", "out.png")[0] == 0
    with Image.open(tmp_path / "out.png") as restored:
        assert (restored.mode, restored.size) == ("L", (33, 9))


def test_force_replaces_the_file_and_keeps_its_rights(call: Call, sound: Path) -> None:
    (sound / "k.png").write_bytes(b"old")
    (sound / "k.png").chmod(0o640)
    assert call("decompress", "k.ldc")[0] == 1
    assert (sound / "k.png").read_bytes() == b"old"
    assert call("decompress", "k.ldc", "--force")[0] == 0
    assert (sound / "k.png").read_bytes().startswith(b"\x89PNG")
    assert (sound / "k.png").stat().st_mode & 0o777 == 0o640


ORIGINS = {"compress": ("a.png", "out.ldc", ["--lossless"]), "decompress": ("k.ldc", "out.png", []),
           "view": ("k.ldc", "out.html", ["--no-open"])}  # fmt: skip


@pytest.mark.parametrize("command", ORIGINS)
@pytest.mark.parametrize("rights", [0o600, 0o640, 0o400, 0o604])
def test_nobody_may_do_more_with_an_output(command: str, rights: int, call: Call, sound: Path) -> None:
    """Nor while it is written; and an output that was there before is not more open than that."""
    source, target, options = ORIGINS[command]
    (sound / source).chmod(rights)
    os.umask(old := os.umask(0o022))
    expected = 0o666 & ~old & (rights | 0o700)
    for before in (None, 0o666, 0o600):
        if before is not None:
            (sound / target).chmod(before)
        assert call(command, source, "-o", target, *options, "-f", "-q")[0] == 0
        assert (sound / target).stat().st_mode & 0o777 == (expected if before is None else before & (rights | 0o700))


def test_an_unfinished_output_is_as_closed(sound: Path) -> None:
    (sound / "a.png").chmod(0o600)
    origin = paths.origin_of(str(sound / "a.png"), preserve=False)
    with paths.created(str(sound / "new.ldc"), origin, str(sound / "unfinished")):
        assert (sound / "unfinished").stat().st_mode & 0o777 == 0o600


def test_another_group_may_do_no_more_than_anybody(sound: Path) -> None:
    status = (sound / "a.png").stat()
    for mode, expected in ((0o640, 0o600), (0o664, 0o644), (0o666, 0o666), (0o646, 0o646)):
        (sound / "b.png").chmod(0o666)
        assert paths.Origin(mode, status.st_gid + 1, None).rights((sound / "b.png").stat()) == expected


@pytest.mark.slow
def test_standard_streams_by_their_names(sound: Path) -> None:
    """Redirected to a file they are what they are as a pipe: what is in the file already stays."""
    names = [("/dev/stdin", "/dev/stdout"), ("/dev/fd/0", "/proc/self/fd/1")]
    for source, target in names:
        with (sound / "a.png").open("rb") as given, (sound / "out").open("wb") as out:
            out.write(b"before")
            out.flush()
            done = command("compress", source, "-o", target, "--lossless", cwd=sound, stdout=out, given=given)
            assert done.returncode == 0, done.stderr
        data = (sound / "out").read_bytes()
        assert data.startswith(b"before") and container.read(data[6:]).lossless
    with (sound / "out.png").open("wb") as out:
        done = command("decompress", "exact.ldc", "-o", "/dev/stdout", "-q", cwd=sound, stdout=out)
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(sound / "out.png") as restored:
        assert restored.tobytes() == photo().tobytes()
    with (sound / "third").open("wb") as third:
        path = f"/dev/fd/{third.fileno()}"
        done = command("decompress", "exact.ldc", "-o", path, cwd=sound, pass_fds=[third.fileno()])
    assert done.returncode == 0 and (sound / "third").read_bytes().startswith(b"\x89PNG")


def test_the_output_of_an_output_has_the_name_of_the_first(call: Call, sound: Path) -> None:
    for name in ("x.jpg.ldc", "x.png.ldc", "y.PNG.ldc", "z.ldc"):
        (sound / name).write_bytes((sound / "exact.ldc").read_bytes())
    assert call("decompress", "x.jpg.ldc", "x.png.ldc", "y.PNG.ldc", "z.ldc", "-o", "back/")[0] == 0
    assert sorted(contents(sound / "back")) == ["x.jpg.png", "x.png", "y.PNG", "z.png"]


def test_new_files_follow_the_umask(call: Call, sound: Path) -> None:
    old = os.umask(0o027)
    try:
        assert call("decompress", "k.ldc")[0] == 0
    finally:
        os.umask(old)
    assert (sound / "k.png").stat().st_mode & 0o777 == 0o640


def test_times_are_kept(call: Call, sound: Path) -> None:
    """The time of reading is that before the command itself read the file."""
    before = 1_000_000_000_123_456_000, 1_100_000_000_987_654_000
    os.utime(sound / "a.png", ns=before)
    assert call("compress", "a.png", "--lossless")[0] == 0
    assert call("decompress", "a.ldc", "-o", "out.png")[0] == 0
    for name in ("a.ldc", "out.png"):
        status = (sound / name).stat()
        assert status.st_mtime_ns == before[1]
    assert (sound / "out.png").stat().st_atime_ns == before[0]
    assert call("compress", "a.png", "--lossless", "-f", "--no-preserve")[0] == 0
    assert call("decompress", "a.ldc", "-o", "out.png", "-f", "--no-preserve")[0] == 0
    for name in ("a.ldc", "out.png"):
        assert (sound / name).stat().st_mtime > time.time() - 60


def whole_picture(path: Path) -> Image.Image:
    """A picture with alpha, Exif and XMP in a file."""
    image = photo()
    image.putalpha(photo(seed=5).getchannel("R"))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    image.save(path, exif=exif, xmp=b"<xmp/>", lossless=True, exact=True)
    return image.transpose(Image.Transpose.ROTATE_270)


@pytest.mark.parametrize("target", [["--lossless"], TARGET], ids=["lossless", "lossy"])
def test_all_of_a_picture_comes_back(target: list[str], call: Call, tmp_path: Path) -> None:
    upright = whole_picture(tmp_path / "w.webp")
    code, _, err = call("compress", "w.webp", *target, *TINY)
    assert code == 0 and re.fullmatch(r"(warning: w\.webp: the output is larger than the input: .*\n)?", err)
    assert call("decompress", "w.ldc", "-o", "w.png")[::2] == (0, "")
    with Image.open(tmp_path / "w.png") as restored:
        assert (restored.mode, restored.size) == ("RGBA", (24, 40))
        assert restored.getchannel("A").tobytes() == upright.getchannel("A").tobytes()
        assert (restored.tobytes() == upright.tobytes()) == (target == ["--lossless"])
        assert (restored.getexif()[0x0112], restored.getexif()[0x010F]) == (1, "Maker")
        assert restored.info["xmp"] == b"<xmp/>"
    assert call("compress", "w.webp", *target, *TINY, "--strip", "-f")[0] == 0
    assert [chunk.kind for chunk in container.read((tmp_path / "w.ldc").read_bytes()).chunks][:1] == ["ALPH"]
    code, _, err = call("decompress", "w.ldc", "-o", "w.jpg")
    assert (code, err) == (0, "warning: w.ldc: JPEG cannot hold transparency: the picture is laid onto white\n")


def test_frames_are_chosen(call: Call, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 5), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "x.tiff", save_all=True, append_images=frames[1:])
    assert call("compress", "x.tiff", "--lossless", "--frame", "2")[::2] == (0, "")
    assert call("decompress", "x.ldc", "-q") == (0, "", "")
    with Image.open(tmp_path / "x.png") as restored:
        assert restored.convert("RGB").getpixel((3, 3)) == (0, 255, 0)


def test_lossless_files_need_no_model(sound: Path) -> None:
    """Neither torch is loaded nor weights are looked for, and the pixels are those that were given."""
    code = """
import sys
from ldcodec import cli
assert cli.run(["compress", "a.png", "--lossless"]) == 0
assert cli.run(["decompress", "a.ldc", "-o", "out.png"]) == 0
print("torch" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=sound, env=environment(), capture_output=True, text=True)
    lines = found.stdout.splitlines()
    assert (lines[-1], found.stderr) == ("False", "")
    assert all(line.endswith("  lossless") for line in lines[:2])
    with Image.open(sound / "out.png") as restored:
        assert restored.tobytes() == photo().tobytes()


def test_a_smaller_lossless_file_stands_in(call: Call, tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), "teal").save(tmp_path / "flat.png")
    code, out, _ = call("compress", "flat.png", "--quality", "100", *TINY)
    assert (code, out.rstrip().endswith("lossless")) == (0, True)
    code, out, _ = call("compress", "flat.png", "--quality", "100", *TINY, "--no-fallback", "-f")
    assert (code, out.rstrip().endswith("lossless")) == (0, False)


def test_info_tells_alpha_chunks_and_losslessness(call: Call, tmp_path: Path) -> None:
    whole_picture(tmp_path / "w.webp")
    assert call("compress", "w.webp", "--lossless")[0] == 0
    out = call("info", "w.ldc")[1]
    assert out.startswith("w.ldc: 24x40, RGB with alpha, lossless\n")
    for text in ("exif of ", "xmpp of ", "ALPH of ", "WEBP of ", "every pixel exact", "no model is needed"):
        assert text in out
    described = json.loads(call("info", "w.ldc", "--json")[1])
    assert (described["alpha"], described["lossless"]) == (True, True)
    assert call("compress", "w.webp", *TARGET, *TINY, "-f")[0] == 0
    described = json.loads(call("info", "w.ldc", "--json")[1])
    assert (described["alpha"], described["lossless"]) == (True, False)


def test_links_are_followed(call: Call, sound: Path) -> None:
    (sound / "real.png").write_bytes(b"old")
    (sound / "link.png").symlink_to("real.png")
    assert call("decompress", "k.ldc", "-o", "link.png", "-f")[0] == 0
    assert (sound / "link.png").is_symlink()
    assert (sound / "real.png").read_bytes().startswith(b"\x89PNG")
    (sound / "again.ldc").symlink_to("k.ldc")
    code, _, err = call("compress", "k.ldc", "-o", "again.ldc", "-f", *TARGET)
    assert code == 2
    assert "replace the input" in error_line(err)


def test_devices_are_written_to_and_not_replaced(call: Call, sound: Path) -> None:
    before = os.stat("/dev/null")
    assert call("decompress", "k.ldc", "-o", "/dev/null")[0] == 0
    assert os.stat("/dev/null").st_ino == before.st_ino


def test_odd_names(call: Call, sound: Path) -> None:
    for name in ("no extension", "-dash.png", "ünï→.png", "line\nbreak.png"):
        (sound / name).write_bytes(png())
        code, _, err = call("compress", "--lossless", "--", name)
        assert (code, err) == (0, "")
    assert {"no extension.ldc", "-dash.ldc", "ünï→.ldc", "line\nbreak.ldc"} <= set(contents(sound))


def test_warnings_are_lines_that_name_the_file(call: Call, tmp_path: Path) -> None:
    frames = [photo(seed=seed) for seed in (0, 1)]
    for name in ("x.tiff", "y.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    code, out, err = call("compress", "x.tiff", "y.tiff", "--lossless")
    assert (code, len(out.splitlines())) == (0, 2)
    lines = err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["warning", "x.tiff"], ["warning", "y.tiff"]]
    assert call("compress", "x.tiff", "--lossless", "-f", "--quiet") == (0, "", "")


def damaged_fax(path: Path) -> None:
    """A TIFF file of two pages whose pixels libtiff cannot make sense of everywhere; Pillow reads it all the same."""
    page = Image.fromarray(np.random.default_rng(0).random((60, 200)) < 0.5)
    page.save(path, compression="group4", save_all=True, append_images=[page])
    data = bytearray(path.read_bytes())
    with Image.open(path) as image:
        (start,) = image.tag_v2[273]  # type: ignore[attr-defined]
    data[start + 100 : start + 104] = b"\xff" * 4
    path.write_bytes(data)


def test_what_a_library_writes_becomes_a_warning(tmp_path: Path) -> None:
    damaged_fax(tmp_path / "x.tif")
    process = command("compress", "x.tif", "--lossless", cwd=tmp_path)
    lines = process.stderr.decode().splitlines()
    assert (process.returncode, len(lines)) == (0, 2)
    assert lines[0] == "warning: x.tif: it holds several pictures; only the first is kept"
    assert re.fullmatch(r"warning: x\.tif: it may be damaged: Fax4Decode: .* \(and \d+ lines more\)", lines[1])
    assert command("compress", "x.tif", "--lossless", "-f", "-q", cwd=tmp_path).stderr == b""


def test_standard_error_comes_back_whatever_reading_ends_with(call: Call, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"no TIFF")
    assert call("compress", "x.tif", "--lossless")[0] == 1
    os.write(2, b"still here\n")
    assert call("compress", "missing", "--lossless")[2].startswith("still here\n")


def test_reading_does_not_depend_on_standard_error(sound: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be closed, or there may be no place for temporary files."""
    for module, name in ((os, "dup"), (tempfile, "TemporaryFile")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, Mock(side_effect=OSError))
            with library_output_as_warnings():
                os.write(2, b"seen\n")
        assert call("info")[2].startswith("seen\n")


def test_a_picture_is_read_without_standard_error(sound: Path) -> None:
    """The picture itself may have the number of standard error then."""
    process = command("compress", "a.png", "--lossless", cwd=sound, stderr=None, preexec_fn=lambda: os.close(2))
    assert process.returncode == 0
    assert (sound / "a.ldc").is_file()


def test_a_target_out_of_reach_leaves_no_file(call: Call, unchanged: Path) -> None:
    for target in (["--size", "1"], ["--rate", "0.001"], ["--psnr", "60", "--no-fallback"]):
        code, out, err = call("compress", "a.png", *target, *TINY)
        assert (code, out) == (1, "")
        assert "a.png: " in error_line(err) and "out of reach; the " in err


def test_a_psnr_out_of_the_models_reach_is_reached(call: Call, sound: Path) -> None:
    """A board of single pixels, among others, for which the model has no more than some 10 dB."""
    board = 255 * (np.indices((64, 96)).sum(0) % 2).astype(np.uint8)
    Image.fromarray(board).save(sound / "board.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    Image.fromarray(noise).save(sound / "noise.png", compress_level=0)
    for name in ("board", "noise"):
        code, out, _ = call("compress", f"{name}.png", "--psnr", "35", *TINY)
        assert code == 0 and out.rstrip().endswith("lossless")
        assert call("decompress", f"{name}.ldc", "-o", "back.png", "-f")[0] == 0
        with Image.open(sound / "back.png") as back, Image.open(sound / f"{name}.png") as original:
            assert back.tobytes() == original.tobytes()


def test_an_output_larger_than_its_input_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photo(160, 120).save(tmp_path / "in" / "small.jpg", quality=5)
    before = (tmp_path / "in" / "small.jpg").stat().st_size
    pattern = rf"warning: in/small\.jpg: the output is larger than the input: (\d+) instead of {before} bytes\n"
    for target, more in ((["--lossless"], []), (["--quality", "100", *TINY], ["-r", "-o", "out", "--jobs", "1"])):
        code, _, err = call("compress", "in" if more else "in/small.jpg", *target, *more)
        found = re.fullmatch(pattern, err)
        assert code == 0 and found and int(found[1]) > before
    assert call("compress", "in/small.jpg", "--lossless", "-f", "-q") == (0, "", "")
    photo(160, 120).save(tmp_path / "large.bmp")
    assert call("compress", "large.bmp", "--lossless")[2] == ""
    piped = command("compress", "-", "-o", "-", "--lossless", input=(tmp_path / "in" / "small.jpg").read_bytes())
    assert f"larger than the input: {len(piped.stdout)} instead of {before} bytes" in piped.stderr.decode()


def test_realism_without_a_second_synthesis_is_reported(call: Call, sound: Path) -> None:
    code, _, err = call("decompress", "k.ldc", "--realism", "0.5")
    assert (code, err.count("8 steps"), err.count("\n")) == (0, 1, 1)
    assert call("decompress", "k.ldc", "--realism", "0.5", "--steps", "2", "-f")[2] == ""
    assert call("decompress", "k.ldc", "--realism", "0.5", "-f", "-q") == (0, "", "")


def test_decoding_options_reach_the_decoder(call: Call, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Mock(return_value=Picture(np.zeros((24, 40, 3), np.uint8)))
    monkeypatch.setattr("ldcodec.decoder.restore.restore", decode)
    options = ["--steps", "5", "--realism", "0.25", "--sampler", "heun", "--seed", "7"]
    assert call("decompress", "k.ldc", *options, "--device", "cpu", "--threads", "1")[0] == 0
    (source, find, settings, request), _ = decode.call_args
    assert find(source.header.parse_id).parse_id == source.header.parse_id
    assert source.header == container.read((sound / "k.ldc").read_bytes()).header
    assert settings == DecodeSettings(steps=5, realism=0.25, sampler="heun", seed=7)
    assert request == Request()


LOADING = 1000  # seconds


def test_seconds_are_those_of_coding_alone(call: Call, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes long to load counts neither in the line of the file that needs it nor in the next."""
    late, load = 0, loader.load_model

    def slow(*arguments: Any, **options: Any) -> EncoderModel:
        nonlocal late
        late += LOADING
        return load(*arguments, **options)

    monkeypatch.setattr(loader, "load_model", slow)
    monkeypatch.setattr("ldcodec.jobs.models.perf_counter", lambda: time.perf_counter() + late)
    for arguments in (["compress", "a.png", "b.png", "--rate", "1", *TINY], ["decompress", "a.ldc", "b.ldc", "-f"]):
        code, out, err = call(*arguments)
        seconds = [float(line.split()[-2]) for line in out.splitlines()]
        assert code == 0 and len(seconds) == 2 and max(seconds) < LOADING, (out, err)
    assert late == 2 * LOADING


def test_sizes(call: Call, sound: Path, monkeypatch: pytest.MonkeyPatch, ldc: bytes) -> None:
    encode = Mock(return_value=Encoded(ldc, False))
    monkeypatch.setattr("ldcodec.codec.encode_picture", encode)
    sizes = {"2500": 2500, "100k": 100_000, "100K": 100_000, "1.5M": 1_500_000, "2kB": 2000, ".5k": 500, "9.": 9}
    for text, size in sizes.items():
        assert call("compress", "a.png", *TINY, "--size", text, "-f")[0] == 0
        assert encode.call_args.args[1].target.size == size


def test_info_text(call: Call, sound: Path, ldc: bytes) -> None:
    code, out, err = call("info", "k.ldc")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "k.ldc: 40x24, RGB"
    assert f"{len(ldc)} bytes" in out
    assert container.read(ldc).header.parse_id.hex() in out


def test_info_json_is_an_object_a_line(call: Call, sound: Path, ldc: bytes) -> None:
    (sound / "cut.ldc").write_bytes(ldc[:-1])
    code, out, err = call("info", "--json", "k.ldc", "cut.ldc", "k.ldc")
    assert code == 1
    assert "cut.ldc" in error_line(err)
    assert [json.loads(line) for line in out.splitlines()] == [container.info(ldc, "k.ldc")] * 2


@pytest.mark.slow
def test_info_of_a_model(call: Call) -> None:
    code, out, err = call("info", *TINY)
    assert (code, err) == (0, "")
    assert "kMAC/pixel" in out
    parts = json.loads(call("info", *TINY, "--json")[1])["parts"]
    assert sum(part["parameters"] for part in parts) > 0
    assert all(part["kmac_per_pixel"] > 0 for part in parts)
    assert all(f"{part['parameters']:,d}" in out for part in parts)


def test_no_progress_bar_off_a_terminal(sound: Path, call: Call) -> None:
    assert call("compress", "a.png", "b.png", "--lossless")[2] == ""


class Terminal(io.StringIO):
    """A text stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_bar_on_a_terminal(sound: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    code, out, _ = call("compress", "a.png", "b.png", "--lossless")
    assert (code, len(out.splitlines())) == (0, 2)
    assert "0/2" in terminal.getvalue()
    terminal.truncate(0)
    for arguments in (["a.png"], ["a.png", "b.png", "-q"]):
        assert call("compress", *arguments, "--lossless", "-f")[0] == 0
        assert terminal.getvalue() == ""


def test_who_computes_is_told(call: Call, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ncnn")
    monkeypatch.setattr(loader, "DRIVERS", ())
    ncnn = r"networks: ncnn [\d.]+, "
    code, out, err = call("decompress", "k.ldc", "--threads", "2", "-o", "-", "-f", "--verbose")
    assert code == 0 and re.match(ncnn + "2 threads\n", err)
    code, out, err = call("compress", "a.png", "b.png", *TARGET, *TINY, "-f", "-v", "--threads", "1")
    assert code == 0 and re.fullmatch(ncnn + "1 thread\n", err) and len(out.splitlines()) == 2
    monkeypatch.setattr(threads, "free_cores", lambda: 3)
    code, out, err = call("decompress", "k.ldc", "-f", "-v")
    assert code == 0 and re.fullmatch(ncnn + "3 threads\n", err)
    monkeypatch.setattr(workers, "cores", lambda: 4)  # folders, where work takes longer, share all
    code, out, err = call("compress", "-r", "a.png", "-o", "there", *TARGET, *TINY, "--jobs", "2", "-v")
    assert code == 0 and re.fullmatch(ncnn + "2 threads in each of 2 processes\n", err)
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    code, out, err = call("decompress", "k.ldc", "-f", "-v", "--threads", "1", "--device", "cpu")
    version = re.escape(torch.__version__)
    assert code == 0 and re.fullmatch(f"networks: PyTorch {version} on cpu, 1 thread; ncnn is not installed\n", err)
    assert "networks" not in "".join(map(str, call("decompress", "k.ldc", "-f")))


def test_nothing_binary_goes_to_a_terminal(sound: Path) -> None:
    controller, terminal = os.openpty()
    done = command("decompress", "k.ldc", "-o", "-", cwd=sound, stdout=terminal)
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 2
    assert "terminal" in error_line(done.stderr)


def test_interrupt_while_loading() -> None:
    """A Ctrl-C that arrives while click is imported, played by a finder."""
    script = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from ldcodec.__main__ import start
start()
"""
    root = str(Path(ldcodec.__file__).parent.parent)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "ldcodec: error: stopped\n")
