"""What the user sees of several inputs: a line of result for each, errors and warnings as lines, a progress bar."""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO

import click

from ldcodec.decoder.progress import Told, Watcher, untold, watched_by
from ldcodec.errors import (
    ChosenModelError,
    LdcodecError,
    LdcodecWarning,
    OutsideError,
    SalvageableError,
    SalvageWarning,
    TooManyPixelsError,
    UsageError,
    one_line,
)
from ldcodec.jobs.paths import STREAM, Job, check

STDERR = 2
# What the library cannot advise, because only the command line has these options.
ADVICE = {
    SalvageableError: "decompress --salvage restores the rest",
    TooManyPixelsError: "--max-pixels sets another limit",
}


@dataclass(frozen=True)
class JobResult:
    """What the line of a finished job says.

    width, height: of what was read or made, in pixels; file_bytes: of the .ldc file; file_pixels: of its whole picture;
    seconds: of coding alone; lossless: whether the file holds every pixel exactly.
    """

    width: int
    height: int
    file_bytes: int
    file_pixels: int
    seconds: float
    lossless: bool = False

    def __str__(self) -> str:
        bpp = 8 * self.file_bytes / self.file_pixels
        line = f"{self.width}x{self.height}  {self.file_bytes} bytes  {bpp:.3f} bpp  {self.seconds:.2f} s"
        return line + ("  lossless" if self.lossless else "")


class OutputError(OSError):
    """Standard output takes no more, which ends the command."""


@dataclass
class Console:
    """Runs jobs, counts those that failed and says what happened, without disturbing a progress bar."""

    quiet: bool = False
    failures: int = 0
    salvaged: int = 0
    bar: Any = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        """1 if anything failed, else 3 if a damaged file was restored in part, else 0."""
        return 1 if self.failures else SalvageWarning.exit_code if self.salvaged else 0

    @property
    def shows_progress(self) -> bool:
        """Whether a progress bar is wanted and there is a terminal for it."""
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    def say(self, line: str, error: bool = False) -> None:
        """Print a line on standard output or standard error. Raises BrokenPipeError, or OutputError for the rest."""
        stream: IO[str] | None = sys.stderr if error else sys.stdout
        try:
            if self.bar is None:
                click.echo(line, file=stream)
            else:
                self.bar.write(line, file=stream)
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise OutputError(problem.errno, problem.strerror) from problem

    def note(self, line: str) -> None:
        """Print a line on standard error unless quiet."""
        if not self.quiet:
            self.say(line, error=True)

    @contextmanager
    def reporting(self, name: str, alone: bool = False) -> Iterator[None]:
        """Turn warnings and errors about one input into lines that name it, so that the next one can follow.

        What concerns every input is raised: UsageError, ChosenModelError, and errors of the output. alone: whether it
        is the only input, so that an OutsideError concerns all.
        """
        try:
            with self._warnings_as_lines(name):
                yield
        except OutsideError as error:
            if alone:
                raise
            self._fail(name, error)
        except (UsageError, ChosenModelError, BrokenPipeError, OutputError):
            raise
        except (LdcodecError, OSError, MemoryError, RuntimeError) as error:
            self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        self.failures += 1
        reason = _reason(error).removeprefix(f"{' '.join(name.split())}: ")  # some errors name their file themselves
        self.say(f"ldcodec: error: {one_line(name)}: {one_line(reason)}", error=True)

    def run(self, jobs: Sequence[Job], work: Callable[[Job], JobResult], force: bool) -> int:
        """Do every job that can be done and print a line for each. Returns the exit code."""
        ready = [job for job in jobs if self.admits(job, force)]
        with self._with_bar(ready) as counted:
            for job in counted:
                with self.reporting(job.source_name, alone=len(jobs) == 1):
                    self.report(job, work(job))
        return self.exit_code

    def report(self, job: Job, result: JobResult) -> None:
        """Print the line of a finished job."""
        if not self.quiet:
            names = f"{one_line(job.source_name)} → {one_line(job.target_name)}"
            self.say(f"{names}  {result}", error=job.target == STREAM)

    def admits(self, job: Job, force: bool) -> bool:
        """Whether a job can be started; if not, it is reported as a failure."""
        failures = self.failures
        with self.reporting(job.source_name):
            check(job, force)
        return self.failures == failures

    @contextmanager
    def _with_bar(self, jobs: list[Job]) -> Iterator[Iterable[Job]]:
        """The jobs under a bar that counts them; if there is only one, the bar counts the parts of its work."""
        try:
            if not self.shows_progress:
                yield jobs
            elif len(jobs) > 1:
                yield self._replace_bar(jobs, unit="picture")
            else:
                with watched_by(self._watcher()):
                    yield jobs
        finally:
            self._close_bar()

    def _watcher(self) -> Watcher:
        attempts: Counter[str] = Counter()

        def watch(part: str, count: int) -> Told:
            if count < 2:
                return untold
            attempts[part] += 1  # a search codes all slices several times
            attempt = f"attempt {attempts[part]}" if attempts[part] > 1 else None
            told: Told = self._replace_bar(unit=part, total=count, desc=attempt).update
            return told

        return watch

    def _replace_bar(self, *items: Iterable[Any], **attributes: Any) -> Any:
        from tqdm import tqdm

        self._close_bar()
        self.bar = tqdm(*items, leave=False, **attributes)
        return self.bar

    def _close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    @contextmanager
    def _warnings_as_lines(self, name: str) -> Iterator[None]:
        def show(message: Warning | str, *details: object, **more: object) -> None:
            self.salvaged += isinstance(message, SalvageWarning)
            self.note(f"warning: {one_line(name)}: {one_line(message)}")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", LdcodecWarning)
            warnings.showwarning = show
            yield


def _reason(error: Exception) -> str:
    """The error in one line; a RuntimeError is a defect of the program unless it reports missing memory."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return place + (error.strerror or str(error))
    if isinstance(error, RuntimeError):
        if "memory" not in str(error):
            raise error
        return "not enough memory"
    advice = [text for kind, text in ADVICE.items() if isinstance(error, kind)]
    return "; ".join([" ".join(str(error).split()), *advice])


@contextmanager
def library_output_as_warnings() -> Iterator[None]:
    """Hold what C libraries write to standard error while a picture is read; its first line becomes an LdcodecWarning.

    libtiff reports damage there and goes on with the pixels it has, and Pillow says nothing of it: without this, one of
    a thousand files would be half black behind a line that names none of them. Our own warnings wait meanwhile, or they
    would be held as well. If the reading fails, its error says enough.
    """
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as ours, held_stderr(lines):
        yield
    for entry in ours:
        warnings.warn(entry.message, stacklevel=3)
    if lines:
        more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
        warnings.warn(f"it may be damaged: {lines[0]}{more}", LdcodecWarning, stacklevel=3)


@contextmanager
def held_stderr(lines: list[str]) -> Iterator[None]:
    """Send standard error, as C libraries see it, into a temporary file, and append its lines to `lines` at the end."""
    with ExitStack() as stack:
        file = _replace_stderr(stack)
        yield
    if file is not None:
        with file:
            lines += _lines(file)


def _replace_stderr(stack: ExitStack) -> BinaryIO | None:
    """A temporary file in the place of standard error until the stack is left; None if that cannot be done."""
    import tempfile

    if sys.stderr is None:  # it was closed when the program began: its number is that of another file by now
        return None
    try:
        terminal = os.dup(STDERR)
    except OSError:  # closed since
        return None
    stack.callback(os.close, terminal)
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (it outlives the stack)
    except OSError:  # no space, or no folder for it
        return None
    stack.callback(os.dup2, terminal, STDERR)
    os.dup2(file.fileno(), STDERR)
    return file


def _lines(file: BinaryIO) -> list[str]:
    """All lines but those of a progress bar, which may have drawn itself meanwhile."""
    file.seek(0)
    text = file.read().decode(errors="replace")
    return [line.strip() for line in text.split("\n") if line.strip() and "\r" not in line]
