"""Jobs done by a cluster through Ray Data, which schedules them, repeats what was lost and scales; ours is the actor.

A process that dies, or the machine it was on, costs nothing but time: Ray has its files done again elsewhere, and an
output that is made twice is whole each time. Files whose process dies again and again are tried once more one by one,
so that the one that kills it is listed as failed and takes no other with it.
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

from ldcodec.errors import LdcodecError
from ldcodec.jobs.cores import bound, cores
from ldcodec.jobs.paths import STREAM, Job
from ldcodec.jobs.remote import is_remote
from ldcodec.jobs.stderr import held
from ldcodec.jobs.work import Work
from ldcodec.jobs.workers import Listener, Outcome, remove_unfinished

LOCAL = "local"  # what Ray calls a cluster of this machine that lives as long as the program
BATCH = 8  # files of a task: it takes seconds, and no more than this is done again where one is lost
RETRIES = 2  # of a task whose process died
CONNECT = 10.0  # seconds
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


@dataclass(frozen=True)
class Cluster:
    """Which Ray to use (None for RAY_ADDRESS, or else this machine), how many actors at most (None for what it has
    room for), and of how many threads each.
    """

    address: str | None
    actors: int | None
    threads: int


class Coder:
    """An actor: loads the weights when it first needs them, and keeps them for every batch that follows."""

    def __init__(self, work: Work, threads: int, quiet: bool) -> None:
        bound(threads)
        self._listener = Listener(quiet)
        self._function = work.begun(self._listener, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Columns source, target and unfinished, an array of names each → the jobs' outcomes beside their numbers."""
        import numpy as np

        outcomes = np.empty(len(batch["number"]), object)
        for row, (source, target, unfinished) in enumerate(
            zip(batch["source"], batch["target"], batch["unfinished"], strict=True)
        ):
            job = Job(str(source), str(target), True, str(unfinished) or None)
            remove_unfinished(job)  # this may be the second try, and the process of the first one dead
            outcomes[row] = self._listener.outcome(job, self._function)
        return {"number": batch["number"], "outcome": outcomes}


def outcomes(
    work: Work, jobs: Sequence[Job], cluster: Cluster, quiet: bool
) -> Generator[tuple[Job, Outcome], None, None]:
    """Does every job, and gives each with what came of it, in any order.

    To be closed, which ends what Ray does for it. Raises LdcodecError where there is no Ray.
    """
    if not jobs:
        return
    with _connected(cluster):
        left = list(range(len(jobs)))
        for size in (BATCH, 1):
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
    """Outcomes by the numbers of their jobs, without those of tasks that were lost for good; size: files of a task."""
    from ray import data

    ahead = 1 if size == 1 else None  # what waits at an actor that dies is lost with it: nothing must, the second time
    rows = [
        {"number": number, "source": _anywhere(job.source), "target": _anywhere(job.target), "unfinished": _own(job)}
        for number, job in jobs
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of ray_remote_args, which nothing replaces yet
        found = data.from_items(rows, override_num_blocks=-(-len(rows) // size)).map_batches(
            Coder,
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


def _reach(address: str) -> None:
    """Raises LdcodecError where nobody listens, of which Ray itself tells after minutes only."""
    found = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    if found is None:  # a word of Ray's own, such as auto
        return
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT).close()
    except (OSError, OverflowError) as error:
        raise LdcodecError(f"no Ray at {address}: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    """Ray, from here to the end of the block."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise LdcodecError("--engine ray needs more packages: pip install 'ldcodec[ray]'") from error
    address = cluster.address or os.environ.get("RAY_ADDRESS") or LOCAL
    _reach(address)
    own: dict[str, Any] = {"num_cpus": max(cores(), (cluster.actors or 1) * cluster.threads)}
    before = signal.getsignal(signal.SIGTERM)
    try:
        with held([]):  # it tells at which level it logs
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == LOCAL else {}))
    except Exception as error:  # of many kinds
        raise LdcodecError(f"no Ray at {address}: {' '.join(str(error).split())}") from error
    signal.signal(signal.SIGTERM, before)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # what is lost is asked for again, one by one
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()
