"""Several inputs, one after the other: a line of result for each, errors and warnings as lines, a progress bar."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import click

from ldcodec.bitstream.layout import MAX_PIXELS
from ldcodec.errors import LdcodecError, LdcodecWarning, ModelError, SalvageableError, SalvageWarning, UsageError
from ldcodec.jobs.paths import STREAM, Job, check

if TYPE_CHECKING:
    from pathlib import Path

    from ldcodec.decoder.protocols import DecoderModel
    from ldcodec.nets.model import Model

DEFAULT_PIXELS = 10**9
PATH = click.Path(readable=False)  # for completion alone: what a path leads to is told when it is opened

Option = Callable[[Callable[..., int]], Callable[..., int]]


@dataclass(frozen=True)
class Result:
    """What is told of a finished job: width and height of what was read or made, in pixels; the .ldc file's bytes and
    the pixels of its whole picture; coding time, and whether the file holds the picture without loss.
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


class UntoldError(OSError):
    """Standard output takes no more: that ends the command, whatever it was about to tell."""


@dataclass
class Batch:
    """Runs jobs, keeps count of those that failed and says what happened, without disturbing a progress bar."""

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
        """Whether there is a terminal for a progress bar, and it is wanted."""
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    def say(self, line: str, error: bool = False) -> None:
        """Print a line on standard output or standard error. Raises UntoldError if that fails, and BrokenPipeError."""
        stream: IO[str] | None = sys.stderr if error else sys.stdout
        try:
            if self.bar is None:
                click.echo(line, file=stream)
            else:
                self.bar.write(line, file=stream)
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise UntoldError(problem.errno, problem.strerror) from problem

    def note(self, line: str) -> None:
        """Print a line on standard error, unless it is to be quiet."""
        if not self.quiet:
            self.say(line, error=True)

    @contextmanager
    def reporting(self, name: str) -> Iterator[None]:
        """Turn warnings and errors about one input into lines that name it, and go on with the next.

        What concerns every input passes: UsageError, and that nobody can be told.
        """
        try:
            with self._warnings_as_lines(name):
                yield
        except (UsageError, BrokenPipeError, UntoldError):
            raise
        except (LdcodecError, OSError, MemoryError, RuntimeError) as error:
            reason = _reason(error).removeprefix(f"{name}: ")
            self.failures += 1
            self.say(f"ldcodec: error: {name}: {reason}", error=True)

    def run(self, jobs: Sequence[Job], work: Callable[[Job], Result], force: bool) -> int:
        """Do every job that can be done, each with a line of result. Returns the exit code."""
        ready = [job for job in jobs if self.passes(job, force)]
        for job in self._with_bar(ready):
            with self.reporting(job.source_name):
                self.tell(job, work(job))
        return self.exit_code

    def tell(self, job: Job, result: Result) -> None:
        """The line of a finished job."""
        if not self.quiet:
            self.say(f"{job.source_name} → {job.target_name}  {result}", error=job.target == STREAM)

    def passes(self, job: Job, force: bool) -> bool:
        """Whether a job can be begun; if not, that is a failure and told."""
        failures = self.failures
        with self.reporting(job.source_name):
            check(job, force)
        return self.failures == failures

    def _with_bar(self, jobs: list[Job]) -> Iterator[Job]:
        if len(jobs) < 2 or not self.shows_progress:
            yield from jobs
            return
        from tqdm import tqdm

        try:
            with tqdm(jobs, unit="picture", leave=False) as self.bar:
                yield from self.bar
        finally:
            self.bar = None

    @contextmanager
    def _warnings_as_lines(self, name: str) -> Iterator[None]:
        def show(message: Warning | str, *details: object, **more: object) -> None:
            self.salvaged += isinstance(message, SalvageWarning)
            self.note(f"warning: {name}: {message}")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", LdcodecWarning)
            warnings.showwarning = show
            yield


def coding_options(command: Callable[..., int]) -> Callable[..., int]:
    """The arguments and options that compress and decompress share."""
    options: list[Option] = [
        click.argument("inputs", nargs=-1, required=True, type=PATH, metavar="IN..."),
        click.option(
            "-o", "--output", type=PATH, metavar="OUT", help="Output file, folder of several, or - for a pipe."
        ),
        click.option("--model", metavar="NAME|PATH", help="Model to use instead of the default one."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="CPU threads to use."),
        click.option("--no-preserve", is_flag=True, help="Do not give the output the times of its input."),
        click.option(
            "--max-pixels",
            type=click.IntRange(1, MAX_PIXELS),
            default=DEFAULT_PIXELS,
            metavar="N",
            help="Refuse larger pictures.  [default: 10^9]",
        ),
        click.option("--quiet", "-q", is_flag=True, help="Print errors only."),
        click.option("--force", "-f", is_flag=True, help="Overwrite existing files."),
        click.option("--recursive", "-r", is_flag=True, help="Take what is in folders; OUT gets their tree."),
        click.option(
            "--jobs",
            type=click.IntRange(1, 256),
            metavar="N",
            help="Processes that share the cores, with --recursive.  [default: the cores, at most 4]",
        ),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            help="Who does what is in folders: processes here, or a Ray cluster.  [default: local]",
        ),
        click.option("--address", metavar="HOST:PORT", help="Of the Ray cluster.  [default: one on this machine]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def takes_folders(recursive: bool, jobs: int | None, engine: str, address: str | None) -> bool:
    """Whether whole folders are asked for. Raises UsageError for options that have no meaning otherwise."""
    if address is not None and engine != "ray":
        raise click.UsageError("--address belongs to --engine ray")
    recursive = recursive or engine == "ray"
    if jobs is not None and not recursive:
        raise click.UsageError("--jobs belongs to --recursive")
    return recursive


class Models:
    """Loads the model when the first sound input asks for it, and each model once."""

    def __init__(self, name: str | None, device: str, threads: int | None) -> None:
        self._name = name
        self._device = device
        self._threads = threads
        self._known: dict[bytes | None, Model] = {}

    def chosen(self) -> "Model":
        """The model named on the command line, or the default one; without it nothing can be done at all."""
        from ldcodec.nets.model import load_model

        if None not in self._known:
            self._set_threads()
            try:
                self._known[None] = load_model(self._name, self._device)
            except ModelError as error:
                raise click.ClickException(str(error)) from error
        return self._known[None]

    def of_file(self, parse_id: bytes) -> "DecoderModel":
        """The model that a file was written with, unless the command line names one. Raises ModelError."""
        if self._name is not None:
            return self.chosen()
        from ldcodec.nets.model import find_model

        if parse_id not in self._known:
            self._set_threads()
            self._known[parse_id] = find_model(parse_id, self._device)
        return self._known[parse_id]

    def weights(self, parse_id: bytes) -> "Path | None":
        """The weights file that a file will be read with, None if there is none; nothing is loaded."""
        from ldcodec.entropy.weightsfile import find_file, find_identity

        with suppress(ModelError):
            return find_file(self._name) if self._name is not None else find_identity(parse_id)
        return None

    def _set_threads(self) -> None:
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)


def _reason(error: Exception) -> str:
    """The error in one line; a RuntimeError is a defect of the program unless it tells of missing memory."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return place + (error.strerror or str(error))
    if isinstance(error, RuntimeError):
        if "memory" not in str(error):
            raise error
        return "not enough memory"
    advice = "; --salvage restores the rest" if isinstance(error, SalvageableError) else ""
    return " ".join(str(error).split()) + advice
