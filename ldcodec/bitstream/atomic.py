"""Atomic file replacement, and file locks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def replaced(target: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `target` when the block succeeds.

    If the block raises, an existing target stays untouched and the temporary file is removed. Missing parent folders
    of the target are created. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt too
        with suppress(OSError):
            temporary.unlink()
        raise


def lock(stream: IO[Any]) -> bool:
    """Lock an open file until it is closed or the process ends. Returns False where the system has no such locks.

    Raises BlockingIOError if another process holds the lock.
    """
    try:
        import fcntl  # missing on Windows

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):  # OSError: a file system without locks
        return False
    return True
