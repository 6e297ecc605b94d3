"""Arguments and options that several commands share, and a help that shows the common ones first."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

import click

from ldcodec.bitstream.layout import MAX_PIXELS
from ldcodec.diffusion import MAX_STEPS
from ldcodec.encoder.target import EFFORTS
from ldcodec.errors import UsageError
from ldcodec.jobs.limits import bound_threads
from ldcodec.jobs.messages import Console
from ldcodec.jobs.paths import Job, plan
from ldcodec.jobs.work import Work

DEFAULT_PIXELS = 10**9
PATH = click.Path(readable=False)  # for completion alone: opening a path reports what is wrong with it
POSITIVE = click.FloatRange(min=0, min_open=True)
STEPS = click.IntRange(1, MAX_STEPS)
EFFORT = click.IntRange(1, EFFORTS)

Command = Callable[..., int]


class AdvancedOption(click.Option):
    """An option that the help shows in its second part."""


class TieredCommand(click.Command):
    """A command whose help shows common options first and the others under "Advanced"."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two parts, "Options" and "Advanced"."""
        parts: dict[str, list[tuple[str, str]]] = {"Options": [], "Advanced": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                parts["Advanced" if isinstance(param, AdvancedOption) else "Options"].append(record)
        for title, records in parts.items():
            with formatter.section(title):
                formatter.write_dl(records)


@dataclass(frozen=True)
class CodingOptions:
    """The arguments and options that compress and decompress share."""

    inputs: tuple[str, ...]
    output: str | None
    recursive: bool
    force: bool
    quiet: bool
    verbose: bool
    model: str | None
    device: str
    threads: int | None
    no_preserve: bool
    max_pixels: int
    jobs: int | None
    engine: str

    @property
    def takes_folders(self) -> bool:
        """Whether inputs may be folders. Raises UsageError for --jobs without that."""
        recursive = self.recursive or self.engine == "ray"
        if self.jobs is not None and not recursive:
            raise UsageError("--jobs belongs to --recursive")
        return recursive

    def run(
        self,
        work: Work,
        taken: tuple[frozenset[str], Callable[[bytes], bool]],
        extension: str,
        check: Callable[[list[Job]], None],
    ) -> int:
        """Do the work with every input and return the exit code.

        taken: extensions of the files that are taken from folders, and whether others are taken for their first bytes;
        extension: of the outputs; check: refuses jobs, for inputs that are no folders, by raising UsageError.
        """
        if self.takes_folders:
            from ldcodec.jobs.run import Engine, RunOptions, run_folders

            engine = Engine(self.engine == "ray", self.jobs, self.threads)
            self._tell(lambda: engine.description(self.device))
            options = RunOptions(not self.no_preserve, self.force, self.quiet)
            return run_folders(self.inputs, self.output, (*taken, extension), work, engine, options)
        jobs = plan(self.inputs, self.output, extension)
        check(jobs)
        self._tell(self._description)
        console = Console(self.quiet)
        return console.run(jobs, work.prepared(console, self.threads), self.force)

    def _tell(self, description: Callable[[], str]) -> None:
        """Say who computes the networks, if that is asked for. Raises UsageError."""
        if self.verbose and self.quiet:
            raise UsageError("--verbose and --quiet contradict each other")
        if self.verbose:
            Console().note(f"networks: {description()}")

    def _description(self) -> str:
        from ldcodec.encoder.library import description

        return description(self.device, self.threads)


def coding_options(command: Command) -> Command:
    """Give a command the arguments and options of `CodingOptions`, and an instance of that as its first argument."""

    @wraps(command)
    def collected(**given: Any) -> int:
        common = CodingOptions(**{field.name: given.pop(field.name) for field in fields(CodingOptions)})
        return command(common, **given)

    decorated: Command = collected
    for option in reversed(_CODING):
        decorated = option(decorated)
    return decorated


def threads_option(**attributes: Any) -> Callable[[Command], Command]:
    count = click.IntRange(1, 1024)
    return click.option(
        "--threads", type=count, callback=_bounded, metavar="N", help="CPU threads to use.", **attributes
    )


def _bounded(context: click.Context, option: click.Parameter, threads: int | None) -> int | None:
    """The threads that were asked for; where none were, one for each free core, or None where all cores are free.

    The threads of NumPy's matrix products are bounded too, which only works before NumPy is imported: by itself it sees
    the cores that the process is bound to, but not what its control group is given.
    """
    from ldcodec.decoder.threads import cores, free_cores

    # Work on folders takes longer than what is known of others now, and has --jobs.
    folders = context.params.get("recursive") or context.params.get("engine") == "ray"
    most = threads or (cores() if folders else free_cores())
    if threads is not None or most < (os.cpu_count() or most):
        bound_threads(most)
    return threads if most == cores() else most


def depth_option(depths: Sequence[str], text: str) -> Callable[[Command], Command]:
    """The option --depth, a number or None; text: what the help says of it."""
    choice = click.Choice(depths)
    return click.option("--depth", cls=AdvancedOption, type=choice, callback=_whole, help=text)


def _whole(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    return None if text is None else int(text)


def device_option(**attributes: Any) -> Callable[[Command], Command]:
    choice = click.Choice(["auto", "cpu", "cuda"])
    return click.option(
        "--device", type=choice, default="auto", show_default=True, help="Where the networks run.", **attributes
    )


def max_pixels_option(**attributes: Any) -> Callable[[Command], Command]:
    """The option --max-pixels; attributes: for `click.option`."""
    return click.option(
        "--max-pixels",
        type=click.IntRange(1, MAX_PIXELS),
        default=DEFAULT_PIXELS,
        metavar="N",
        help="Refuse pictures of more pixels.  [default: 10^9]",
        **attributes,
    )


_CODING: list[Callable[[Command], Command]] = [
    click.argument("inputs", nargs=-1, required=True, type=PATH, metavar="IN..."),
    click.option(
        "-o", "--output", type=PATH, metavar="OUT", help="Output file; a folder for several; - for standard output."
    ),
    click.option("--recursive", "-r", is_flag=True, help="Take the files in folders too; OUT mirrors their tree."),
    click.option("--force", "-f", is_flag=True, help="Overwrite existing files."),
    click.option("--quiet", "-q", is_flag=True, help="Print errors only, and what folders leave out."),
    click.option(
        "--verbose",
        "-v",
        cls=AdvancedOption,
        is_flag=True,
        help="Say which library computes the networks, and with how many threads.",
    ),
    click.option("--model", cls=AdvancedOption, metavar="NAME|PATH", help="Model to use instead of the default one."),
    device_option(cls=AdvancedOption),
    threads_option(cls=AdvancedOption),
    click.option(
        "--no-preserve", cls=AdvancedOption, is_flag=True, help="Do not copy the file times of the input to the output."
    ),
    max_pixels_option(cls=AdvancedOption),
    click.option(
        "--jobs",
        cls=AdvancedOption,
        type=click.IntRange(1, 256),
        metavar="N",
        help="Processes that share the cores, with --recursive.  [default: one per core, at most 4]",
    ),
    click.option(
        "--engine",
        cls=AdvancedOption,
        type=click.Choice(["local", "ray"]),
        default="local",
        help="Work on this machine, or on the Ray cluster that RAY_ADDRESS names.  [default: local]",
    ),
]
