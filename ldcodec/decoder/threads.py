"""A parallel `map` whose workers share out the threads of PyTorch, so that no more than those run in total.

Matrix products release Python's lock, so slices can be parsed in parallel. Threads within a matrix product wait for
each other at its end, and idle while symbols are read and arrays copied; slices wait for each other only at the end of
a slice (docs/experiments.md). torch is imported inside the functions, because decoding through ONNX does without it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_count(items: int, most: int) -> int:
    """The number of threads for that many items: at most `most`, and no more than PyTorch may use."""
    import torch

    return max(1, min(items, most, torch.get_num_threads()))


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`map(function, items)` in order, with at most `threads` results computed ahead, to bound memory.

    An exception is raised when its item's turn comes, and later items are dropped. `items` is iterated in the caller's
    thread.
    """
    if threads < 2:
        yield from map(function, items)
        return
    import torch

    before, waiting = torch.get_num_threads(), iter(items)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(max(1, before // threads),))
    try:
        running: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(waiting, threads))
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # set per thread, and inherited by threads started later
