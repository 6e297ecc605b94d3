"""Jobs done by processes that share nothing, each with its part of the cores.

A process that dies, for want of memory or through a defect, takes one job with it: that is a failure like any other,
and a new process goes on with the rest. Whatever stops the program stops the processes and removes what they had begun.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import click

from ldcodec.errors import UsageError
from ldcodec.jobs import memory
from ldcodec.jobs.cores import bound, cores
from ldcodec.jobs.manifest import Stamp, stamp_of
from ldcodec.jobs.messages import Batch, Result
from ldcodec.jobs.paths import Job, size_of
from ldcodec.jobs.remote import is_remote, remove
from ldcodec.jobs.work import Work

MOST_JOBS = 4  # without --jobs: each process holds a model of its own


@dataclass
class Outcome:
    """What came of a job: lines to tell (and whether on standard error), failures, files restored in part; if it was
    done, its result, the bytes of its output and the stamp of its input, unless that is remote; if nothing can be
    done at all, why.
    """

    lines: list[tuple[str, bool]] = field(default_factory=list)
    failures: int = 0
    salvaged: int = 0
    result: Result | None = None
    written: int = 0
    stamp: Stamp | None = None
    fatal: UsageError | click.ClickException | None = None


@dataclass(frozen=True)
class Team:
    """How many processes, and of how many threads each."""

    jobs: int
    threads: int


def team_of(jobs: int | None, threads: int | None) -> Team:
    """Processes and threads that together are no more than the cores. Raises UsageError if more are asked for."""
    available = cores()
    jobs = jobs or min(MOST_JOBS, max(1, available // (threads or 1)))
    threads = threads or max(1, available // jobs)
    if jobs * threads > available:
        raise UsageError(f"{jobs} jobs of {threads} threads are more than the {available} cores; see --jobs, --threads")
    return Team(jobs, threads)


def outcomes(work: Work, jobs: Iterator[Job], team: Team, quiet: bool) -> Generator[tuple[Job, Outcome], None, None]:
    """Does every job, and gives each with what came of it; the next job is asked for when it will be begun.

    To be closed, so that no process is left. A single job at a time is done in this process.
    """
    if team.jobs > 1:
        yield from Crew(work, team, quiet).outcomes(jobs)
        return
    listener = Listener(quiet)
    function = work.begun(listener, team.threads)
    for job in jobs:
        yield job, listener.outcome(job, function)


class Crew:
    """Processes at work, each with one job."""

    def __init__(self, work: Work, team: Team, quiet: bool) -> None:
        free = memory.free()  # before any of them holds its part
        self._arguments = work, team.threads, quiet, None if free is None else free / team.jobs
        self._jobs = team.jobs
        self._context = get_context("spawn")  # a fork of a process with threads may hang
        self._busy: dict[Connection, tuple[SpawnProcess, Job]] = {}
        self._leaving: list[SpawnProcess] = []

    def outcomes(self, jobs: Iterator[Job]) -> Generator[tuple[Job, Outcome], None, None]:
        """As the function `outcomes` does."""
        try:
            while len(self._busy) < self._jobs and (job := next(jobs, None)) is not None:
                self._give(*self._hired(), job)
            while self._busy:
                for pipe in wait(list(self._busy)):
                    if isinstance(pipe, Connection):
                        yield from self._advanced(pipe, jobs)
        finally:
            self._dismiss()

    def _advanced(self, pipe: Connection, jobs: Iterator[Job]) -> Iterator[tuple[Job, Outcome]]:
        """The outcome of a job; then its process, or a new one for one that died, gets the next."""
        process, job = self._busy[pipe]
        try:
            outcome: Outcome = pipe.recv()
            lost = False
        except (EOFError, OSError):
            process.join()
            outcome, lost = _lost(job, process.exitcode), True
        del self._busy[pipe]
        yield job, outcome
        following = next(jobs, None)
        if lost or following is None:
            pipe.close()  # upon which the process ends
            self._leaving.append(process)
        if following is not None:
            self._give(*(self._hired() if lost else (pipe, process)), following)

    def _hired(self) -> tuple[Connection, SpawnProcess]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        begin(process)
        theirs.close()
        return ours, process

    def _give(self, pipe: Connection, process: SpawnProcess, job: Job) -> None:
        self._busy[pipe] = process, job
        with suppress(OSError):  # it has died; the next wait tells
            pipe.send(job)

    def _dismiss(self) -> None:
        for pipe, (process, job) in self._busy.items():
            process.kill()
            process.join()
            pipe.close()
            remove_unfinished(job)
        for process in self._leaving:
            process.join()


class Listener(Batch):
    """A batch that keeps what it is to say for another process to say it."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet)
        self.lines: list[tuple[str, bool]] = []

    def say(self, line: str, error: bool = False) -> None:
        """Keep a line."""
        self.lines.append((line, error))

    def outcome(self, job: Job, function: Callable[[Job], Result]) -> Outcome:
        """Does a job."""
        self.lines, self.failures, self.salvaged = [], 0, 0
        outcome = Outcome()
        try:
            with self.reporting(job.source_name):
                outcome.stamp = None if is_remote(job.source) else stamp_of(job.source)
                result = function(job)
                outcome.written = size_of(job.target)
                outcome.result = result
        except (UsageError, click.ClickException) as error:
            outcome.fatal = error
        outcome.lines, outcome.failures, outcome.salvaged = self.lines, self.failures, self.salvaged
        return outcome


def begin(process: SpawnProcess) -> None:
    """Starts a process that never hears of Ctrl-C, which the terminal sends to all of a group: this one acts."""
    if not hasattr(signal, "pthread_sigmask"):
        process.start()
        return
    resource_tracker.ensure_running()  # the first start would begin it, and that lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Work, threads: int, quiet: bool, share: float | None) -> None:
    """A process: does the jobs that come through a pipe until there is no more; share: its part of the memory."""
    bound(threads)
    listener = Listener(quiet)
    function = work.begun(listener, threads, share)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(listener.outcome(pipe.recv(), function))


def _lost(job: Job, exit_code: int | None) -> Outcome:
    """The outcome of a job whose process is no more."""
    remove_unfinished(job)
    killed = exit_code is not None and exit_code < 0
    reason = f"by {signal.Signals(-exit_code).name}" if killed and exit_code is not None else f"with code {exit_code}"
    line = f"ldcodec: error: {job.source_name}: its process ended {reason}, perhaps for want of memory"
    return Outcome([(line, True)], failures=1)


def remove_unfinished(job: Job) -> None:
    """Remove what a process that is no more has left of an output."""
    if job.unfinished is not None:
        with suppress(OSError):
            remove(job.unfinished) if is_remote(job.unfinished) else os.unlink(job.unfinished)
