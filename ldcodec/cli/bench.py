"""`ldcodec bench`: bits and quality of pictures through ldcodec and other codecs."""

import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ldcodec.cli.options import EFFORT, STEPS, device_option
from ldcodec.encoder.target import TUNES, VISUAL
from ldcodec.errors import UsageError

if TYPE_CHECKING:
    from tqdm import tqdm

    from ldcodec.bench.codecs import Codec
    from ldcodec.bench.curves import Curve, Point
    from ldcodec.bench.matching import SideBySide
    from ldcodec.bench.summary import Summary
    from ldcodec.bench.sweep import Failure, Setup, Sweep
    from ldcodec.bench.testset import Source

FOLDER = Path("ldcodec-bench")


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Parse numbers separated by commas and sort them: qualities from 0 to 100, rates above 0."""
    try:
        numbers = tuple(sorted({float(text) for text in value.split(",")})) if value else ()
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers like 20,40,60", ctx, param) from error
    quality = param.name == "qualities"
    if not all(0 <= n <= 100 if quality else 0 < n < math.inf for n in numbers):
        allowed = "from 0 to 100" if quality else "above 0"
        raise click.BadParameter(f"{value!r}: numbers must be {allowed}", ctx, param)
    return numbers


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip() for text in value.split(",") if text.strip())) if value else ()


@click.command(short_help="Compare ldcodec with other codecs.")
@click.argument("pictures", nargs=-1, type=click.Path(path_type=Path), metavar="[PICTURE|FOLDER]...")
@click.option(
    "--codecs",
    callback=_names,
    metavar="A,B,...",
    help="From ldcodec jpeg jpeg444 webp jp2 avif avif-slow avif-psnr jxl heic heic-psnr; or all. With another tuning "
    "(and realism): ldcodec-psnr, ldcodec-visual, ldcodec-visual@0.5.  "
    "[default: ldcodec,jpeg,webp,jp2,avif,jxl,heic]",
)
@click.option("--qualities", callback=_numbers, metavar="Q,Q,...", help="Points of ldcodec's curve, 0 to 100.")
@click.option("--rates", callback=_numbers, metavar="BPP,...", help="Add a curve of ldcodec at constant rate.")
@click.option(
    "--metrics",
    callback=_names,
    metavar="A,B,...",
    help="Besides PSNR: ms_ssim lpips ssimulacra2 dists butteraugli kid; or all that are installed.  "
    "[default: ms_ssim, if installed]",
)
@click.option(
    "--curves",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Published curves: a JSON file or a folder of them; repeatable.",
)
@click.option("--anchor", metavar="NAME", help="Curve to compare with.  [default: jpeg, if it is there]")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Folder for all output."
)
@click.option("--resume", is_flag=True, help="Continue an earlier run in --out, finished or not.")
@click.option("--force", "-f", is_flag=True, help="Overwrite an earlier run in --out.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Processes; 1 gives undisturbed times.  [default: the number of cores, at most 4]",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    metavar="N",
    help="CPU threads of ldcodec in each process.  [default: 1]",
)
@click.option(
    "--compare-at",
    callback=_numbers,
    default="0.25",
    show_default=True,
    metavar="BPP,...",
    help="Compare all codecs within so many bits per pixel; the report shows pictures at the first.",
)
@click.option("--no-curves", is_flag=True, help="Only compare at equal bits; curves go through these means.")
@click.option("--model", metavar="NAME|PATH", help="Model for ldcodec.")
@device_option()
@click.option("--steps", type=STEPS, metavar="N", help="Steps of ldcodec's reverse diffusion.")
@click.option(
    "--realism", type=click.FloatRange(0, 1), default=0.0, metavar="0..1", help="Realism of ldcodec.  [default: 0]"
)
@click.option(
    "--effort", type=EFFORT, metavar="1..9", default=1, show_default=True, help="Effort of ldcodec's encoder."
)
@click.option(
    "--tune", type=click.Choice(TUNES), default=VISUAL, show_default=True, help="Tuning of ldcodec's encoder."
)
def bench(pictures: tuple[Path, ...], folder: Path, resume: bool, force: bool, **options: Any) -> int:
    """Compare codecs on pictures, by default on a few that come with installed packages.

    Every file is written, read and decoded. The folder --out receives results.csv (one row for each picture, codec and
    setting), summary.json, and, with the extra `bench`, rd.png, rd.svg and report.html.
    """
    from ldcodec.bench import outputs
    from ldcodec.bench.sweep import Sweep

    terminal = Terminal()
    setup = _setup(options)
    codecs = _codecs(options["codecs"], setup, terminal)
    published = _published(options["curves"], codecs)
    anchor = _anchor(options["anchor"], [codec.name for codec in codecs], [curve.name for curve in published])
    sources = _sources(pictures, terminal)
    sweep = Sweep(sources, codecs, setup, outputs.begin(folder, resume, force), terminal)
    terminal.measure(sweep)
    summary = _summary(sweep, published, terminal.left_out, anchor)
    shown = terminal.collect(sweep) if outputs.has_report() else []
    paths = outputs.write(folder, summary, shown, _title(pictures, summary), shlex.join(["ldcodec", *sys.argv[1:]]))
    terminal.conclude(summary, [sweep.results.path, *paths])
    return 1 if terminal.left_out else 0


class Terminal:
    """What the command prints: a growing table and a progress bar while it works, a comparison at the end."""

    def __init__(self) -> None:
        self.left_out: list[str] = []  # one line for each picture and row that is missing from the means
        self.bar: tqdm[Any] | None = None
        self.columns: Any = ()

    def say(self, line: str = "", error: bool = False) -> None:
        """Print a line to standard output or standard error without disturbing a progress bar."""
        stream = sys.stderr if error else sys.stdout
        if self.bar is None:
            click.echo(line, file=stream)
        else:
            self.bar.write(line, file=stream)
        stream.flush()

    def leave_out(self, line: str) -> None:
        """Report something that will be missing, now and in the summary."""
        self.left_out.append(line)
        self.say(f"ldcodec: error: {line}", error=True)

    def measure(self, sweep: "Sweep") -> None:
        """Run the sweep with a progress bar."""
        from ldcodec.bench.summary import run_columns, run_head

        self.columns = run_columns(sweep.setup.measures)
        self.say(run_head(self.columns))
        with self._bar(sweep.setup.rows(sweep.codecs, len(sweep.sources)), "measuring"):
            sweep.run()

    def collect(self, sweep: "Sweep") -> "list[SideBySide]":
        """Make the pictures of the report, with a progress bar; none without a number of bits to compare at."""
        from ldcodec.bench.matching import side_by_side

        found: list[SideBySide] = []
        if not sweep.setup.limits:
            return found
        with self._bar(len(sweep.sources), "pictures for the report"):
            for shown in side_by_side(sweep):
                found.append(shown)
                self.advanced(1)
        return found

    def conclude(self, summary: "Summary", paths: Sequence[Path]) -> None:
        """Print the comparison, the paths of the files, and what this installation lacks."""
        from ldcodec.bench.outputs import missing
        from ldcodec.bench.summary import comparison, equal_table, notes, rates_table

        tables = [equal_table(summary), rates_table(summary)]
        if summary.measured:
            tables.append([*comparison(summary), *notes(summary)])
        for line in (line for table in tables if table for line in ("", *table)):
            self.say(line)
        self.say()
        for path in paths:
            self.say(str(path))
        lacking = missing()
        if lacking:
            self.say(lacking)

    def finished(self, codec: "Codec", point: "Point") -> None:
        """Print a line of the table."""
        from ldcodec.bench.summary import run_line

        self.say(run_line(codec, point, self.columns))

    def advanced(self, rows: int) -> None:
        """Advance the progress bar."""
        if self.bar is not None:
            self.bar.update(rows)

    def skipped(self, rows: int) -> None:
        """Shorten the progress bar by rows that are not needed."""
        if self.bar is not None:
            self.bar.total -= rows
            self.bar.refresh()

    def failed(self, failure: "Failure") -> None:
        """Report a row that could not be measured."""
        self.leave_out(f"{failure}; the picture is left out of all means")

    @contextmanager
    def _bar(self, total: int, what: str) -> Iterator[None]:
        from tqdm import tqdm

        shown = sys.stderr is not None and sys.stderr.isatty()
        try:
            with tqdm(total=total, desc=what, unit="file", leave=False, disable=not shown, smoothing=0.1) as self.bar:
                yield
        finally:
            self.bar = None


def _setup(options: dict[str, Any]) -> "Setup":
    from ldcodec.bench import metrics
    from ldcodec.bench.catalogue import QUALITIES, OwnOptions
    from ldcodec.bench.sweep import Setup
    from ldcodec.decoder.threads import cores
    from ldcodec.jobs.workers import MOST_PROCESSES

    measures = tuple(name.replace("-", "_").lower() for name in options["metrics"])
    if "all" in measures:
        measures = tuple(filter(metrics.available, metrics.MEASURES))
    metrics.require(measures)
    if not measures and metrics.available("ms_ssim"):
        measures = ("ms_ssim",)
    own = OwnOptions(
        options["model"],
        options["steps"],
        options["realism"],
        options["qualities"] or QUALITIES,
        options["rates"],
        options["device"],
        options["effort"],
        options["tune"],
        options["threads"],
    )
    jobs = options["jobs"] or min(MOST_PROCESSES, cores())
    if options["no_curves"] and not options["compare_at"]:
        raise UsageError("--no-curves leaves nothing to measure without --compare-at")
    return Setup(own, measures, jobs, options["compare_at"], not options["no_curves"])


def _codecs(names: Sequence[str], setup: "Setup", terminal: Terminal) -> "list[Codec]":
    """The installed codecs; reports the others."""
    from ldcodec.bench import catalogue

    wanted = list(catalogue.NAMES) if "all" in names else list(names or catalogue.DEFAULT_NAMES)
    found, missing = catalogue.choose(wanted, setup.own)
    for line in missing:
        terminal.say(f"warning: left out: {line}", error=True)
    if not found:
        raise UsageError("none of the codecs is installed")
    return found


def _published(paths: Sequence[Path], codecs: "list[Codec]") -> "list[Curve]":
    """Read published curves; those that share their name with a codec are renamed."""
    from dataclasses import replace

    from ldcodec.bench.curves import read_curves

    taken = {codec.name for codec in codecs}
    curves = []
    for curve in read_curves(list(paths)):
        again = curve.name in taken
        name = f"{curve.name} (published)" if again else curve.name
        title = f"{curve.title} (published)" if again else curve.title
        if name in taken:
            raise UsageError(f"two curves are called {curve.name}")
        taken.add(name)
        curves.append(replace(curve, name=name, title=title))
    return curves


def _anchor(wanted: str | None, codecs: Sequence[str], published: Sequence[str]) -> str:
    names = [*codecs, *published]
    if wanted is None:
        return "jpeg" if "jpeg" in names else next((name for name in names if name != "ldcodec"), names[0])
    if wanted not in names:
        raise UsageError(f"no curve is called {wanted!r}; choose from {', '.join(names)}")
    return wanted


def _sources(pictures: Sequence[Path], terminal: Terminal) -> "list[Source]":
    from ldcodec.bench.testset import default_pictures, find_pictures, readable

    return readable(find_pictures(pictures) if pictures else default_pictures(), terminal.leave_out)


def _summary(sweep: "Sweep", published: "list[Curve]", left_out: list[str], anchor: str) -> "Summary":
    from ldcodec.bench.summary import summarise

    failed = {failure.task.source.name for failure in sweep.failures}
    setup = sweep.setup
    return summarise(
        sweep.held(),
        sweep.codecs,
        published,
        failed,
        setup.swept,
        left_out=tuple(left_out),
        anchor=anchor,
        threads=setup.own.threads,
        jobs=setup.jobs,
    )


def _title(pictures: Sequence[Path], summary: "Summary") -> str:
    count = f"{len(summary.pictures)} picture{'' if len(summary.pictures) == 1 else 's'}"
    if len(pictures) == 1 and pictures[0].is_dir():
        return f"{os.path.basename(os.path.realpath(pictures[0]))}, {count}"
    return pictures[0].name if len(pictures) == 1 else count
