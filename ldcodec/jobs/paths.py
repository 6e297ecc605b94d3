"""Which output each input becomes, what may be overwritten, and how files are opened and written.

Names that are URLs are handled by `remote`; all others are local paths.
"""

import io
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
# Names of open descriptors of this process: to open one anew would empty the file behind it, or replace it by a rename.
DESCRIPTOR = re.compile(r"/dev/std(?P<name>in|out|err)|/(?:dev|proc/self)/fd/(?P<number>\d{1,9})")
DESCRIPTORS = {"in": 0, "out": 1, "err": 2}
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


def renamed(name: str, extension: str) -> str:
    """The name of the output of an input: with another extension, or without its own if that leaves the other.

    `x.jpg` becomes `x.ldc`, and `x.png.ldc`, which was made of `x.png`, becomes `x.png` again.
    """
    stem = os.path.splitext(name)[0]
    return stem if os.path.splitext(stem)[1].lower() == extension else stem + extension


def standard(path: str, number: int) -> str:
    """A path, or `-` if it names the standard stream of this number, 0 or 1, such as /dev/stdout."""
    return STREAM if _descriptor(path) == number else path


def _descriptor(path: str) -> int | None:
    found = DESCRIPTOR.fullmatch(path)
    if found is None:
        return None
    return DESCRIPTORS[found["name"]] if found["name"] else int(found["number"])


def plan(sources: Sequence[str], output: str | None, extension: str) -> list[Job]:
    """A job for each input: the output beside it, in the folder `output`, or `output` itself for a single one.

    Raises UsageError where two inputs would become one output, or an output would replace an input.
    """
    sources, output = [standard(source, 0) for source in sources], output and standard(output, 1)
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
    """Whether a path is a device, a pipe or an open descriptor, which is written to and never replaced."""
    if _descriptor(path) is not None:
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def reader_of(stream: BinaryIO) -> Reader:
    """The reader of an .ldc file, which may come from a pipe. Raises FormatError or DamagedError."""
    return Reader(stream if stream.seekable() else io.BytesIO(read_start(stream, MAGIC)))


def read_start(stream: BinaryIO, magic: bytes) -> bytes:
    """All bytes of a stream that begins with `magic`; of another only the first few, however long it is."""
    start = stream.read(len(magic))
    return start + stream.read() if start == magic else start


def check_extension(target: str, allowed: Sequence[str]) -> None:
    """Raise UsageError for the name of a file with another extension than those allowed; streams have any."""
    extension = os.path.splitext(remote.without_query(target))[1]
    if target != STREAM and not is_special(target) and extension.lower() not in allowed:
        raise UsageError(f"{target}: the output is no {extension} file; name it {allowed[0]}")


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


def seekable(stream: BinaryIO) -> BinaryIO:
    """A stream in which places can be sought, at its beginning; a pipe is read to its end."""
    return stream if stream.seekable() else io.BytesIO(stream.read())


def length_of(stream: BinaryIO) -> int:
    """Bytes of a stream in which places can be sought, which is left at its beginning."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return length


@dataclass(frozen=True)
class Origin:
    """The regular file that an output is made from: who may use it, and when it was last read and changed.

    mode: its permission bits; group: its number; times: in nanoseconds since 1970, None where the output has its own.
    """

    mode: int
    group: int
    times: tuple[int, int] | None

    def rights(self, status: os.stat_result) -> int:
        """The permission bits of an output: its own, without what the input does not allow to the same people."""
        mode = self.mode
        if status.st_gid != self.group:  # of another group nobody may do more than anybody
            mode &= ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
        return stat.S_IMODE(status.st_mode) & (mode | stat.S_IRWXU)


def origin_of(source: str, preserve: bool) -> Origin | None:
    """The origin of an output if its input is a regular file, else None. preserve: whether the output gets its times.

    Call it before the file is opened, which counts as reading.
    """
    with suppress(OSError, AttributeError, ValueError):  # standard input may be closed or have no number
        status = os.fstat(sys.stdin.fileno()) if source == STREAM else os.stat(source)
        if stat.S_ISREG(status.st_mode):
            times = (status.st_atime_ns, status.st_mtime_ns) if preserve and source != STREAM else None
            return Origin(stat.S_IMODE(status.st_mode), status.st_gid, times)
    return None


@contextmanager
def created(target: str, origin: Origin | None = None, unfinished: str | None = None) -> Iterator[BinaryIO]:
    """The output as a binary stream; a file takes its name only once it is complete.

    Until then it has another name in the same folder, `unfinished` if given. If writing ends early, by an error or a
    signal, the unfinished file is removed and an older output stays as it was. origin: of a local file, whose rights
    are never wider. Raises LdcodecError.
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
        number = _descriptor(target)
        with _named(target), open(target if number is None else os.dup(number), "wb") as stream:
            yield stream
    else:
        with _named(target), _replaced_file(os.path.realpath(target), origin, unfinished) as stream:
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
def _replaced_file(target: str, origin: Origin | None, unfinished: str | None) -> Iterator[BinaryIO]:
    with replaced(Path(target), Path(unfinished or unfinished_path(target))) as temporary:
        with open(temporary, "xb", opener=None if origin is None else _opener(origin)) as stream:
            with suppress(BlockingIOError):  # held for a moment by a process that looks for abandoned files
                lock(stream)
            yield stream
        if os.path.exists(target):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        if origin is not None:
            os.chmod(temporary, origin.rights(os.stat(temporary)))
            with suppress(OSError):  # some file systems keep no such times
                os.utime(temporary, ns=origin.times) if origin.times is not None else None


def _opener(origin: Origin) -> Callable[[str, int], int]:
    """Opens a new file that nobody may read meanwhile who may not read the input."""
    return lambda path, flags: os.open(path, flags, 0o666 & (origin.mode | stat.S_IRWXU))


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
    beside = renamed(remote.without_query(source), extension)
    name = remote.base_name(beside) if remote.is_remote(source) else os.path.basename(beside)
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
