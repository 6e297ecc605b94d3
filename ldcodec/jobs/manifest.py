"""The manifest of an output folder: what was made of which input, so that another run can go on where one ended.

It is a journal of JSON lines. A line is written before an output is begun and another when it is complete; a run that
is killed leaves at most a line that is cut, which counts as none. An output that was begun and not completed is ours
and is made again, so a file is neither lost nor left half-written.

In a remote folder the journal is stored from time to time (`journal`). So that it owns what is made meanwhile, all
outputs are begun before the first is written. Nothing there is locked: two runs must not share a remote folder.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from ldcodec.errors import LdcodecError, UsageError
from ldcodec.jobs import remote
from ldcodec.jobs.journal import RemoteJournal
from ldcodec.jobs.paths import Job, joined, size_of

FILE_NAME = ".ldcodec-manifest.jsonl"
VERSION = 1
UNFINISHED = re.compile(r"(^|/)\.ldcodec-[0-9a-f]{16}\.tmp$")  # no other file is removed, whatever a manifest says


@dataclass(frozen=True)
class Stamp:
    """By what an input is known: its size in bytes; its time of change in nanoseconds since 1970 and its SHA-256, or,
    if it is remote, what its store tells of its content.
    """

    size: int
    mtime_ns: int = 0
    sha256: str = ""
    tag: str = ""


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

    def __init__(self, folder: str, stream: IO[str], present: Mapping[str, int] | None = None) -> None:
        """present: sizes of the files that are in a remote folder, None for a folder that can be asked."""
        self.folder = folder
        self._stream = stream
        self._present = present
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

    def has_room(self, target: str) -> bool:
        """Whether the output at a path is ours to make anew, or is known not to be there."""
        return self.owns(target) or (self._present is not None and self._name(target) not in self._present)

    def is_done(self, job: Job, source: str, stamp: Stamp | None = None) -> bool:
        """Whether the output of a job is complete and its input, called `source`, has not changed since.

        stamp: of a remote input. A local one whose time alone has changed is read; one with the same content is noted
        with its new time.
        """
        record = self._made.get(self._name(job.target))
        if record is None or record.source != source:
            return False
        try:
            return self._made_size(job.target) == record.bytes and self._is_same(job, record, stamp)
        except OSError:
            return False

    def _made_size(self, target: str) -> int | None:
        return size_of(target) if self._present is None else self._present.get(self._name(target))

    def _is_same(self, job: Job, record: Record, stamp: Stamp | None) -> bool:
        if stamp is not None:
            return stamp == record.stamp
        status = os.stat(job.source)
        if status.st_size != record.stamp.size:
            return False
        if status.st_mtime_ns == record.stamp.mtime_ns:
            return True
        stamp = stamp_of(job.source)
        if stamp.sha256 == record.stamp.sha256:
            self.finish(job, record.source, stamp, record.bytes)
        return stamp.sha256 == record.stamp.sha256

    def begin(self, job: Job) -> None:
        """Note that an output will be written; to be called before anything of it is."""
        self._write({"begin": self._name(job.target), "unfinished": self._name(job.unfinished or "")})

    def keep_begun(self) -> None:
        """Make sure that what was noted outlives this process, wherever that takes a while. Raises OSError."""
        if isinstance(self._stream, RemoteJournal):
            self._stream.save()

    def finish(self, job: Job, source: str, stamp: Stamp, size: int) -> None:
        """Note that an output of so many bytes is complete."""
        fields = {"done": self._name(job.target), "source": source, "bytes": size}
        told = {name: value for name, value in asdict(stamp).items() if value or name == "size"}
        self._write(fields | told)

    def settle(self, order: dict[str, Any], force: bool) -> None:
        """Let the folder be one of outputs made to one order; what killed runs left behind is removed.

        Raises UsageError where outputs were made to another order, unless all is to be made anew.
        """
        if self._order is not None and self._order != order and not force:
            raise UsageError(f"{self.folder}: {_difference(self._order, order)}; name another folder, or --force")
        if self._order != order or force:
            self._write({"ldcodec": VERSION, "order": order})
        for name in filter(UNFINISHED.search, self._unfinished.values()):
            place = joined(self.folder, name)
            with suppress(OSError):
                remote.remove(place) if remote.is_remote(place) else os.unlink(place)

    def _name(self, path: str) -> str:
        if remote.is_remote(self.folder):
            return path.removeprefix(joined(self.folder, ""))
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
                stamp = _stamp_from(fields)
                self._made[str(fields["done"])] = Record(str(fields["source"]), stamp, int(fields["bytes"]))
                self._unfinished.pop(fields["done"], None)


def _stamp_from(fields: dict[str, Any]) -> Stamp:
    found = (int(fields["size"]), int(fields.get("mtime_ns", 0)), str(fields.get("sha256", "")))
    return Stamp(*found, str(fields.get("tag", "")))


@contextmanager
def manifest_of(folder: str) -> Iterator[Manifest]:
    """The manifest of a folder, which is made if need be, and is ours alone until the end.

    Raises LdcodecError if another run is at work there, or the folder cannot be used.
    """
    if remote.is_remote(folder):
        with _remote_manifest_of(folder) as manifest:
            yield manifest
        return
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


@contextmanager
def _remote_manifest_of(folder: str) -> Iterator[Manifest]:
    try:
        remote.check_writable(folder)
        remote.make_folder(folder)
        present = {name: found.size for name, found in remote.listed(folder).items()}
        stream = RemoteJournal(joined(folder, FILE_NAME))
    except OSError as error:
        raise LdcodecError(f"{folder}: {error.strerror or error}") from error
    with stream:
        stream.seek(0)
        manifest = Manifest(folder, stream, present)
        yield manifest


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
