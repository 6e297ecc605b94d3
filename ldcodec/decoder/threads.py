"""Work done side by side: lanes are threads that share those which PyTorch may use, so that no more than these run.

Matrix products and elementwise work let go of Python's lock, so lanes run at the same time; what one does alone,
reading symbols or moving them between arrays, no longer leaves the other threads idle. PyTorch is imported where there
are lanes, not before: decoding through ONNX does without it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def lanes_for(count: int, most: int) -> int:
    """How many of `count` pieces of work, and of at most `most`, are done at once: one for each thread of PyTorch."""
    import torch

    return max(1, min(count, most, torch.get_num_threads()))


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], lanes: int) -> Iterator[Result]:
    """function of each item, in the order of the items; no more than `lanes` are begun and not yet taken.

    What the function raises is raised in its place, and later items are given up. The caller's thread makes the items.
    """
    if lanes < 2:
        yield from map(function, items)
        return
    import torch

    threads, waiting = torch.get_num_threads(), iter(items)
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(max(1, threads // lanes),))
    try:
        begun: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(waiting, lanes))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(function, item) for item in islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a thread's own setting, and what new threads begin with
