"""Whole folders: each file once, in a tree like that of the inputs, and again from where a run was stopped."""

import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from operator import and_
from time import monotonic

from ldcodec.errors import UsageError, one_line
from ldcodec.jobs import workers
from ldcodec.jobs.manifest import Manifest, open_manifest
from ldcodec.jobs.messages import Console
from ldcodec.jobs.paths import STREAM, Job, remove_abandoned
from ldcodec.jobs.remote import is_remote
from ldcodec.jobs.tree import Selection, Tree, TreeFile, tree_of
from ldcodec.jobs.work import Work
from ldcodec.jobs.workers import Outcome

MOST_KINDS = 8  # of files left alone that are named


@dataclass(frozen=True)
class Engine:
    """Who does the jobs: a Ray cluster or processes of this machine, how many, and with how many threads each.

    None for as many as fit the cores. Raises UsageError for more than that.
    """

    ray: bool = False
    processes: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.ray:
            workers.split_cores(self.processes, self.threads)

    def description(self, device: str) -> str:
        """Who computes the networks, in words. Raises UsageError for a GPU that is missing."""
        if self.ray:  # whose machines may differ
            return f"on a Ray cluster, with --threads {self.threads or 1}"
        from ldcodec.encoder.library import description

        split = workers.split_cores(self.processes, self.threads)
        return description(device, split.threads, split.processes)

    def outcomes(self, work: Work, jobs: Iterator[Job], quiet: bool) -> Generator[tuple[Job, Outcome], None, None]:
        """Do every job and yield each with its outcome, in any order."""
        if not self.ray:
            return workers.outcomes(work, jobs, workers.split_cores(self.processes, self.threads), quiet)
        from ldcodec.jobs import ray

        return ray.outcomes(work, list(jobs), ray.Cluster(self.processes, self.threads or 1), quiet)


@dataclass(frozen=True)
class RunOptions:
    """preserve: output folders get the times of the input folders; force: everything is done anew; quiet: only errors
    are printed.
    """

    preserve: bool
    force: bool
    quiet: bool


def run_folders(
    inputs: Sequence[str],
    output: str | None,
    kinds: tuple[frozenset[str], Callable[[bytes], bool], str],
    work: Work,
    engine: Engine,
    options: RunOptions,
) -> int:
    """Do the work with every file in the inputs.

    kinds: extensions of the files that are taken, whether another file is taken for its first bytes, and the extension
    of an output. Returns the exit code. Raises
    LdcodecError or UsageError where nothing can be done at all.
    """
    selection = Selection(*kinds, _output_folder(inputs, output))
    _make_output(inputs, selection.output)
    with open_manifest(selection.output) as manifest:
        manifest.settle(work.relevant_options(), options.force)
        run = _Run(manifest, options, selection)
        run.process(inputs, work, engine)
    return run.console.exit_code


class _Run:
    """One run through a tree, and what it counts."""

    def __init__(self, manifest: Manifest, options: RunOptions, selection: Selection) -> None:
        self.manifest, self.options, self.selection = manifest, options, selection
        self.console = Console(options.quiet)
        self.start = monotonic()
        self.done = self.kept = self.read = self.written = 0
        self.failed: list[str] = []

    def process(self, inputs: Sequence[str], work: Work, engine: Engine) -> None:
        """Do the work with the inputs that the manifest does not list as done, and print a summary."""
        tree = tree_of(inputs, self.selection, self.manifest.targets(), self.console)
        files = [file for file in tree.files if not self.manifest.is_done(file.job, file.name, file.fingerprint)]
        self.kept = len(tree.files) - len(files)
        by_job = {file.job: file for file in files}
        for folder in tree.folders:
            remove_abandoned(folder)
        with self._bar(files), closing(engine.outcomes(work, self._jobs(tree, files), self.options.quiet)) as found:
            for job, outcome in found:
                self._record(by_job[job], outcome)
        if self.options.preserve:
            tree.keep_times()
        self._summarise(tree)

    def _jobs(self, tree: Tree, files: list[TreeFile]) -> Iterator[Job]:
        """The jobs, noted as begun when they are taken; where storing the manifest takes long, all before the first."""
        jobs = self._begun(tree, files)
        if is_remote(self.selection.output):
            jobs = iter(list(jobs))
            self.manifest.save()
        return jobs

    def _begun(self, tree: Tree, files: list[TreeFile]) -> Iterator[Job]:
        for file in files:
            if not is_remote(file.job.target):
                with self.console.reporting(file.job.source_name):
                    tree.make_folder(os.path.dirname(os.path.normpath(file.job.target)))
            if self.console.admits(file.job, self.options.force or self.manifest.may_write(file.job.target)):
                self.manifest.begin(file.job)
                yield file.job
            else:
                self._count(file, failed=True)

    def _record(self, file: TreeFile, outcome: Outcome) -> None:
        for line, error in outcome.lines:
            self.console.say(line, error)
        if outcome.fatal is not None:
            raise outcome.fatal
        self.console.failures += outcome.failures
        self.console.salvaged += outcome.salvaged
        fingerprint = file.fingerprint or outcome.fingerprint
        if outcome.result is not None and fingerprint is not None:
            self.manifest.finish(file.job, file.name, fingerprint, outcome.written)
            self.read += fingerprint.size
            self.written += outcome.written
            self.console.report(file.job, outcome.result)
        self._count(file, failed=outcome.result is None)

    def _count(self, file: TreeFile, failed: bool) -> None:
        self.done += not failed
        if failed:
            self.failed.append(file.job.source_name)
        if self.console.bar is not None:
            text = f"{self.done + len(self.failed)} files{self._saved()}"
            self.console.bar.set_postfix_str(text, refresh=False)
            self.console.bar.update(file.size)

    def _saved(self) -> str:
        from tqdm import tqdm

        saved = self.read - self.written
        return f", {tqdm.format_sizeof(saved, 'B')} saved" if saved > 0 else ""

    @contextmanager
    def _bar(self, files: list[TreeFile]) -> Iterator[None]:
        """A progress bar in bytes of the inputs, which predict the time left better than their number."""
        if not self.console.shows_progress:
            yield
            return
        from tqdm import tqdm

        total = sum(file.size for file in files)
        try:
            with tqdm(total=total, unit="B", unit_scale=True, leave=False, smoothing=0.1) as self.console.bar:
                yield
        finally:
            self.console.bar = None

    def _summarise(self, tree: Tree) -> None:
        for name in self.failed:
            self.console.say(f"failed: {one_line(name)}", error=True)
        if not self.options.quiet:
            self._tell_sizes()
        for line in _left_out(tree):  # also when quiet: whoever archives a folder must learn what is not in the archive
            self.console.say(line, error=self.options.quiet)

    def _tell_sizes(self) -> None:
        from tqdm import tqdm

        before, after = (tqdm.format_sizeof(size, "B") for size in (self.read, self.written))
        share = f" ({1 - self.written / self.read:.0%})" if self.written < self.read else ""
        made = f"; {before} became {after}{self._saved()}{share}" if self.done else ""
        counts = f"{self.done} done, {self.kept} done before, {self.console.failures} failed"
        self.console.say(f"{counts}{made}, in {tqdm.format_interval(monotonic() - self.start)}")


def _left_out(tree: Tree) -> Iterator[str]:
    """Lines that say which files were not taken."""
    if tree.others:
        common = tree.others.most_common(MOST_KINDS)
        kinds = [f"{count} {name or 'without extension'}" for name, count in common]
        rest = tree.others.total() - sum(count for _, count in common)
        kinds += [f"{rest} of other kinds"] if rest else []
        yield f"other files left alone ({tree.others.total()}): {', '.join(kinds)}"
    if passed := +tree.passed:  # without the kinds of which there are none
        yield f"passed over: {', '.join(f'{kind} {passed[kind]}' for kind in sorted(passed))}"


def _make_output(inputs: Sequence[str], output: str) -> None:
    """Make a local output folder, if there is none, with rights no wider than those of the input folders.

    What cannot be made is reported when the manifest is opened.
    """
    if not is_remote(output) and not os.path.exists(output):
        with suppress(OSError):
            modes = [os.stat(source).st_mode for source in inputs if os.path.isdir(source)]
            os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
            os.mkdir(output, reduce(and_, modes, 0o777) | stat.S_IRWXU)


def _output_folder(inputs: Sequence[str], output: str | None) -> str:
    if STREAM in inputs:
        raise UsageError("--recursive takes files and folders, not standard input")
    if output is None or output == STREAM:
        raise UsageError("--recursive needs a folder after -o")
    if not is_remote(output) and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"{output}: is a file; --recursive needs a folder after -o")
    return output
