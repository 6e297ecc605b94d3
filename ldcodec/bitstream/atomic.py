"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
