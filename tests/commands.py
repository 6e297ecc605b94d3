"""The command `ldcodec` as a process, and what it says. The fixture `call` runs it within the process of the tests."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ["--quality", "50"]
TINY = ["--model", "tiny"]

Process = subprocess.CompletedProcess[bytes]
Call = Callable[..., tuple[int, str, str]]  # a command line → exit code, standard output, standard error

# On a full disk Python leaves half a compiled module and stumbles over it later.
UNCACHED = {"PYTHONDONTWRITEBYTECODE": "1"}


def environment(models: Path | str = "") -> dict[str, str]:
    """The environment of a command that finds this package and `models` and uses one thread."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "LDCODEC_MODELS": str(models), "OMP_NUM_THREADS": "1", **UNCACHED}


def start(*arguments: str | Path, models: Path | str = "", **options: Any) -> "subprocess.Popen[bytes]":
    """Start the command as a process. It heeds Ctrl-C, whatever runs the tests."""
    for name in ("stdout", "stderr"):
        options.setdefault(name, subprocess.PIPE)
    options.setdefault("preexec_fn", heed_interrupts)
    command = [sys.executable, "-m", "ldcodec", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(models), **options)


def heed_interrupts() -> None:
    """Do what a shell does for a command in the foreground."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(
    *arguments: str | Path, models: Path | str = "", input: bytes = b"", given: Any = None, **options: Any
) -> Process:
    """Run the command to its end. given: an open file as its standard input, instead of a pipe with `input`."""
    process = start(*arguments, models=models, stdin=given or subprocess.PIPE, **options)
    out, err = process.communicate(None if given else input, timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def error_line(stderr: str | bytes) -> str:
    """The text of standard error, which must be one line with an error message."""
    text = stderr.decode() if isinstance(stderr, bytes) else stderr
    assert re.fullmatch(r"ldcodec: error: [^\n]+\n", text), text
    return text
