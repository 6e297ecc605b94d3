"""Files that are named by a URL, through fsspec: read in parts, listed, and written whole or not at all.

fsspec and what it needs for a protocol are imported when the first URL is used. Credentials, proxies, retries and
endpoints are the libraries' own matter, from their environment and configuration files. Whatever a library raises
becomes an OSError with one line of text, so that callers treat it as they treat the errors of a disk.
"""

import errno
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # one letter would be a drive of Windows
WEB = frozenset({"http", "https"})  # can be read only, and a name may be followed by ?query
HOSTLESS = frozenset({"memory"})  # what follows the slashes is a path already
INCLUDED = WEB | {"s3", "s3a"}  # what the extra `remote` brings
# Their files appear when they are closed, whole; elsewhere one is written under another name and moved.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
BLOCK = 8 << 20  # bytes of one request where a whole file is wanted
BLOCKS = 8  # of these are kept: a file is gone through twice, for its checksums and for its content
TAGS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")


@dataclass(frozen=True)
class Found:
    """A file in a listing: its size in bytes, and what its store tells of its content or, failing that, its time."""

    size: int
    tag: str


def is_remote(path: str) -> bool:
    """Whether a name is a URL."""
    return URL.match(path) is not None


def appears_whole(url: str) -> bool:
    """Whether its store lets a file be seen only when it is complete, so that it needs no other name meanwhile."""
    return _protocol(url) in OBJECT_STORES


def is_folder(url: str) -> bool:
    """Whether a URL is written as a folder: with a slash at its end, or without anything after the host or bucket."""
    return url.endswith("/") or (_protocol(url) not in HOSTLESS and not urlsplit(url).path)


def base_name(url: str) -> str:
    """The last part of a URL without what follows a ?, as a file of its own would be called."""
    return PurePosixPath(_without_query(url)).name


def with_extension(url: str, extension: str) -> str:
    """The URL of the file beside another that has this extension instead."""
    path = _without_query(url)
    return path.removesuffix(PurePosixPath(base_name(url)).suffix) + extension


def joined(folder: str, name: str) -> str:
    """The URL of a file in a folder; the name's parts are parted by slashes."""
    return folder + name if folder.endswith("/") else f"{folder}/{name}"


def parent(url: str) -> str:
    """The folder that a URL is in, with a slash at its end."""
    return url.rstrip("/").rpartition("/")[0] + "/"


def check_writable(url: str) -> None:
    """Raises OSError where files of this protocol cannot be written at all, or what it needs is not installed."""
    if _protocol(url) in WEB:
        raise OSError(errno.EROFS, f"{_protocol(url)}:// can be read only; name another output with -o")
    with _told(url):
        system, path = _place(url)
        if _protocol(url) in OBJECT_STORES:
            _check_bucket(system, path.split("/", 1)[0])


def exists(url: str) -> bool:
    """Whether there is a file or folder. Raises OSError."""
    with _told(url):
        system, path = _place(url)
        return bool(system.exists(path))


def size_of(url: str) -> int:
    """Bytes of a file. Raises OSError, also if there is none."""
    with _told(url):
        system, path = _place(url)
        return int(system.info(path)["size"])


def make_folder(url: str) -> None:
    """Makes a folder, where there are any. Raises OSError."""
    if _protocol(url) not in OBJECT_STORES:
        with _told(url):
            system, path = _place(url)
            system.makedirs(path, exist_ok=True)


def remove(url: str) -> None:
    """Removes a file. Raises OSError."""
    with _told(url):
        system, path = _place(url)
        system.rm_file(path)


def listed(url: str) -> dict[str, Found]:
    """Every file in a folder and the folders in it, sorted, by its name within it; that of a file itself is empty.

    What does not exist holds nothing. Raises OSError.
    """
    with _told(url):
        system, root = _place(url)
        system.invalidate_cache()
        root = root.rstrip("/")
        details = system.find(root, detail=True)
    names = {path[len(root) :].lstrip("/"): fields for path, fields in details.items()}
    return {name: _found(fields) for name, fields in sorted(names.items()) if not name.endswith("/")}


@contextmanager
def opened(url: str, parts: bool = False) -> Iterator[BinaryIO]:
    """A file as a stream; it can seek wherever its server sends parts.

    parts: a request for each read and just its bytes, instead of large blocks of which some are kept. Raises OSError,
    also while the stream is read.
    """
    way: dict[str, Any] = {"cache_type": "none"}
    if not parts:
        way = {"cache_type": "blockcache", "block_size": BLOCK, "cache_options": {"maxblocks": BLOCKS}}
    with _told(url):
        system, path = _place(url)
        stream = _stream(url, system, path, way)
    try:
        yield cast(BinaryIO, stream)
    finally:
        stream.close()


@contextmanager
def created(url: str, unfinished: str) -> Iterator[BinaryIO]:
    """A file to be written, which is there once it is complete; an exception leaves what was there before.

    unfinished: the URL it has meanwhile, where the store does not do this by itself. Raises OSError.
    """
    place = url if appears_whole(url) else unfinished
    with _told(url):
        system, path = _place(url)
        own = _place(place)[1]
        stream = RemoteStream(url, system.open(own, "wb"))
    try:
        yield cast(BinaryIO, stream)
        stream.close()
        if own != path:
            with _told(url):
                system.mv(own, path)
    except BaseException:
        with suppress(Exception):
            stream.drop()
            if own != path:
                system.rm_file(own)
        raise


class RemoteStream:
    """A file of fsspec whose errors are OSErrors with one line; as much of a stream as Pillow and `Reader` need.

    It is no IOBase: these close themselves when they are forgotten, which would complete a file that is not.
    """

    def __init__(self, url: str, file: Any, seekable: bool = False) -> None:
        self._url, self._file, self._seekable = url, file, seekable

    def seekable(self) -> bool:
        """Whether any part may be read at any time."""
        return self._seekable

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, all that is left without a number. Raises OSError."""
        with _told(self._url):
            return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place and returns it. Raises OSError."""
        with _told(self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """The place of the next byte."""
        return int(self._file.tell())

    def write(self, data: bytes) -> int:
        """Takes bytes; they may be sent later. Raises OSError."""
        with _told(self._url):
            return int(self._file.write(data))

    def flush(self) -> None:
        """Nothing: what is sent when is the store's own matter."""

    def close(self) -> None:
        """Sends what is left; a file that was written is complete. Raises OSError."""
        with _told(self._url):
            self._file.close()

    def drop(self) -> None:
        """Ends the writing without completing it."""
        from fsspec.spec import AbstractBufferedFile

        if isinstance(self._file, AbstractBufferedFile):
            with suppress(Exception):
                self._file.discard()
            self._file.closed = True  # or it would complete itself when it is forgotten
        else:
            self._file.close()


def _stream(url: str, system: Any, path: str, way: dict[str, Any]) -> RemoteStream:
    file = system.open(path, "rb", **way)
    if getattr(file, "details", {}).get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file; --recursive takes what is in it")
    seekable = _can_seek(file, _protocol(url) in WEB)
    if not seekable and _protocol(url) in WEB:
        file = system.open(path, "rb", block_size=0)  # from beginning to end, in one request
    return RemoteStream(url, file, seekable)


def _can_seek(file: Any, asked: bool) -> bool:
    """Whether any part can be had; asked: whether the server must be asked, for some send all from the beginning."""
    try:
        file.seek(-1 if asked else 0, io.SEEK_END)
        if asked:
            file.read(1)
        file.seek(0)
    except Exception:
        return False
    return True


def _found(fields: dict[str, Any]) -> Found:
    tag = next((str(fields[name]) for name in TAGS if fields.get(name)), "")
    return Found(int(fields.get("size") or 0), tag)


def _protocol(url: str) -> str:
    return url.split("://", 1)[0].lower()


def _without_query(url: str) -> str:
    return url.split("?", 1)[0] if _protocol(url) in WEB else url


@lru_cache(1024)
def _place(url: str) -> tuple[Any, str]:
    """The file system of a URL, and what it calls the file."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, str(path)


@lru_cache(64)
def _check_bucket(system: Any, bucket: str) -> None:
    """Raises FileNotFoundError where there is none; one that may not be asked for may be written to all the same."""
    try:
        system.info(bucket)
    except PermissionError:
        return
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no bucket {bucket}") from error


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turns whatever is raised into an OSError with one line.

    Each library has errors of its own without a base in common, so no narrower class than Exception would do.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
        raise OSError(number, _reason(url, error)) from error


def _reason(url: str, error: Exception) -> str:
    protocol, said = _protocol(url), _said(error)
    if isinstance(error, ImportError):
        return f"{protocol}:// needs more packages: {_cure(protocol, said)}"
    if isinstance(error, NotImplementedError):
        return f"{protocol}:// does not allow this"
    if isinstance(error, FileNotFoundError) and protocol in WEB and isinstance(error.__cause__, Exception):
        return _answer(error.__cause__)  # whatever went wrong, fsspec finds no file
    if isinstance(error, FileNotFoundError):
        return "no such bucket" if "bucket" in said and " " in said else "no such file"
    if isinstance(error, PermissionError):
        return f"access denied ({said})"
    if isinstance(error, TimeoutError):
        return f"no answer in time ({said})"
    if said.startswith("Protocol not known"):
        return f"unknown protocol {protocol}://"
    return _answer(error) if protocol in WEB else said


def _said(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


def _answer(error: Exception) -> str:
    """What a web server has answered, or why it has not."""
    status = getattr(error, "status", None)
    if status is None:
        return str(error) or type(error).__name__
    if status in (404, 410):
        return "no such file"
    return f"the server answers {status} {getattr(error, 'message', '')}".rstrip()


def _cure(protocol: str, said: str) -> str:
    return "pip install 'ldcodec[remote]'" if protocol in INCLUDED else said
