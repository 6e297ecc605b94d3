"""Jobs done by a cluster, through Ray Data, which schedules them and repeats those that were lost.

A process that dies, or the machine it was on, costs nothing but time: Ray has its files done again elsewhere, and an
output that is made twice is whole each time. Files whose process dies again and again are tried once more one by one,
so that the one that kills it is reported as failed and takes no other with it.
"""

import logging
import os
import re
import signal
import socket
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ldcodec.decoder.threads import cores
from ldcodec.errors import LdcodecError
from ldcodec.jobs.limits import bound_threads
from ldcodec.jobs.messages import held_stderr
from ldcodec.jobs.paths import STREAM, Job, remove_unfinished
from ldcodec.jobs.remote import is_remote
from ldcodec.jobs.work import Work
from ldcodec.jobs.workers import Outcome, RecordingConsole

ADDRESS = "RAY_ADDRESS"  # the environment variable that names a cluster, Ray's own
LOCAL = "local"  # what Ray calls a cluster of this machine that lives as long as the program
FILES_PER_TASK = 8  # a task takes seconds, and no more files than this are done again where one is lost
RETRIES = 2  # of a task whose process died
CONNECT_TIMEOUT = 10.0  # seconds
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


@dataclass(frozen=True)
class Cluster:
    """How many actors at most (None: as many as there is room for), and how many threads each has."""

    actors: int | None
    threads: int


class Actor:
    """A process of the cluster: loads the weights when it first needs them and keeps them for all tasks that follow."""

    def __init__(self, work: Work, threads: int, quiet: bool) -> None:
        bound_threads(threads)
        self._console = RecordingConsole(quiet)
        self._function = work.prepared(self._console, threads)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Columns number, source, target and unfinished, an array each → the jobs' outcomes beside their numbers."""
        import numpy as np

        outcomes = np.empty(len(rows["number"]), object)
        columns = zip(rows["source"], rows["target"], rows["unfinished"], strict=True)
        for row, (source, target, unfinished) in enumerate(columns):
            job = Job(str(source), str(target), True, str(unfinished) or None)
            remove_unfinished(job)  # this may be the second try, after the process of the first one died
            outcomes[row] = self._console.outcome(job, self._function)
        return {"number": rows["number"], "outcome": outcomes}


def outcomes(
    work: Work, jobs: Sequence[Job], cluster: Cluster, quiet: bool
) -> Generator[tuple[Job, Outcome], None, None]:
    """Do every job and yield each with its outcome, in any order.

    Close the generator, which ends what Ray does for it. Raises LdcodecError where there is no Ray.
    """
    if not jobs:
        return
    with _connected(cluster):
        left = list(range(len(jobs)))
        for size in (FILES_PER_TASK, 1):
            done = set()
            for number, outcome in _mapped(work, [(k, jobs[k]) for k in left], cluster, quiet, size):
                done.add(number)
                yield jobs[number], outcome
            left = [number for number in left if number not in done]
            if not left:
                return
        for number in left:
            yield jobs[number], _lost(jobs[number])


def _mapped(
    work: Work, jobs: Sequence[tuple[int, Job]], cluster: Cluster, quiet: bool, size: int
) -> Iterator[tuple[int, Outcome]]:
    """Outcomes by the numbers of their jobs, except those of tasks that were lost for good. size: files of a task."""
    from ray import data

    ahead = 1 if size == 1 else None  # in the second round nothing waits at an actor: what does is lost if it dies
    rows = [
        {"number": number, "source": _anywhere(job.source), "target": _anywhere(job.target), "unfinished": _own(job)}
        for number, job in jobs
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of ray_remote_args, which nothing replaces yet
        found = data.from_items(rows, override_num_blocks=-(-len(rows) // size)).map_batches(
            Actor,
            fn_constructor_args=(work, cluster.threads, quiet),
            batch_size=None,
            compute=data.ActorPoolStrategy(min_size=1, max_size=cluster.actors, max_tasks_in_flight_per_actor=ahead),
            num_cpus=cluster.threads,
            num_gpus=1 if work.device == "cuda" else 0,
            max_task_retries=RETRIES,
        )
    for row in found.iter_rows():
        yield int(row["number"]), row["outcome"]


def _anywhere(path: str) -> str:
    """A name by which other machines, or processes in other folders, find a file too."""
    return path if is_remote(path) or path == STREAM else os.path.abspath(path)


def _own(job: Job) -> str:
    return "" if job.unfinished is None else job.unfinished


def _lost(job: Job) -> Outcome:
    remove_unfinished(job)
    line = f"ldcodec: error: {job.source_name}: its process ended each time, perhaps for want of memory"
    return Outcome([(line, True)], failures=1)


def _check_address(address: str) -> None:
    """Raise LdcodecError if nothing listens at the address; Ray itself would take minutes to report it."""
    found = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    if found is None:  # a word of Ray's own, such as auto
        return
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise LdcodecError(f"no Ray at {address}: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    """Ray, until the end of the block: the cluster that RAY_ADDRESS names, or else one on this machine."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise LdcodecError("--engine ray needs more packages: pip install 'ldcodec[ray]'") from error
    address = os.environ.get(ADDRESS) or LOCAL
    _check_address(address)
    own: dict[str, Any] = {"num_cpus": max(cores(), (cluster.actors or 1) * cluster.threads)}
    before = signal.getsignal(signal.SIGTERM)
    try:
        with held_stderr([]):  # where it announces its own log level
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == LOCAL else {}))
    except Exception as error:  # of many kinds
        raise LdcodecError(f"no Ray at {address}: {' '.join(str(error).split())}") from error
    signal.signal(signal.SIGTERM, before)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # lost files are asked for again, one by one
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()
