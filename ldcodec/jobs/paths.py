"""Which output each input becomes, what may be overwritten, and how files are opened and written.

Names that are URLs are handled by `remote`; all others are local paths.
"""

import io
import os
import re
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ldcodec.bitstream.atomic import lock, replaced
from ldcodec.bitstream.layout import MAGIC
from ldcodec.bitstream.reader import Reader
from ldcodec.errors import LdcodecError, UsageError
from ldcodec.jobs import remote

STREAM = "-"
UNFINISHED = re.compile(r"\.ldcodec-[0-9a-f]{16}\.tmp")
ABANDONED = 86400  # seconds after which the writer of an unfinished output may be dead


@dataclass(frozen=True)
class Job:
    """One input and the output it becomes; either may be `-`, the standard stream.

    new_folder: whether the output's folder may be made; unfinished: the path of the output while it is written, None
    for a random one.
    """

    source: str
    target: str
    new_folder: bool = False
    unfinished: str | None = None

    @property
    def source_name(self) -> str:
        """The input's name, for messages."""
        return name_of(self.source)

    @property
    def target_name(self) -> str:
        """The output's name, for messages."""
        return "standard output" if self.target == STREAM else self.target


def name_of(source: str) -> str:
    """The name of an input, for messages."""
    return "standard input" if source == STREAM else source


def plan(sources: Sequence[str], output: str | None, extension: str) -> list[Job]:
    """A job for each input: the output beside it, in the folder `output`, or `output` itself for a single one.

    Raises UsageError where two inputs would become one output, or an output would replace an input.
    """
    folder = _is_folder(sources, output)
    jobs = [Job(source, _target(source, output, extension, folder), folder) for source in sources]
    _check_streams(jobs)
    check_collisions(jobs)
    return jobs


def check(job: Job, force: bool) -> None:
    """Refuse early what would fail late.

    force: whether an existing output may be overwritten. Raises LdcodecError with a line that names file and reason.
    """
    if job.source != STREAM and not remote.is_remote(job.source):
        with _named(job.source):
            if stat.S_ISDIR(os.stat(job.source).st_mode):
                raise LdcodecError(f"{job.source}: is a folder, not a file; --recursive takes what is in it")
    if job.target == STREAM or is_special(job.target):
        return
    if remote.is_remote(job.target):
        _check_remote(job, force)
        return
    if os.path.isdir(job.target):
        raise LdcodecError(f"{job.target}: is a folder, not a file")
    if os.path.exists(job.target) and not force:
        raise LdcodecError(f"{job.target}: exists already; --force overwrites it")
    folder = os.path.dirname(os.path.realpath(job.target))
    with _named(folder):
        if job.new_folder:
            os.makedirs(folder, exist_ok=True)
        _check_writable(folder)


def _check_remote(job: Job, force: bool) -> None:
    with _named(job.target):
        remote.check_writable(job.target)
        if job.new_folder:
            remote.make_folder(remote.parent(job.target))
        if not force and remote.exists(job.target):
            raise LdcodecError(f"{job.target}: exists already; --force overwrites it")


def is_special(path: str) -> bool:
    """Whether a path is a device or pipe, which is written to and never replaced."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def reader_of(stream: BinaryIO) -> Reader:
    """The reader of an .ldc file, which may come from a pipe. Raises FormatError or DamagedError."""
    return Reader(stream if stream.seekable() else io.BytesIO(read_start(stream, MAGIC)))


def read_start(stream: BinaryIO, magic: bytes) -> bytes:
    """All bytes of a stream that begins with `magic`; of another only the first few, however long it is."""
    start = stream.read(len(magic))
    return start + stream.read() if start == magic else start


@contextmanager
def opened(source: str, parts: bool = False) -> Iterator[BinaryIO]:
    """The input as a binary stream.

    parts: whether few of its bytes are wanted, so that no others are sent through a network. Raises LdcodecError.
    """
    if source == STREAM:
        if sys.stdin is None:
            raise LdcodecError("standard input is closed")
        yield sys.stdin.buffer
        return
    remotely = remote.is_remote(source)
    with _named(source), remote.opened(source, parts) if remotely else open(source, "rb") as stream:
        yield stream


def size_of(path: str) -> int:
    """Bytes of a file. Raises OSError if there is none."""
    return remote.size_of(path) if remote.is_remote(path) else os.stat(path).st_size


def length_of(stream: BinaryIO) -> int | None:
    """Bytes of a stream, which is left at its beginning; None for a pipe."""
    if not stream.seekable():
        return None
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return length


def times_of(source: str) -> tuple[int, int] | None:
    """When a regular file was last read and changed, in nanoseconds since 1970; None for anything else.

    Call it before the file is opened, which counts as reading.
    """
    with suppress(OSError):
        status = os.stat(source)
        if source != STREAM and stat.S_ISREG(status.st_mode):
            return status.st_atime_ns, status.st_mtime_ns
    return None


@contextmanager
def created(target: str, times: tuple[int, int] | None = None, unfinished: str | None = None) -> Iterator[BinaryIO]:
    """The output as a binary stream; a file takes its name only once it is complete.

    Until then it has another name in the same folder, `unfinished` if given. If writing ends early, by an error or a
    signal, the unfinished file is removed and an older output stays as it was. times: set on a local file; see
    `times_of`. Raises LdcodecError.
    """
    if target == STREAM:
        if sys.stdout is None:
            raise LdcodecError("standard output is closed")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif remote.is_remote(target):
        with _named(target), remote.created(target, unfinished or unfinished_path(target)) as stream:
            yield stream
    elif is_special(target):
        with _named(target), open(target, "wb") as stream:
            yield stream
    else:
        with _named(target), _replaced_file(os.path.realpath(target), times, unfinished) as stream:
            yield stream


def unfinished_path(target: str) -> str:
    """A random path in the folder of an output, for it to be written under."""
    name = f".ldcodec-{os.urandom(8).hex()}.tmp"
    if remote.is_remote(target):
        return remote.joined(remote.parent(target), name)
    return os.path.join(os.path.dirname(os.path.realpath(target)), name)


def is_unfinished(path: str) -> bool:
    """Whether a path looks like one of `unfinished_path`."""
    return UNFINISHED.fullmatch(path.replace(os.sep, "/").rpartition("/")[2]) is not None


def joined(folder: str, name: str) -> str:
    """The path or URL of a file in a folder."""
    return remote.joined(folder, name.replace(os.sep, "/")) if remote.is_remote(folder) else os.path.join(folder, name)


def remove(path: str) -> None:
    """Remove a file. Raises OSError."""
    remote.remove(path) if remote.is_remote(path) else os.unlink(path)


def remove_unfinished(job: Job) -> None:
    """Remove what a dead process has left of an output."""
    if job.unfinished is not None:
        with suppress(OSError):
            remove(job.unfinished)


def remove_abandoned(folder: str) -> None:
    """Remove unfinished outputs of dead writers from a folder, but not from the folders in it.

    They are named as by `unfinished_path`, belong to this user, have not changed for a day, and lack the lock that a
    writer holds while it lives.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if is_unfinished(entry.name) and _is_abandoned(entry.path):
                    os.unlink(entry.path)


def _is_abandoned(path: str) -> bool:
    """Raise OSError where a writer holds the file."""
    status = os.lstat(path)
    ours = hasattr(os, "getuid") and status.st_uid == os.getuid()
    if not ours or not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < ABANDONED:
        return False
    with open(path, "rb") as stream:
        return lock(stream)  # False where there are no locks: then nobody can know


@contextmanager
def _replaced_file(target: str, times: tuple[int, int] | None, unfinished: str | None) -> Iterator[BinaryIO]:
    with replaced(Path(target), Path(unfinished or unfinished_path(target))) as temporary:
        with open(temporary, "xb") as stream:
            with suppress(BlockingIOError):  # held for a moment by a process that looks for abandoned files
                lock(stream)
            yield stream
        if os.path.exists(target):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        if times is not None:
            with suppress(OSError):  # some file systems keep no such times
                os.utime(temporary, ns=times)


def _is_folder(sources: Sequence[str], output: str | None) -> bool:
    if output is None or output == STREAM:
        return False
    if remote.is_remote(output):
        return len(sources) > 1 or remote.is_folder(output)
    return len(sources) > 1 or output.endswith(("/", os.sep)) or os.path.isdir(output)


def _target(source: str, output: str | None, extension: str, folder: bool) -> str:
    if output is not None and not folder:
        return output
    if source == STREAM:
        if folder:
            raise UsageError("standard input needs a file name after -o, not a folder")
        return STREAM
    if remote.is_remote(source):
        beside = remote.with_extension(source, extension)
        name = remote.base_name(beside)
    else:
        beside = os.path.splitext(source)[0] + extension
        name = os.path.basename(beside)
    return beside if output is None else joined(output, name)


def _check_streams(jobs: list[Job]) -> None:
    if sum(job.source == STREAM for job in jobs) > 1:
        raise UsageError("standard input can be read only once")
    outputs = sum(job.target == STREAM for job in jobs)
    if outputs > 1:
        raise UsageError("several outputs cannot share standard output; name a folder after -o")
    if outputs and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("the output is not text, so it is not written to a terminal; use -o FILE or a pipe")


def check_collisions(jobs: list[Job]) -> None:
    """Raise UsageError where two inputs would become one output, or an output would replace an input."""
    inputs = {identity: job.source for job in jobs if (identity := _identity(job.source)) is not None}
    seen: dict[str, str] = {}
    for job in jobs:
        identity = _identity(job.target)
        replaced = None if identity is None else inputs.get(identity)
        if replaced is not None:
            raise UsageError(f"{job.target}: the output would replace the input {replaced}; name another one with -o")
        place = job.target if remote.is_remote(job.target) else os.path.realpath(job.target)
        if place in seen:
            raise UsageError(f"{seen[place]} and {job.source} would both become {job.target}")
        seen[place] = job.source


def _identity(path: str) -> tuple[int, int] | str | None:
    """What all names of one regular file have in common; None if there is no such file."""
    if path == STREAM:
        return None
    if remote.is_remote(path):
        return path
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Turn an OSError into a line that names the file."""
    try:
        yield
    except OSError as error:
        raise LdcodecError(f"{path}: {error.strerror or error}") from error


@cache
def _check_writable(folder: str) -> None:
    """Raise OSError if no file can be made in the folder, which permission bits alone do not show."""
    import tempfile

    tempfile.TemporaryFile(dir=folder).close()
