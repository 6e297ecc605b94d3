"""The manifest of an output folder: what was made of which input, so that a run can continue where another ended.

It is a file of JSON lines. One is appended before an output is begun and another when it is complete; a run that is
killed leaves at most a line that is cut, which counts as none. An output that was begun and not completed is ours and
is made again, so no file is lost or left half-written.

A file in a remote folder cannot be appended to: there the manifest is kept in memory and uploaded as a whole from time
to time. All outputs are begun before the first is written, so that those made between two uploads are known to be ours.
Nothing there is locked: two runs must not share a remote folder.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import IO, Any

from ldcodec.bitstream.atomic import lock
from ldcodec.errors import LdcodecError, UsageError
from ldcodec.jobs import remote
from ldcodec.jobs.paths import Job, created, is_unfinished, joined, remove, size_of

FILE_NAME = ".ldcodec-manifest.jsonl"
VERSION = 1
INTERVAL = 30.0  # seconds between two uploads of a remote manifest while lines are added


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the content of an input.

    Its size in bytes; its time of change in nanoseconds since 1970 and its SHA-256 in hex or, if it is remote, what its
    store says of the content.
    """

    size: int
    mtime_ns: int = 0
    sha256: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Record:
    """A complete output: its input, as named within the input folder, and its size in bytes."""

    source: str
    fingerprint: Fingerprint
    bytes: int


def fingerprint_of(path: str) -> Fingerprint:
    """The fingerprint of a local file. Raises OSError."""
    status = os.stat(path)  # before reading, so that a change during it will be noticed
    with open(path, "rb") as stream:
        return Fingerprint(status.st_size, status.st_mtime_ns, hashlib.file_digest(stream, "sha256").hexdigest())


class Manifest:
    """What is known of the outputs in a folder. Their names are relative to it, those of inputs to theirs."""

    def __init__(self, folder: str, stream: IO[str], present: Mapping[str, int] | None = None) -> None:
        """present: sizes of the files in a remote folder, listed once; None for a local one, which can be asked."""
        self.folder = folder
        self._stream = stream
        self._present = present
        self._outputs: dict[str, Record | None] = {}  # None: begun, or made with other options
        self._unfinished: dict[str, str] = {}
        self._options: Any = None
        for line in stream:
            self._replay(line)

    def targets(self) -> dict[str, str]:
        """The output of each input that has a finished one, both by name."""
        return {record.source: target for target, record in self._outputs.items() if record is not None}

    def may_write(self, target: str) -> bool:
        """Whether the output at a path is ours to replace, or is known not to exist."""
        name = self._name(target)
        return name in self._outputs or (self._present is not None and name not in self._present)

    def is_done(self, job: Job, source: str, fingerprint: Fingerprint | None = None) -> bool:
        """Whether the output of a job is complete and its input, called `source`, has not changed since.

        fingerprint: of a remote input. A local one is read only if its time alone has changed; if its content has not,
        the new time is noted.
        """
        record = self._outputs.get(self._name(job.target))
        if record is None or record.source != source:
            return False
        try:
            return self._size(job.target) == record.bytes and self._is_same(job, record, fingerprint)
        except OSError:
            return False

    def _size(self, target: str) -> int | None:
        return size_of(target) if self._present is None else self._present.get(self._name(target))

    def _is_same(self, job: Job, record: Record, fingerprint: Fingerprint | None) -> bool:
        if fingerprint is not None:
            return fingerprint == record.fingerprint
        status = os.stat(job.source)
        if status.st_size != record.fingerprint.size:
            return False
        if status.st_mtime_ns == record.fingerprint.mtime_ns:
            return True
        fingerprint = fingerprint_of(job.source)
        if fingerprint.sha256 == record.fingerprint.sha256:
            self.finish(job, record.source, fingerprint, record.bytes)
        return fingerprint.sha256 == record.fingerprint.sha256

    def begin(self, job: Job) -> None:
        """Note that an output will be written, before anything of it is."""
        self._append({"begin": self._name(job.target), "unfinished": self._name(job.unfinished or "")})

    def finish(self, job: Job, source: str, fingerprint: Fingerprint, size: int) -> None:
        """Note that an output of `size` bytes is complete."""
        fields = {"done": self._name(job.target), "source": source, "bytes": size}
        known = {name: value for name, value in asdict(fingerprint).items() if value or name == "size"}
        self._append(fields | known)

    def save(self) -> None:
        """Make sure that what was noted outlives this process, where that takes a while. Raises LdcodecError."""
        if isinstance(self._stream, _RemoteText):
            self._stream.save()

    def settle(self, options: dict[str, Any], force: bool) -> None:
        """Make this a folder of outputs with these options, and remove what killed runs left behind.

        Raises UsageError where outputs were made with other options, unless all is to be made anew.
        """
        if self._options is not None and self._options != options and not force:
            raise UsageError(f"{self.folder}: {_difference(self._options, options)}; name another folder, or --force")
        if self._options != options or force:
            self._append({"ldcodec": VERSION, "order": options})
        for name in filter(is_unfinished, self._unfinished.values()):  # nothing else, whatever a manifest says
            with suppress(OSError):
                remove(joined(self.folder, name))

    def _name(self, path: str) -> str:
        if remote.is_remote(self.folder):
            return path.removeprefix(joined(self.folder, ""))
        return os.path.relpath(os.path.realpath(path), os.path.realpath(self.folder))

    def _append(self, fields: dict[str, Any]) -> None:
        line = json.dumps(fields)
        self._stream.write(line + "\n")
        self._stream.flush()
        self._replay(line)

    def _replay(self, line: str) -> None:
        """Take in what a line says; one that is cut or means nothing to us says nothing."""
        with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            fields = json.loads(line)
            if "order" in fields:
                self._options = fields["order"]
                self._outputs = dict.fromkeys(self._outputs)
            elif "begin" in fields:
                self._outputs[str(fields["begin"])] = None
                self._unfinished[str(fields["begin"])] = str(fields["unfinished"])
            else:
                texts = (str(fields.get(name, "")) for name in ("sha256", "tag"))
                fingerprint = Fingerprint(int(fields["size"]), int(fields.get("mtime_ns", 0)), *texts)
                self._outputs[str(fields["done"])] = Record(str(fields["source"]), fingerprint, int(fields["bytes"]))
                self._unfinished.pop(fields["done"], None)


class _RemoteText(io.StringIO):
    """The text of a file with a URL, uploaded as a whole by `save`, by `close`, and now and then by `flush`.

    A run that is killed loses the lines of the last seconds.
    """

    def __init__(self, url: str) -> None:
        """Read the file, if there is one. Raises OSError."""
        super().__init__(newline="\n")
        self._url = url
        if remote.exists(url):
            with remote.opened(url) as stream:
                text = stream.read().decode("utf-8", "replace")
            self.write(text if text.endswith("\n") else text + "\n")
        self._stored, self._time = len(self.getvalue()), monotonic()
        self.seek(0)

    def flush(self) -> None:
        """Upload the text if that was last done some time ago. Raises LdcodecError."""
        if monotonic() - self._time > INTERVAL:
            self.save()

    def save(self) -> None:
        """Upload the text if anything was added to it. Raises LdcodecError."""
        self._time = monotonic()
        text = self.getvalue()
        if len(text) > self._stored:
            with created(self._url) as stream:
                stream.write(text.encode())
            self._stored = len(text)

    def close(self) -> None:
        """Upload the text and free it. Raises LdcodecError."""
        if not self.closed:
            try:
                self.save()
            finally:
                super().close()


@contextmanager
def open_manifest(folder: str) -> Iterator[Manifest]:
    """The manifest of a folder, which is made if need be; a local one is locked until the end.

    Raises LdcodecError if another run is at work there, or the folder cannot be used.
    """
    present = None
    path = joined(folder, FILE_NAME)
    try:
        if remote.is_remote(folder):
            remote.check_writable(folder)
            remote.make_folder(folder)
            present = {name: found.size for name, found in remote.listed(folder).items()}
            stream: IO[str] = _RemoteText(path)
        else:
            os.makedirs(folder, exist_ok=True)
            stream = _open_local(path)
    except BlockingIOError as error:
        raise LdcodecError(f"{folder}: another run of ldcodec is at work in this folder") from error
    except OSError as error:
        raise LdcodecError(f"{folder}: {error.strerror or error}") from error
    with stream:
        yield Manifest(folder, stream, present)


def _open_local(path: str) -> IO[str]:
    """A local manifest, locked and at its beginning. Raises OSError; BlockingIOError if another process has it."""
    stream = open(path, "a+", encoding="utf-8", errors="replace", newline="\n")  # noqa: SIM115 (closed by the caller)
    try:
        lock(stream)  # where there are no such locks, two runs must not share a folder
        with open(path, "rb") as raw:
            if raw.seek(0, os.SEEK_END) and raw.seek(-1, os.SEEK_END) >= 0 and raw.read(1) != b"\n":
                stream.write("\n")  # what a killed run has cut must not run into the next line
        stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream


def _difference(before: Any, now: dict[str, Any]) -> str:
    """The options of an earlier run in the folder that differ from those of this one."""
    old = before if isinstance(before, dict) else {}
    changed = [f"{name} {old.get(name)!r} instead of {now[name]!r}" for name in now if old.get(name) != now[name]]
    return f"its files were made with {', '.join(changed) or 'other options'}"
