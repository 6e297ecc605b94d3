"""Independent work in threads that share PyTorch's own, so that no more than these run.

Matrix products release Python's lock, so slices are parsed at the same time; what one does alone (reading symbols,
copying arrays) no longer leaves the other threads idle. PyTorch is imported where threads are used, not before:
decoding through ONNX does without it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_count(items: int, most: int) -> int:
    """Threads for so many items: at most `most`, and at most as many as PyTorch may use."""
    import torch

    return max(1, min(items, most, torch.get_num_threads()))


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`map(function, items)` in order, with at most `threads` items begun and not yet taken.

    An exception is raised in its item's place and later items are dropped. The caller's thread makes the items.
    """
    if threads < 2:
        yield from map(function, items)
        return
    import torch

    before, waiting = torch.get_num_threads(), iter(items)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(max(1, before // threads),))
    try:
        begun: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(waiting, threads))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(function, item) for item in islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # a thread's own setting, which new threads inherit
