"""Writing: a process that is killed leaves the old output or none, and two that write the same do not mix.

The processes stop where the test wants them and wait for a line on standard input, so that nothing is left to chance.
"""

import glob
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from ldcodec.codec import encode
from tests.commands import Call, environment
from tests.test_cli import contents

pytestmark = pytest.mark.slow

STOPPING = """
import io, os, sys
from ldcodec.cli import main
from ldcodec.pictures import write as module

moments, *arguments = sys.argv[1:]
whole, replace = module.write, os.replace

def pause(moment):
    if moment in moments.split(","):
        print(moment, flush=True)
        sys.stdin.readline()

def write(picture, target, format):
    pause("begun")
    buffer = io.BytesIO()
    whole(picture, buffer, format)
    data = buffer.getvalue()
    target.write(data[:len(data) // 2])
    target.flush()
    pause("half")
    target.write(data[len(data) // 2:])

def rename(source, target):
    pause("whole")
    replace(source, target)
    pause("named")

module.write, os.replace = write, rename
main(arguments)
"""
OLD = b"what stood there before"

Process = subprocess.Popen[str]


@contextmanager
def stopping(folder: Path, moments: str, *arguments: str) -> Iterator[Process]:
    """A command that waits at these moments; ended with the block if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPING, moments, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def reached(process: Process, moment: str) -> None:
    """Waits until a process stops at a moment."""
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == f"{moment}\n", process.stderr.read()


def released(process: Process) -> None:
    """Lets a process go on from where it waits."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def folder(call: Call, tmp_path: Path) -> Path:
    """The folder that `call` works in, with files of two pictures and what becomes of them: a.ldc, b.ldc, …"""
    for name, seed in (("a", 1), ("b", 2)):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        (tmp_path / f"{name}.ldc").write_bytes(encode(noise, lossless=True))
        assert call("decompress", f"{name}.ldc", "-o", f"{name}-right.png")[0] == 0
    return tmp_path


def remains(folder: Path) -> list[Path]:
    """Unfinished files, which have hidden names."""
    return list(folder.glob(".*"))


@pytest.mark.parametrize(("moment", "old"), [("begun", OLD), ("half", None), ("whole", OLD), ("named", None)])
def test_a_process_that_is_killed_leaves_the_old_output_or_none(
    moment: str, old: bytes | None, folder: Path, call: Call
) -> None:
    target, right = folder / "out.png", (folder / "a-right.png").read_bytes()
    if old is not None:
        target.write_bytes(old)
    visible = set(contents(folder))
    with stopping(folder, moment, "decompress", "a.ldc", "-o", "out.png", "--force") as process:
        reached(process, moment)
        process.kill()
        assert process.wait() == -9
    found = target.read_bytes() if target.exists() else None
    assert found == (right if moment == "named" else old)
    left = remains(folder)
    assert len(left) == (moment != "named") and all(path.suffix == ".tmp" for path in left)
    assert set(glob.glob("*")) == visible | ({"out.png"} if found else set())  # no shell pattern names the rest
    assert call("decompress", "a.ldc", "-o", "out.png", "--force")[0] == 0
    assert target.read_bytes() == right
    assert remains(folder) == left  # neither reused nor in the way


def test_compress_that_is_killed_leaves_the_old_output(folder: Path) -> None:
    (folder / "out.ldc").write_bytes(OLD)
    arguments = ("compress", "a-right.png", "--lossless", "-o", "out.ldc", "--force")
    with stopping(folder, "whole", *arguments) as process:
        reached(process, "whole")
        process.kill()
    assert (folder / "out.ldc").read_bytes() == OLD


def test_two_processes_that_write_the_same_output_do_not_mix(folder: Path) -> None:
    """Both are half done before either goes on, and both are done before either gives the file its name."""
    with ExitStack() as stack:
        both = {
            name: stack.enter_context(stopping(folder, "half,whole", "decompress", f"{name}.ldc", "-o", "out.png"))
            for name in "ab"
        }
        for moment in ("half", "whole"):
            for process in both.values():
                reached(process, moment)
            if moment == "half":
                assert len(remains(folder)) == 2 and not (folder / "out.png").exists()
                for process in both.values():
                    released(process)
        for name in "ba":
            released(both[name])
            out, err = both[name].communicate()
            assert (both[name].returncode, err) == (0, "") and f"{name}.ldc → out.png" in out
            assert (folder / "out.png").read_bytes() == (folder / f"{name}-right.png").read_bytes()
    assert not remains(folder)
