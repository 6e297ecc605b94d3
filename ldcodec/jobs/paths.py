"""Which file each input becomes, what may be overwritten, and how a file appears whole or not at all.

A name that is a URL leads to `remote`; all else is a path.
"""

import os
import re
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

from ldcodec.errors import LdcodecError, UsageError
from ldcodec.jobs import remote

STREAM = "-"
UNFINISHED = re.compile(r"\.ldcodec-[0-9a-f]{16}\.tmp")
ABANDONED = 86400  # seconds after which an unfinished output may be one of a writer that is no more


@dataclass(frozen=True)
class Job:
    """One input and the output it becomes; either may be `-`, the standard stream.

    new_folder: whether the output's folder may be made; unfinished: the path that the output has while it is written,
    None for one that nobody else knows.
    """

    source: str
    target: str
    new_folder: bool = False
    unfinished: str | None = None

    @property
    def source_name(self) -> str:
        """How messages call the input."""
        return name_of(self.source)

    @property
    def target_name(self) -> str:
        """How messages call the output."""
        return "standard output" if self.target == STREAM else self.target


def name_of(source: str) -> str:
    """How messages call an input."""
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
    """Refuse early what would fail late. Raises LdcodecError with a line that names the file and the reason."""
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
    """A device or pipe, which is written to and never replaced."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def read_start(stream: BinaryIO, magic: bytes) -> bytes:
    """All bytes of a stream that begins with `magic`; of another only the first few, however long it is."""
    start = stream.read(len(magic))
    return start + stream.read() if start == magic else start


@contextmanager
def opened(source: str, parts: bool = False) -> Iterator[BinaryIO]:
    """The input as a binary stream; parts: whether few of its bytes are wanted, for what is read through a network.

    Raises LdcodecError if it cannot be opened.
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
    """Bytes of a file. Raises OSError, also if there is none."""
    return remote.size_of(path) if remote.is_remote(path) else os.stat(path).st_size


def times_of(source: str) -> tuple[int, int] | None:
    """When the input was last read and changed, in nanoseconds since 1970; None for what is no regular file.

    To be asked before the input is opened, which counts as reading.
    """
    with suppress(OSError):
        status = os.stat(source)
        if source != STREAM and stat.S_ISREG(status.st_mode):
            return status.st_atime_ns, status.st_mtime_ns
    return None


@contextmanager
def created(target: str, times: tuple[int, int] | None = None, unfinished: str | None = None) -> Iterator[BinaryIO]:
    """The output as a binary stream; a file takes its name only once it is complete.

    It is written under another name in the same folder, `unfinished` if given, and renamed; whatever ends the writing
    early, a signal included, removes it and leaves an older file of that name untouched. `times`, as of `times_of`,
    become the file's, unless its name is a URL.
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
        with _named(target), _renamed_when_complete(os.path.realpath(target), times, unfinished) as stream:
            yield stream


def unfinished_path(target: str) -> str:
    """A path in the folder of an output, for it to be written under; another one at each call."""
    name = f".ldcodec-{os.urandom(8).hex()}.tmp"
    if remote.is_remote(target):
        return remote.joined(remote.parent(target), name)
    return os.path.join(os.path.dirname(os.path.realpath(target)), name)


def joined(folder: str, name: str) -> str:
    """The path of a file in a folder, or its URL."""
    return remote.joined(folder, name.replace(os.sep, "/")) if remote.is_remote(folder) else os.path.join(folder, name)


def remove_abandoned(folder: str) -> None:
    """Removes unfinished outputs from a folder (not from those in it) whose writers are no more: named as
    `unfinished_path` does, this user's, unchanged for a day, and without the lock that a writer holds while it lives.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if UNFINISHED.fullmatch(entry.name) and _is_abandoned(entry.path):
                    os.unlink(entry.path)


def _is_abandoned(path: str) -> bool:
    """Raises OSError where that cannot be told, as on file systems without locks."""
    status = os.lstat(path)
    ours = hasattr(os, "getuid") and status.st_uid == os.getuid()
    if not ours or not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < ABANDONED:
        return False
    with open(path, "rb") as stream:
        return _lock(stream)


def _lock(stream: BinaryIO) -> bool:
    """Takes the lock of a file, which ends with the process or the stream. Whether that could be done."""
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


@contextmanager
def _renamed_when_complete(target: str, times: tuple[int, int] | None, unfinished: str | None) -> Iterator[BinaryIO]:
    unfinished = unfinished or unfinished_path(target)
    try:
        with open(unfinished, "xb") as stream:
            _lock(stream)
            yield stream
        if os.path.exists(target):
            os.chmod(unfinished, stat.S_IMODE(os.stat(target).st_mode))
        if times is not None:
            with suppress(OSError):  # some file systems keep no such times
                os.utime(unfinished, ns=times)
        os.replace(unfinished, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


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
    """Raises UsageError where two inputs would become one output, or an output would replace an input."""
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
    """What two names of one regular file have in common; None if there is no such file."""
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
    """Raises OSError if no file can be made in the folder: permission bits alone do not tell."""
    import tempfile

    tempfile.TemporaryFile(dir=folder).close()
