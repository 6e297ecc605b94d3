"""How many threads work, and a parallel `map` whose workers share out those of PyTorch.

Matrix products release Python's lock, so slices can be parsed in parallel. Threads within a matrix product wait for
each other at its end, and idle while symbols are read and arrays copied; slices wait for each other only at the end of
a slice (docs/experiments.md).
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from concurrent.futures import Future

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # of version 2: microseconds of CPU in each period, microseconds of a period
STATISTICS = Path("/proc/stat")
# Threads that wait for others sleep, at once or, NumPy's, after 2²⁰ cycles: by itself they keep a core for 2²⁶, which
# is longer than most of what ncnn does in between (docs/experiments.md).
WAITING = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "20"}

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`map(function, items)` in order, with at most `threads` results computed ahead, to bound memory.

    An exception is raised when its item's turn comes, and later items are dropped. `items` is iterated in the caller's
    thread.
    """
    if threads < 2:
        yield from map(function, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting, torch = iter(items), sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    pool = ThreadPoolExecutor(threads, initializer=_bound_torch, initargs=(max(1, before // threads),))
    try:
        running: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(waiting, threads))
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        _bound_torch(before)  # set per thread, and inherited by threads started later


def _bound_torch(threads: int) -> None:
    """Set the threads of PyTorch, if anybody has loaded it: decoding through ncnn does without."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than its control group is given time for."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, _cores_given(CPU_MAX) or bound)


def free_cores() -> int:
    """`cores` that no other program uses at the moment; at least 1."""
    return max(1, min(cores(), (os.cpu_count() or 1) - _others()))


def _others() -> int:
    """How many other threads of the machine compute or wait for a core, or did in the last minute; 0 if unknown."""
    with suppress(OSError, ValueError):
        found = _running_others()
        if found:
            time.sleep(0.005)  # for some were at work for a moment only
            found = min(found, _running_others())
        return found
    with suppress(OSError, AttributeError):
        return round(os.getloadavg()[0])
    return 0


def _running_others() -> int:
    """Threads that Linux counts as running, without this one. Raises OSError or ValueError where it does not say."""
    words = STATISTICS.read_text().split()
    return max(0, int(words[words.index("procs_running") + 1]) - 1)


def let_threads_sleep() -> None:
    """Have the threads of libraries that are not loaded yet sleep while they wait, unless the environment says else."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Iterate while another thread computes the next item: one is ahead, to bound memory."""
    from concurrent.futures import ThreadPoolExecutor

    end = object()
    with ThreadPoolExecutor(1) as pool:
        following: Future[object] = pool.submit(next, items, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, items, end)
            yield cast(Item, item)


def _cores_given(path: Path) -> int | None:
    """Cores whose whole time a control group may use, at least 1; None where it has no limit."""
    try:
        quota, period = (int(number) for number in path.read_text().split())
        return max(1, -(-quota // period))
    except (OSError, ValueError, ZeroDivisionError):  # without a limit the quota is the word max
        return None
