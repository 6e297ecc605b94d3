"""How far long work has come, for whoever watches: nobody by default, and the command line where there is a terminal.

The watcher belongs to the context (`contextvars`), so what codes pictures need not hand it down, and threads that work
ahead tell nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Told = Callable[[], object]
Watcher = Callable[[str, int], Told]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher of all work within this context.

    watcher: called with what a part is ("tile") and their number when work begins; what it returns is called after each
    part.
    """
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


def begun(part: str, count: int) -> Told:
    """Say that work of that many parts has begun; what is returned is to be called after each."""
    watcher = _watcher.get()
    return untold if watcher is None else watcher(part, count)


def untold() -> None:
    """Tell nobody."""
