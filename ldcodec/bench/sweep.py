"""Every picture through every codec at the settings that are needed, in this process or in several.

A codec starts with its smallest files and goes through one setting at a time, for all pictures, until its means exceed
those of ldcodec's best setting. Its curve then covers the same range, and larger files would have no counterpart. After
that every codec makes of every picture the best file within each number of bits that codecs are compared at.
"""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Protocol

from ldcodec.bench.catalogue import OWN, OWN_RATE, OwnOptions
from ldcodec.bench.catalogue import codec as codec_named
from ldcodec.bench.codecs import Codec
from ldcodec.bench.curves import Point
from ldcodec.bench.measurement import measure, measure_within
from ldcodec.bench.metrics import applies
from ldcodec.bench.rows import Results, Row
from ldcodec.bench.summary import mean_point
from ldcodec.bench.testset import Source
from ldcodec.errors import LdcodecError
from ldcodec.jobs.limits import bound_threads

AHEAD = 2  # tasks per process that are queued: enough to keep it busy, few enough to stop soon


@dataclass(frozen=True)
class Task:
    """A row to measure. at: the setting, or the bits per pixel that the file may take if it is limited."""

    source: Source
    codec: str
    at: float
    limited: bool = False


@dataclass(frozen=True)
class Failure:
    """A row that could not be measured, and why."""

    task: Task
    reason: str

    def __str__(self) -> str:
        unit = " bits a pixel" if self.task.limited else ""
        return f"{self.task.source.name}: {self.task.codec} at {self.task.at:g}{unit}: {self.reason}"


@dataclass(frozen=True)
class Setup:
    """How rows are measured. measures: besides PSNR; jobs: processes, 1 for this.

    limits: bits per pixel that codecs are compared at; swept: whether the codecs' scales are measured too.
    """

    own: OwnOptions
    measures: tuple[str, ...] = ()
    jobs: int = 1
    limits: tuple[float, ...] = ()
    swept: bool = True

    def rows(self, codecs: Sequence[Codec], pictures: int) -> int:
        """How many rows there are to measure at most."""
        scales = sum(len(codec.scale) for codec in codecs) if self.swept else 0
        return pictures * (scales + len(self.limits) * len(comparable(codecs)))


class Watcher(Protocol):
    """What a sweep reports its progress to."""

    def finished(self, codec: Codec, point: Point) -> None:
        """The means at a setting are known."""

    def advanced(self, rows: int) -> None:
        """This many more rows are done."""

    def skipped(self, rows: int) -> None:
        """This many rows turned out not to be needed."""

    def failed(self, failure: Failure) -> None:
        """A row could not be measured."""


Run = Callable[[Task], Row | Failure]
Pool = Callable[[Sequence[Task]], Iterator[Row | Failure]]


@dataclass
class Sweep:
    """The work of a bench: `run` adds rows to `results`, and to `failures` those that could not be measured."""

    sources: list[Source]
    codecs: list[Codec]
    setup: Setup
    results: Results
    watcher: Watcher
    failures: list[Failure] = field(default_factory=list)

    def run(self) -> None:
        """Measure what the results do not hold yet. Raises LdcodecError if a process of the pool dies."""
        with _pool(self.setup) as pool:
            if self.setup.swept:
                self._scales(pool)
            self._limits(pool)

    def _scales(self, pool: Pool) -> None:
        reach: Point | None = None
        for codec in self.codecs:
            for done, setting in enumerate(codec.scale, 1):
                point = self._setting(codec, setting, pool)
                if point is None or (codec.name not in (OWN, OWN_RATE) and _beyond(point, reach)):
                    self.watcher.skipped(len(self.sources) * (len(codec.scale) - done))
                    break
                reach = point if codec.name == OWN else reach

    def _limits(self, pool: Pool) -> None:
        """Picture by picture, so that what measures compute of an original is computed once."""
        failed = {(failure.task.source.name, failure.task.codec) for failure in self.failures}
        places = [(codec.name, limit) for codec in comparable(self.codecs) for limit in self.setup.limits]
        tasks = [Task(source, name, limit, True) for source in self.sources for name, limit in places]
        held = {(row.picture, row.codec, row.limit) for row in self.held()}
        left = [task for task in tasks if (task.source.name, task.codec, task.at) not in held]
        left = [task for task in left if (task.source.name, task.codec) not in failed]
        self.watcher.advanced(len(tasks) - len(left))
        self._measure(left, pool)

    def held(self) -> list[Row]:
        """The rows of the results that are still valid, see `held_rows`."""
        return held_rows(self.results.rows, self.sources, self.codecs, self.setup.measures)

    def _setting(self, codec: Codec, setting: float, pool: Pool) -> Point | None:
        """The means of one setting over all pictures; None once every picture has failed with this codec."""
        failed = {failure.task.source.name for failure in self.failures if failure.task.codec == codec.name}
        sources = [source for source in self.sources if source.name not in failed]
        tasks = [Task(source, codec.name, setting) for source in sources]
        held = held_rows(self.results.rows, self.sources, [codec], self.setup.measures)
        old = {row.picture: row for row in held if row.limit is None and row.setting == setting}
        self.watcher.advanced(len(self.sources) - len(tasks) + len(old))
        new = self._measure([task for task in tasks if task.source.name not in old], pool)
        if not (old or new):
            return None
        point = mean_point([*old.values(), *new])
        self.watcher.finished(codec, point)
        return point

    def _measure(self, tasks: Sequence[Task], pool: Pool) -> list[Row]:
        rows = []
        for outcome in pool(tasks):
            if isinstance(outcome, Failure):
                self.failures.append(outcome)
                self.watcher.failed(outcome)
            else:
                self.results.add(outcome)
                rows.append(outcome)
            self.watcher.advanced(1)
        return rows


def comparable(codecs: Sequence[Codec]) -> list[Codec]:
    """The codecs that can be compared at equal bits: a curve at constant rate would only say the same again."""
    return [codec for codec in codecs if codec.name != OWN_RATE]


def held_rows(rows: list[Row], sources: list[Source], codecs: list[Codec], measures: Sequence[str]) -> list[Row]:
    """The latest row of each measurement that has all measures and matches the pictures and codecs as they are now."""
    crcs, versions = {s.name: s.crc for s in sources}, {c.name: c.version for c in codecs}
    held = {
        row.key: row
        for row in rows
        if crcs.get(row.picture) == row.picture_crc
        and versions.get(row.codec) == row.version
        and all(getattr(row, each) is not None or not applies(each, row.width, row.height) for each in measures)
    }
    return list(held.values())


def _beyond(point: Point, reach: Point | None) -> bool:
    return reach is not None and point["bpp"] >= reach["bpp"] and point["psnr"] >= reach["psnr"]


def perform(task: Task, setup: Setup) -> Row | Failure:
    """Measure one row; any exception becomes a Failure, since one picture must not end the whole run."""
    try:
        codec = codec_named(task.codec, setup.own)
        work = measure_within if task.limited else measure
        return work(task.source, codec, task.at, setup.measures, setup.own.threads)
    except MemoryError:
        reason = "not enough memory"
    except Exception as error:  # libraries of many codecs: nothing narrower will do
        reason = " ".join(str(error).split()) or type(error).__name__
    return Failure(task, reason)


@contextmanager
def _pool(setup: Setup) -> Iterator[Pool]:
    run = partial(perform, setup=setup)
    if setup.jobs == 1:
        _begin(setup.own.threads)
        yield lambda tasks: map(run, tasks)
        return
    executor = processes(setup)
    try:
        yield lambda tasks: _in_order(executor, run, tasks, AHEAD * setup.jobs)
    except BrokenExecutor as error:
        raise LdcodecError("a process of the bench died; fewer --jobs need less memory") from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def processes(setup: Setup) -> ProcessPoolExecutor:
    """A pool of fresh processes, each with its own model.

    Their threads are bounded here, because libraries read the environment when they are imported.
    """
    bound_threads(setup.own.threads)
    return ProcessPoolExecutor(
        setup.jobs, get_context("spawn"), initializer=_begin_worker, initargs=(setup.own.threads,)
    )


def _begin_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    _begin(threads)


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _in_order(executor: ProcessPoolExecutor, run: Run, tasks: Sequence[Task], ahead: int) -> Iterator[Row | Failure]:
    waiting: deque[Future[Row | Failure]] = deque()
    for task in tasks:
        waiting.append(executor.submit(run, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
