"""Files with URLs, through fsspec: read in parts, listed, and written whole or not at all.

fsspec and the library of a protocol are imported when the first URL is used. These libraries take credentials, proxies,
retries and endpoints from their own environment variables and configuration files. Whatever they raise becomes an
OSError with one line of text, so that callers treat it like an error of a disk.
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
WEB = frozenset({"http", "https"})  # read-only, and a name may be followed by ?query
HOSTLESS = frozenset({"memory"})  # a path follows the slashes at once
INCLUDED = WEB | {"s3", "s3a"}  # what the extra `remote` installs
# A file in these appears when it is closed, whole; elsewhere it is written under another name and moved.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
BLOCK = 8 << 20  # bytes of one request where a whole file is wanted
BLOCKS = 8  # so many are kept, because a file is read twice, for its checksums and for its content
TAGS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "modify", "created")


@dataclass(frozen=True)
class Listed:
    """A file in a listing: its size in bytes, and the tag or checksum that its store has for it, or else its time."""

    size: int
    tag: str


def is_remote(path: str) -> bool:
    """Whether a name is a URL."""
    return URL.match(path) is not None


def appears_whole(url: str) -> bool:
    """Whether the store shows a file only once it is complete, so that it needs no other name meanwhile."""
    return _protocol(url) in OBJECT_STORES


def is_folder(url: str) -> bool:
    """Whether a URL is that of a folder: it ends with a slash, or consists of the host or bucket alone."""
    return url.endswith("/") or (_protocol(url) not in HOSTLESS and not urlsplit(url).path)


def base_name(url: str) -> str:
    """The last part of a URL, without ?query."""
    return PurePosixPath(without_query(url)).name


def joined(folder: str, name: str) -> str:
    """The URL of a file in a folder."""
    return folder + name if folder.endswith("/") else f"{folder}/{name}"


def parent(url: str) -> str:
    """The folder of a URL, with a slash at its end."""
    return url.rstrip("/").rpartition("/")[0] + "/"


def check_writable(url: str) -> None:
    """Raise OSError where nothing can be written: a read-only protocol, no such bucket, or a missing library."""
    if _protocol(url) in WEB:
        raise OSError(errno.EROFS, f"{_protocol(url)}:// can be read only; name another output with -o")
    with _as_oserror(url):
        system, path = _place(url)
        if _protocol(url) in OBJECT_STORES:
            _check_bucket(system, path.split("/", 1)[0])


def exists(url: str) -> bool:
    """Whether there is a file or folder. Raises OSError."""
    with _as_oserror(url):
        system, path = _place(url)
        return bool(system.exists(path))


def size_of(url: str) -> int:
    """Bytes of a file. Raises OSError if there is none."""
    with _as_oserror(url):
        system, path = _place(url)
        return int(system.info(path)["size"])


def make_folder(url: str) -> None:
    """Make a folder, in stores that have folders. Raises OSError."""
    if _protocol(url) not in OBJECT_STORES:
        with _as_oserror(url):
            system, path = _place(url)
            system.makedirs(path, exist_ok=True)


def remove(url: str) -> None:
    """Remove a file. Raises OSError."""
    with _as_oserror(url):
        system, path = _place(url)
        system.rm_file(path)


def listed(url: str) -> dict[str, Listed]:
    """Every file in a folder and the folders below it, sorted by its name within the folder.

    The URL of a file yields that file under an empty name; one that does not exist yields nothing. Raises OSError.
    """
    with _as_oserror(url):
        system, root = _place(url)
        system.invalidate_cache()
        root = root.rstrip("/")
        details = system.find(root, detail=True)
    names = {path[len(root) :].lstrip("/"): fields for path, fields in details.items()}
    return {name: _entry(fields) for name, fields in sorted(names.items()) if not name.endswith("/")}


@contextmanager
def opened(url: str, parts: bool = False) -> Iterator[BinaryIO]:
    """A file as a stream; it can seek if the server sends parts of files.

    parts: request just the bytes of each read, instead of large blocks of which some are kept. Raises OSError, also
    while the stream is read.
    """
    cache: dict[str, Any] = {"cache_type": "none"}
    if not parts:
        cache = {"cache_type": "blockcache", "block_size": BLOCK, "cache_options": {"maxblocks": BLOCKS}}
    with _as_oserror(url):
        system, path = _place(url)
        stream = _stream(url, system, path, cache)
    try:
        yield cast(BinaryIO, stream)
    finally:
        stream.close()


@contextmanager
def created(url: str, unfinished: str) -> Iterator[BinaryIO]:
    """A new file as a stream, which appears once it is complete; an exception leaves what was there before.

    unfinished: its URL meanwhile, unless the store does this by itself. Raises OSError.
    """
    place = url if appears_whole(url) else unfinished
    with _as_oserror(url):
        system, path = _place(url)
        own = _place(place)[1]
        stream = RemoteStream(url, system.open(own, "wb"))
    try:
        yield cast(BinaryIO, stream)
        stream.close()
        if own != path:
            with _as_oserror(url):
                system.mv(own, path)
    except BaseException:
        with suppress(Exception):
            stream.drop()
            if own != path:
                system.rm_file(own)
        raise


class RemoteStream:
    """A file of fsspec whose errors are OSErrors with one line; as much of a stream as Pillow and `Reader` need.

    It is no IOBase: one that is garbage-collected closes itself, which would complete an unfinished file.
    """

    def __init__(self, url: str, file: Any, seekable: bool = False) -> None:
        self._url, self._file, self._seekable = url, file, seekable

    def seekable(self) -> bool:
        """Whether any part can be read at any time."""
        return self._seekable

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, or all that are left. Raises OSError."""
        with _as_oserror(self._url):
            return bytes(self._file.read(size))

    def readline(self, size: int = -1) -> bytes:
        """The bytes to the end of a line, at most `size`; some formats of Pillow begin with text. Raises OSError."""
        with _as_oserror(self._url):
            return bytes(self._file.readline(size))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it. Raises OSError."""
        with _as_oserror(self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """The position of the next byte."""
        return int(self._file.tell())

    def write(self, data: bytes) -> int:
        """Take bytes, which may be sent later. Raises OSError."""
        with _as_oserror(self._url):
            return int(self._file.write(data))

    def flush(self) -> None:
        """Do nothing: fsspec decides what is sent when."""

    def close(self) -> None:
        """Send what is left, which completes a new file. Raises OSError."""
        with _as_oserror(self._url):
            self._file.close()

    def drop(self) -> None:
        """Close a new file without completing it."""
        from fsspec.spec import AbstractBufferedFile

        if isinstance(self._file, AbstractBufferedFile):
            with suppress(Exception):
                self._file.discard()
            self._file.closed = True  # or it would complete itself when it is garbage-collected
        else:
            self._file.close()


def _stream(url: str, system: Any, path: str, cache: dict[str, Any]) -> RemoteStream:
    file = _opened(system, path, cache)
    if getattr(file, "details", {}).get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file; --recursive takes what is in it")
    seekable = _can_seek(file, _protocol(url) in WEB)
    if not seekable and _protocol(url) in WEB:
        file = system.open(path, "rb", block_size=0)  # from beginning to end, in one request
    return RemoteStream(url, file, seekable)


def _opened(system: Any, path: str, cache: dict[str, Any]) -> Any:
    try:
        return system.open(path, "rb", **cache)
    except TypeError:  # the files of FTP have a cache of their own, which knows none of these options
        return system.open(path, "rb")


def _can_seek(file: Any, asked: bool) -> bool:
    """Whether any part can be read. asked: try it, because some web servers send every file from its beginning."""
    try:
        file.seek(-1 if asked else 0, io.SEEK_END)
        if asked:
            file.read(1)
        file.seek(0)
    except Exception:
        return False
    return True


def _entry(fields: dict[str, Any]) -> Listed:
    tag = next((str(fields[name]) for name in TAGS if fields.get(name)), "")
    return Listed(int(fields.get("size") or 0), tag)


def _protocol(url: str) -> str:
    return url.split("://", 1)[0].lower()


def without_query(url: str) -> str:
    """A URL without what follows a file's name in one of the web."""
    return url.split("?", 1)[0] if _protocol(url) in WEB else url


@lru_cache(1024)
def _place(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the file's path in it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, str(path)


@lru_cache(64)
def _check_bucket(system: Any, bucket: str) -> None:
    """Raise FileNotFoundError if there is none; one that may not be asked for may still be writable."""
    try:
        system.info(bucket)
    except PermissionError:
        return
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no bucket {bucket}") from error


@contextmanager
def _as_oserror(url: str) -> Iterator[None]:
    """Turn whatever is raised into an OSError with one line.

    The libraries' errors have no base class in common, so no narrower class than Exception would do.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
        raise OSError(number, _reason(url, error)) from error


def _reason(url: str, error: Exception) -> str:
    protocol, text = _protocol(url), _text(error)
    if isinstance(error, ImportError):
        return f"{protocol}:// needs more packages: {_advice(protocol, text)}"
    if isinstance(error, NotImplementedError):
        return f"{protocol}:// does not allow this"
    if isinstance(error, FileNotFoundError) and protocol in WEB and isinstance(error.__cause__, Exception):
        return _web_reason(error.__cause__)  # fsspec reports any failure as a missing file
    if isinstance(error, FileNotFoundError):
        return "no such bucket" if "bucket" in text and " " in text else "no such file"
    if isinstance(error, PermissionError):
        return f"access denied ({text})"
    if isinstance(error, TimeoutError):
        return f"no answer in time ({text})"
    if text.startswith("Protocol not known"):
        return f"unknown protocol {protocol}://"
    return _web_reason(error) if protocol in WEB else text


def _text(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _web_reason(error: Exception) -> str:
    """What a web server has answered, or why it has not."""
    status = getattr(error, "status", None)
    if status is None:
        return str(error) or type(error).__name__
    if status in (404, 410):
        return "no such file"
    return f"the server answers {status} {getattr(error, 'message', '')}".rstrip()


def _advice(protocol: str, text: str) -> str:
    return "pip install 'ldcodec[remote]'" if protocol in INCLUDED else text
