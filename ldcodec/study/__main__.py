"""python -m ldcodec.study: list the settings, run one, compare results."""

import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from ldcodec.bench.testset import find_pictures, read
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.errors import LdcodecError, UsageError
from ldcodec.nets.model import load_model
from ldcodec.study import comparison, mixing, plots, results
from ldcodec.study.datasets import load
from ldcodec.study.evaluation import measure
from ldcodec.study.fit import train
from ldcodec.study.perception import STEPS
from ldcodec.study.runs import CHOICES, MEANINGS, SOURCES, StudySettings, named_combinations, why_not

DEFAULTS = StudySettings()
FOLDER = click.Path(path_type=Path)
shown = partial(click.option, show_default=True)


@click.group()
def main() -> None:
    """Rate, distortion and perception of latent diffusion on small pictures: docs/study.md."""


@main.command(name="list")
def list_settings() -> None:
    """List the choices, and which combinations are refused and why."""
    for field, choices in CHOICES.items():
        click.echo(f"--{field}")
        for choice in choices:
            click.echo(f"    {choice:<12}{MEANINGS[choice]}")
    click.echo("--conditional   a diffusion restores what the decoder left out, given all it knows")
    click.echo("\nwhere to get the pictures (nothing is downloaded):")
    for name, source in SOURCES.items():
        click.echo(f"    {name:<12}{source}")
    reasons = Counter(why_not(combination) for combination in named_combinations())
    click.echo(f"\n{reasons.pop(None)} combinations of these can be run, {reasons.total()} are refused:")
    for reason, count in reasons.most_common():
        click.echo(f"    {count:4d}  {reason}")


def run_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options of `run` to a command, in the order of its help."""
    named = [
        shown(f"--{field}", type=click.Choice(choices), default=getattr(DEFAULTS, field))
        for field, choices in CHOICES.items()
    ]
    other = [
        click.option("--data", default="", help="Folder of the pictures; `list` says where to get them."),
        click.option("--conditional", is_flag=True, help="Train a conditional diffusion decoder too."),
        click.option("--mixing", type=float, help="α of the mixed prior; the default is to learn it."),
        shown("--multiplier", default=DEFAULTS.multiplier, help="λ."),
        shown("--channels", default=DEFAULTS.channels, help="Channels of the latent."),
        shown("--minutes", default=DEFAULTS.minutes, help="Processor time of training."),
        click.option("--steps", default=0, help="Training steps instead of minutes."),
        shown("--share", default=DEFAULTS.share, help="Of training that is for the codec, if --conditional."),
        shown("--batch", default=DEFAULTS.batch, help="Pictures in a training step."),
        shown("--rate", default=DEFAULTS.rate, help="Learning rate."),
        shown("--seed", default=0, help="Seed of the training."),
        shown("--side", default=DEFAULTS.side, help="Side of pictures in pixels, for --dataset folder."),
        shown("--realism", default="0.5,1", help="Of the conditional decoder, comma-separated."),
        click.option("--also", default="", help="Other samplers to measure the same networks with."),
        shown("--sample-steps", default=DEFAULTS.sample_steps, help="Steps of the samplers."),
        shown("--pictures", default=DEFAULTS.pictures, help="Pictures measured for each seed."),
        shown("--seeds", default=DEFAULTS.seeds, help="How many times to measure."),
        shown("--classifier-steps", type=click.IntRange(1), default=STEPS, help="Training steps of the classifier."),
        shown("--out", type=FOLDER, default=Path("results"), help="Folder of results."),
        click.option("--force", is_flag=True, help="Overwrite the result of an earlier run."),
    ]
    for option in reversed(named + other):
        command = option(command)
    return command


@main.command()
@run_options
def run(out: Path, classifier_steps: int, realism: str, also: str, force: bool, **options: Any) -> None:
    """Train and measure one setting; write its result and a sheet of pictures."""
    try:
        scales = tuple(float(text) for text in realism.split(",") if text)
    except ValueError as error:
        raise UsageError(f"--realism must be numbers separated by commas, not {realism!r}") from error
    settings = StudySettings(**options, realism=scales)
    measured = [settings, *with_samplers(settings, [text for text in also.split(",") if text])]
    for earlier in (results.path_of(out, each) for each in measured):
        if earlier.exists() and not force:
            raise UsageError(f"{earlier} exists already; overwrite it with --force or name another folder with --out")
    torch.set_num_threads(1)
    data = load(settings)
    say(f"{settings.name}: {len(data.train)} pictures of {data.side}×{data.side} to train with")
    codec = train(settings, data, say)
    for each in measured:
        codec.settings = each
        write_row(measure(codec, data, out, classifier_steps), out)
        plots.sheet(codec, data, out / f"{each.name}.png")


def with_samplers(settings: StudySettings, samplers: list[str]) -> list[StudySettings]:
    """The settings with other samplers, on which training does not depend. Raises UsageError without a diffusion."""
    if samplers and "none" in (settings.diffusion, *samplers):
        raise UsageError("--also names samplers beside that of --diffusion: both must be ddpm, ddim, sde or ode")
    return [replace(settings, diffusion=sampler) for sampler in samplers]


def write_row(result: results.RunResult, out: Path) -> None:
    """Write a result and print it."""
    path = results.write(result, out)
    say(comparison.plain(comparison.HEAD, comparison.rows([result])))
    if result.settings.conditional:
        say(f"\n{comparison.plain(comparison.CHANGE_HEAD, comparison.change_rows([result]))}\n")
    say(f"classifier right in {100 * result.accuracy:.1f} %; written: {path}")


@main.command()
@click.argument("paths", nargs=-1, type=FOLDER, required=True)
@click.option("--markdown", is_flag=True, help="Print Markdown tables.")
@click.option("--changes", is_flag=True, help="Add what conditional decoding changes against the decoder.")
@click.option("--entropies", is_flag=True, help="Add H(Z_t) over t of each run.")
@click.option("--plots", "plot_folder", type=FOLDER, help="Folder for the plots; default: that of the results.")
def table(paths: tuple[Path, ...], markdown: bool, changes: bool, entropies: bool, plot_folder: Path | None) -> None:
    """Compare rate, distortion and perception of the results in PATHS, and draw the plots."""
    found = results.read(paths)
    shown = comparison.markdown if markdown else comparison.plain
    click.echo(shown(comparison.HEAD, comparison.rows(found)))
    if changes:
        click.echo("\nchange against the decoder alone, on the same bits and pictures:")
        click.echo(shown(comparison.CHANGE_HEAD, comparison.change_rows(found)))
    for result in found if entropies else ():
        click.echo(f"\n{result.settings.name}, bits a picture; written {result.coded.mean:.1f}")
        click.echo(shown(comparison.ENTROPY_HEAD, comparison.entropy_rows(result)))
    folder = plot_folder or (paths[0] if paths[0].is_dir() else paths[0].parent)
    for path in plots.draw(found, folder):
        click.echo(f"written: {path}", err=True)


@main.command(name="mixing")
@click.argument("model")
@click.argument("pictures", nargs=-1, type=FOLDER, required=True)
@click.option(
    "--indices", default="400,1200,2000,2800,3600", show_default=True, help="Quality indices, comma-separated."
)
def mixing_command(model: str, pictures: tuple[Path, ...], indices: str) -> None:
    """Print the bits of MODEL on PICTURES if its rate model mixed in a fixed Gaussian, for each α."""
    try:
        wanted = [int(text) for text in indices.split(",")]
    except ValueError as error:
        raise UsageError(f"--indices must be whole numbers separated by commas, not {indices!r}") from error
    if not all(0 <= index <= TOP_INDEX for index in wanted):
        raise UsageError(f"--indices are from 0 to {TOP_INDEX}")
    torch.set_num_threads(1)
    loaded, files = load_model(model, "cpu"), find_pictures(list(pictures))
    pixels = [read(path) for path in files]
    click.echo("index  " + "".join(f"{f'α = {alpha:g}':>10}" for alpha in mixing.ALPHAS) + "   bits a pixel")
    for index in wanted:
        click.echo(f"{index:5d}  " + "".join(f"{bits:10.4f}" for bits in mixing.mixed_bits(loaded, pixels, index).bits))


def say(line: str) -> None:
    """Print a line of the log at once."""
    click.echo(line)
    sys.stdout.flush()


def start() -> None:
    """The entry point: errors become one line and an exit code."""
    try:
        main(prog_name="python -m ldcodec.study")
    except LdcodecError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    start()
