"""The manifest of an output folder: what was made of which input, so that another run can go on where one ended.

It is a journal of JSON lines. A line is written before an output is begun and another when it is complete; a run that
is killed leaves at most a line that is cut, which counts as none. An output that was begun and not completed is ours
and is made again, so a file is neither lost nor left half-written.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from ldcodec.cli.files import Job
from ldcodec.errors import LdcodecError, UsageError

FILE_NAME = ".ldcodec-manifest.jsonl"
VERSION = 1
UNFINISHED = re.compile(r"(^|/)\.ldcodec-[0-9a-f]{16}\.tmp$")  # no other file is removed, whatever a manifest says


@dataclass(frozen=True)
class Stamp:
    """By what an input is known: its size in bytes, its time of change in nanoseconds since 1970, its SHA-256."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """An output that is complete: its input, as named within the input folder, and its size in bytes."""

    source: str
    stamp: Stamp
    bytes: int


def stamp_of(path: str) -> Stamp:
    """The stamp of a file. Its time is asked for before it is read: a change meanwhile will be seen. Raises OSError."""
    status = os.stat(path)
    with open(path, "rb") as stream:
        return Stamp(status.st_size, status.st_mtime_ns, hashlib.file_digest(stream, "sha256").hexdigest())


class Manifest:
    """What is known of the outputs in a folder. Their names are relative to it, those of inputs to theirs."""

    def __init__(self, folder: str, stream: IO[str]) -> None:
        self.folder = folder
        self._stream = stream
        self._made: dict[str, Record | None] = {}  # None: begun, or made with other options
        self._unfinished: dict[str, str] = {}
        self._order: Any = None
        for line in stream:
            self._recall(line)

    def targets(self) -> dict[str, str]:
        """Of every input with a finished output, the output, both by their names."""
        return {record.source: target for target, record in self._made.items() if record is not None}

    def owns(self, target: str) -> bool:
        """Whether the output at a path was made, or at least begun, by a run like this one."""
        return self._name(target) in self._made

    def is_done(self, job: Job, source: str) -> bool:
        """Whether the output of a job is complete and its input, called `source`, has not changed since.

        An input whose time alone has changed is read; one with the same content is noted with its new time.
        """
        record = self._made.get(self._name(job.target))
        if record is None or record.source != source:
            return False
        try:
            status, made = os.stat(job.source), os.stat(job.target)
            if (status.st_size, made.st_size) != (record.stamp.size, record.bytes):
                return False
            if status.st_mtime_ns == record.stamp.mtime_ns:
                return True
            stamp = stamp_of(job.source)
        except OSError:
            return False
        if stamp.sha256 == record.stamp.sha256:
            self.finish(job, source, stamp)
        return stamp.sha256 == record.stamp.sha256

    def begin(self, job: Job) -> None:
        """Note that an output will be written; to be called before anything of it is."""
        self._write({"begin": self._name(job.target), "unfinished": self._name(job.unfinished or "")})

    def finish(self, job: Job, source: str, stamp: Stamp) -> None:
        """Note that an output is complete. Raises OSError if it is not there."""
        fields = {"done": self._name(job.target), "source": source, "bytes": os.stat(job.target).st_size}
        self._write(fields | asdict(stamp))

    def settle(self, order: dict[str, Any], force: bool) -> None:
        """Let the folder be one of outputs made to one order; what killed runs left behind is removed.

        Raises UsageError where outputs were made to another order, unless all is to be made anew.
        """
        if self._order is not None and self._order != order and not force:
            raise UsageError(f"{self.folder}: {_difference(self._order, order)}; name another folder, or --force")
        if self._order != order or force:
            self._write({"ldcodec": VERSION, "order": order})
        for name in filter(UNFINISHED.search, self._unfinished.values()):
            with suppress(OSError):
                os.unlink(os.path.join(self.folder, name))

    def _name(self, path: str) -> str:
        return os.path.relpath(os.path.realpath(path), os.path.realpath(self.folder))

    def _write(self, fields: dict[str, Any]) -> None:
        line = json.dumps(fields)
        self._stream.write(line + "\n")
        self._stream.flush()
        self._recall(line)

    def _recall(self, line: str) -> None:
        """What a line says; one that is cut or means nothing to us says nothing."""
        with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            fields = json.loads(line)
            if "order" in fields:
                self._order = fields["order"]
                self._made = dict.fromkeys(self._made)
            elif "begin" in fields:
                self._made[str(fields["begin"])] = None
                self._unfinished[str(fields["begin"])] = str(fields["unfinished"])
            else:
                stamp = Stamp(int(fields["size"]), int(fields["mtime_ns"]), str(fields["sha256"]))
                self._made[str(fields["done"])] = Record(str(fields["source"]), stamp, int(fields["bytes"]))
                self._unfinished.pop(fields["done"], None)


@contextmanager
def manifest_of(folder: str) -> Iterator[Manifest]:
    """The manifest of a folder, which is made if need be, and is ours alone until the end.

    Raises LdcodecError if another run is at work there, or the folder cannot be used.
    """
    path = os.path.join(folder, FILE_NAME)
    try:
        os.makedirs(folder, exist_ok=True)
        stream = open(path, "a+", encoding="utf-8", errors="replace", newline="\n")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise LdcodecError(f"{path}: {error.strerror or error}") from error
    with stream:
        _lock(stream, folder)
        _end_last_line(path, stream)
        stream.seek(0)
        yield Manifest(folder, stream)


def _lock(stream: IO[str], folder: str) -> None:
    """Ends with the process, however that ends. Where there are no such locks, two runs must not share a folder."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LdcodecError(f"{folder}: another run of ldcodec is at work in this folder") from error
    except OSError:  # a file system without locks
        return


def _end_last_line(path: str, stream: IO[str]) -> None:
    """What a killed run has cut must not run into the next line."""
    with open(path, "rb") as bytes_of_it:
        if bytes_of_it.seek(0, os.SEEK_END):
            bytes_of_it.seek(-1, os.SEEK_END)
            if bytes_of_it.read(1) != b"\n":
                stream.write("\n")
                stream.flush()


def _difference(before: Any, now: dict[str, Any]) -> str:
    """What an earlier run in the folder was asked for, as far as it differs."""
    old = before if isinstance(before, dict) else {}
    told = [f"{name} {old.get(name)!r} instead of {now[name]!r}" for name in now if old.get(name) != now[name]]
    return f"its files were made with {', '.join(told) or 'other options'}"
