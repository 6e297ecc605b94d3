"""Jobs done by processes that share nothing, each with its part of the cores.

A process that dies, for want of memory or through a defect, takes one job with it: that is a failure like any other,
and a new process goes on with the rest. Whatever stops the program stops the processes and removes what they had begun.
"""

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from ldcodec.decoder.threads import cores
from ldcodec.errors import ChosenModelError, LdcodecError, UsageError
from ldcodec.jobs.limits import bound_threads, free_memory
from ldcodec.jobs.manifest import Fingerprint, fingerprint_of
from ldcodec.jobs.messages import Console, JobResult
from ldcodec.jobs.paths import Job, remove_unfinished, size_of
from ldcodec.jobs.remote import is_remote
from ldcodec.jobs.work import Work

MOST_PROCESSES = 4  # without --jobs, because each holds a copy of the model


@dataclass
class Outcome:
    """What came of a job.

    lines: what to print, and whether on standard error; failures, salvaged: counts as of `Console`. Of a finished job
    its result, the bytes of its output, and the fingerprint of its input unless that is remote. fatal: the error that
    concerns every job.
    """

    lines: list[tuple[str, bool]] = field(default_factory=list)
    failures: int = 0
    salvaged: int = 0
    result: JobResult | None = None
    written: int = 0
    fingerprint: Fingerprint | None = None
    fatal: LdcodecError | None = None


@dataclass(frozen=True)
class CoreSplit:
    """How many processes share the cores, and how many threads each has."""

    processes: int
    threads: int


def split_cores(processes: int | None, threads: int | None) -> CoreSplit:
    """Processes and threads that together are no more than the cores. Raises UsageError if more are asked for."""
    available = cores()
    processes = processes or min(MOST_PROCESSES, max(1, available // (threads or 1)))
    threads = threads or max(1, available // processes)
    if processes * threads > available:
        given = f"{processes} jobs of {threads} threads"
        raise UsageError(f"{given} are more than the {available} cores; see --jobs, --threads")
    return CoreSplit(processes, threads)


def outcomes(
    work: Work, jobs: Iterator[Job], split: CoreSplit, quiet: bool
) -> Generator[tuple[Job, Outcome], None, None]:
    """Do every job and yield each with its outcome, in any order; the next job is taken when it can start.

    Close the generator, so that no process is left. With one process, jobs are done in this one.
    """
    if split.processes > 1:
        yield from Pool(work, split, quiet).outcomes(jobs)
        return
    console = RecordingConsole(quiet)
    function = work.prepared(console, split.threads)
    for job in jobs:
        yield job, console.outcome(job, function)


class Pool:
    """Processes, each at work on one job."""

    def __init__(self, work: Work, split: CoreSplit, quiet: bool) -> None:
        free = free_memory()  # asked before any process takes its part
        self._arguments = work, split.threads, quiet, None if free is None else free / split.processes
        self._size = split.processes
        self._context = get_context("spawn")  # a fork of a process with threads may hang
        self._busy: dict[Connection, tuple[SpawnProcess, Job]] = {}
        self._leaving: list[SpawnProcess] = []

    def outcomes(self, jobs: Iterator[Job]) -> Generator[tuple[Job, Outcome], None, None]:
        """Do the jobs and yield each with its outcome, in the order in which they end."""
        try:
            while len(self._busy) < self._size and (job := next(jobs, None)) is not None:
                self._assign(*self._started(), job)
            while self._busy:
                for pipe in wait(list(self._busy)):
                    if isinstance(pipe, Connection):
                        yield from self._finished(pipe, jobs)
        finally:
            self._stop()

    def _finished(self, pipe: Connection, jobs: Iterator[Job]) -> Iterator[tuple[Job, Outcome]]:
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
            self._assign(*(self._started() if lost else (pipe, process)), following)

    def _started(self) -> tuple[Connection, SpawnProcess]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        start_deaf(process)
        theirs.close()
        return ours, process

    def _assign(self, pipe: Connection, process: SpawnProcess, job: Job) -> None:
        self._busy[pipe] = process, job
        with suppress(OSError):  # the process has died, which the next wait reports
            pipe.send(job)

    def _stop(self) -> None:
        for pipe, (process, job) in self._busy.items():
            process.kill()
            process.join()
            pipe.close()
            remove_unfinished(job)
        for process in self._leaving:
            process.join()


class RecordingConsole(Console):
    """A console that keeps its lines, for another process to print."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet)
        self.lines: list[tuple[str, bool]] = []

    def say(self, line: str, error: bool = False) -> None:
        self.lines.append((line, error))

    def outcome(self, job: Job, function: Callable[[Job], JobResult]) -> Outcome:
        """Do a job and return what came of it, with the lines that it printed."""
        self.lines, self.failures, self.salvaged = [], 0, 0
        outcome = Outcome()
        try:
            with self.reporting(job.source_name):
                outcome.fingerprint = None if is_remote(job.source) else fingerprint_of(job.source)
                result = function(job)
                outcome.written = size_of(job.target)
                outcome.result = result
        except (UsageError, ChosenModelError) as error:
            outcome.fatal = error
        outcome.lines, outcome.failures, outcome.salvaged = self.lines, self.failures, self.salvaged
        return outcome


def start_deaf(process: SpawnProcess) -> None:
    """Start a process that ignores Ctrl-C, which the terminal sends to the whole group: only this process acts on it.

    The signal is blocked from before the interpreter starts, or it would die noisily while it does.
    """
    if not hasattr(signal, "pthread_sigmask"):
        process.start()
        return
    resource_tracker.ensure_running()  # the first start of a process would start it, and that unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Work, threads: int, quiet: bool, share: float | None) -> None:
    """A worker process: does the jobs that come through a pipe until it is closed. share: its part of the memory."""
    bound_threads(threads)
    console = RecordingConsole(quiet)
    function = work.prepared(console, threads, share)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(console.outcome(pipe.recv(), function))


def _lost(job: Job, exit_code: int | None) -> Outcome:
    """The outcome of a job whose process died."""
    remove_unfinished(job)
    killed = exit_code is not None and exit_code < 0
    reason = f"by {signal.Signals(-exit_code).name}" if killed and exit_code is not None else f"with code {exit_code}"
    line = f"ldcodec: error: {job.source_name}: its process ended {reason}, perhaps for want of memory"
    return Outcome([(line, True)], failures=1)
