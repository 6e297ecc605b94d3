"""What C libraries write to standard error by themselves, made into warnings.

libtiff tells of damage there and goes on with what pixels it has, and Pillow says nothing of it: without this, one of a
thousand files would be half black behind a line that names none of them.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from ldcodec.errors import LdcodecWarning

STDERR = 2


@contextmanager
def foreign_lines_as_warnings() -> Iterator[None]:
    """While a picture is read, hold what is written to standard error; the first line becomes an LdcodecWarning.

    Warnings of our own wait until then, or they would be held as well. If the reading fails, its error says enough.
    """
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as ours, held(lines):
        yield
    for entry in ours:
        warnings.warn(entry.message, stacklevel=3)
    if lines:
        more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
        warnings.warn(f"it may be damaged: {lines[0]}{more}", LdcodecWarning, stacklevel=3)


@contextmanager
def held(lines: list[str]) -> Iterator[None]:
    """Standard error into a temporary file, whose lines are added to `lines` at the end."""
    with ExitStack() as stack:
        file = _placed(stack)
        yield
    if file is not None:
        with file:
            lines += _lines(file)


def _placed(stack: ExitStack) -> BinaryIO | None:
    """A temporary file in the place of standard error until the stack is left; None if that cannot be done."""
    import tempfile

    if sys.stderr is None:  # closed when the program began: its number is that of another file by now
        return None
    try:
        terminal = os.dup(STDERR)
    except OSError:  # closed since
        return None
    stack.callback(os.close, terminal)
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (it outlives the stack)
    except OSError:  # no place for it
        return None
    stack.callback(os.dup2, terminal, STDERR)
    os.dup2(file.fileno(), STDERR)
    return file


def _lines(file: BinaryIO) -> list[str]:
    """All lines but those of a progress bar, which may have drawn itself meanwhile."""
    file.seek(0)
    text = file.read().decode(errors="replace")
    return [line.strip() for line in text.split("\n") if line.strip() and "\r" not in line]
