"""Files that appear whole or not at all, and locks on files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def replaced(target: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it takes the target's name once the block has ended well.

    Whatever ends the block early, a signal included, leaves an older file untouched and nothing beside it. Folders
    above the target are made. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def lock(stream: IO[Any]) -> bool:
    """Lock an open file for this process, until it ends or closes the file; False where there are no such locks.

    Raises BlockingIOError if another process holds the lock.
    """
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):  # Windows, or a file system without locks
        return False
    return True
