"""Whole folders: each file once, in a tree as it was, by several processes or a cluster, and again from where a run was
stopped.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic

from ldcodec.errors import UsageError
from ldcodec.jobs.manifest import Manifest, manifest_of
from ldcodec.jobs.messages import Batch
from ldcodec.jobs.paths import STREAM, Job, remove_abandoned
from ldcodec.jobs.remote import is_remote
from ldcodec.jobs.tree import Leaf, Plan, Tree, grow
from ldcodec.jobs.work import Work
from ldcodec.jobs.workers import Outcome, outcomes, team_of

Engine = Callable[[Work, Iterator[Job], bool], Generator[tuple[Job, Outcome], None, None]]


@dataclass(frozen=True)
class Way:
    """How folders are gone through: in how many processes of how many threads (None for what fits the cores), whether
    outputs get the times of their inputs, whether all is done anew, whether errors alone are told; whether Ray does the
    work, and at which address (None for its own choice).
    """

    jobs: int | None
    threads: int | None
    preserve: bool
    force: bool
    quiet: bool
    ray: bool = False
    address: str | None = None


def run_folders(
    inputs: Sequence[str], output: str | None, kinds: tuple[frozenset[str], str], work: Work, way: Way
) -> int:
    """Does the work with every file in the inputs; kinds: extensions that are taken, and the extension of an output.

    Returns the exit code. Raises LdcodecError or UsageError where the whole cannot be done.
    """
    plan = Plan(*kinds, _output_folder(inputs, output))
    engine = _engine_of(way)
    with manifest_of(plan.output) as manifest:
        manifest.settle(work.options(), way.force)
        run = _Run(manifest, way, plan)
        run.through(inputs, work, engine)
    return run.batch.exit_code


def _engine_of(way: Way) -> Engine:
    """What does the jobs: processes of this machine, or Ray. Raises UsageError for more than the cores."""
    if not way.ray:
        team = team_of(way.jobs, way.threads)
        return lambda work, jobs, quiet: outcomes(work, jobs, team, quiet)
    from ldcodec.jobs import ray

    chosen = ray.Cluster(way.address, way.jobs, way.threads or 1)
    return lambda work, jobs, quiet: ray.outcomes(work, list(jobs), chosen, quiet)


class _Run:
    """One run through a tree, and what is told of it."""

    def __init__(self, manifest: Manifest, way: Way, plan: Plan) -> None:
        self.manifest, self.way, self.plan = manifest, way, plan
        self.batch = Batch(way.quiet)
        self.start = monotonic()
        self.done = self.kept = self.read = self.written = 0
        self.failed: list[str] = []

    def through(self, inputs: Sequence[str], work: Work, engine: Engine) -> None:
        """Does what is not done."""
        tree = grow(inputs, self.plan, self.manifest.targets(), self.batch)
        leaves = [leaf for leaf in tree.leaves if not self.manifest.is_done(leaf.job, leaf.name, leaf.stamp)]
        self.kept = len(tree.leaves) - len(leaves)
        by_job = {leaf.job: leaf for leaf in leaves}
        for folder in tree.folders:
            remove_abandoned(folder)
        with self._bar(leaves), closing(engine(work, self._jobs(leaves), self.way.quiet)) as found:
            for job, outcome in found:
                self._take(by_job[job], outcome)
        if self.way.preserve:
            tree.keep_times()
        self._conclude(tree)

    def _jobs(self, leaves: list[Leaf]) -> Iterator[Job]:
        """Jobs to be done; all of them are begun before the first where the manifest is slow to store."""
        jobs = self._begun(leaves)
        if is_remote(self.plan.output):
            jobs = iter(list(jobs))
            self.manifest.keep_begun()
        return jobs

    def _begun(self, leaves: list[Leaf]) -> Iterator[Job]:
        """Jobs as they are begun, without those that cannot be."""
        for leaf in leaves:
            if self.batch.passes(leaf.job, self.way.force or self.manifest.has_room(leaf.job.target)):
                self.manifest.begin(leaf.job)
                yield leaf.job
            else:
                self._count(leaf, failed=True)

    def _take(self, leaf: Leaf, outcome: Outcome) -> None:
        for line, error in outcome.lines:
            self.batch.say(line, error)
        if outcome.fatal is not None:
            raise outcome.fatal
        self.batch.failures += outcome.failures
        self.batch.salvaged += outcome.salvaged
        stamp = leaf.stamp or outcome.stamp
        if outcome.result is not None and stamp is not None:
            self.manifest.finish(leaf.job, leaf.name, stamp, outcome.written)
            self.read += stamp.size
            self.written += outcome.written
            self.batch.tell(leaf.job, outcome.result)
        self._count(leaf, failed=outcome.result is None)

    def _count(self, leaf: Leaf, failed: bool) -> None:
        self.done += not failed
        if failed:
            self.failed.append(leaf.job.source_name)
        if self.batch.bar is not None:
            self.batch.bar.set_postfix_str(f"{self.done + len(self.failed)} files{self._saved()}", refresh=False)
            self.batch.bar.update(leaf.size)

    def _saved(self) -> str:
        from tqdm import tqdm

        saved = self.read - self.written
        return f", {tqdm.format_sizeof(saved, 'B')} saved" if saved > 0 else ""

    @contextmanager
    def _bar(self, leaves: list[Leaf]) -> Iterator[None]:
        """Progress in bytes of the inputs, by which the time that is left is told best."""
        if not self.batch.shows_progress:
            yield
            return
        from tqdm import tqdm

        total = sum(leaf.size for leaf in leaves)
        try:
            with tqdm(total=total, unit="B", unit_scale=True, leave=False, smoothing=0.1) as self.batch.bar:
                yield
        finally:
            self.batch.bar = None

    def _conclude(self, tree: Tree) -> None:
        for name in self.failed:
            self.batch.say(f"failed: {name}", error=True)
        if self.way.quiet:
            return
        from tqdm import tqdm

        before, after = (tqdm.format_sizeof(size, "B") for size in (self.read, self.written))
        share = f" ({1 - self.written / self.read:.0%})" if self.written < self.read else ""
        made = f"; {before} became {after}{self._saved()}{share}" if self.done else ""
        seconds = tqdm.format_interval(monotonic() - self.start)
        self.batch.say(f"{self.done} done, {self.kept} done before, {self.batch.failures} failed{made}, in {seconds}")
        if tree.others:
            kinds = ", ".join(f"{count} {name or 'without extension'}" for name, count in tree.others.most_common(5))
            self.batch.say(f"other files left alone ({tree.others.total()}): {kinds}")


def _output_folder(inputs: Sequence[str], output: str | None) -> str:
    if STREAM in inputs:
        raise UsageError("--recursive takes files and folders, not standard input")
    if output is None or output == STREAM:
        raise UsageError("--recursive needs a folder after -o")
    if not is_remote(output) and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"{output}: is a file; --recursive needs a folder after -o")
    return output
