"""python -m ldcodec.study: list the settings, run one, put results side by side."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from ldcodec.bench.testset import find_pictures, read
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.errors import LdcodecError, UsageError
from ldcodec.nets.model import load_model
from ldcodec.study import comparison, plots, product, results
from ldcodec.study.datasets import load
from ldcodec.study.evaluation import measure
from ldcodec.study.fit import train
from ldcodec.study.perception import STEPS
from ldcodec.study.runs import CHOICES, MEANINGS, SOURCES, Settings, named_combinations, why_not

DEFAULTS = Settings()
FOLDER = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Rate, distortion and perception of latent diffusion on small pictures: docs/study.md."""


@main.command(name="list")
def list_settings() -> None:
    """Say what can be chosen, and which combinations are refused and why."""
    for field, choices in CHOICES.items():
        click.echo(f"--{field}")
        for choice in choices:
            click.echo(f"    {choice:<12}{MEANINGS[choice]}")
    click.echo(f"--conditional   {'a diffusion restores what the decoder left out, given all it knows'}")
    click.echo("\nwhere the pictures are had (nothing is downloaded):")
    for name, source in SOURCES.items():
        click.echo(f"    {name:<12}{source}")
    reasons = Counter(why_not(combination) for combination in named_combinations())
    click.echo(f"\n{reasons.pop(None)} combinations of these can be run, {reasons.total()} are refused:")
    for reason, count in reasons.most_common():
        click.echo(f"    {count:4d}  {reason}")


def run_options(command: click.decorators.FC) -> click.decorators.FC:
    """The options of `run`, in the order of its help."""
    named = [
        click.option(f"--{field}", type=click.Choice(choices), default=getattr(DEFAULTS, field), show_default=True)
        for field, choices in CHOICES.items()
    ]
    other = [
        click.option("--data", default="", help="Folder of the pictures; `list` says where they are had."),
        click.option("--conditional", is_flag=True, help="Train a conditional diffusion decoder too."),
        click.option("--mixing", type=float, help="α of the mixed prior; learned if not given."),
        click.option("--multiplier", type=float, default=DEFAULTS.multiplier, show_default=True, help="λ."),
        click.option("--channels", type=int, default=DEFAULTS.channels, show_default=True, help="Of the latent."),
        click.option("--minutes", type=float, default=DEFAULTS.minutes, show_default=True, help="Of processor time."),
        click.option("--steps", type=int, default=0, help="Training steps instead of minutes."),
        click.option(
            "--share", type=float, default=DEFAULTS.share, show_default=True, help="The codec's, if --conditional."
        ),
        click.option("--batch", type=int, default=DEFAULTS.batch, show_default=True),
        click.option("--rate", type=float, default=DEFAULTS.rate, show_default=True, help="Of learning."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--side", type=int, default=DEFAULTS.side, show_default=True, help="Pixels, for --dataset folder."
        ),
        click.option("--realism", default="0.5,1", show_default=True, help="Of the conditional decoder, by commas."),
        click.option("--also", default="", help="Other samplers to measure the same networks with, by commas."),
        click.option("--sample-steps", type=int, default=DEFAULTS.sample_steps, show_default=True),
        click.option("--pictures", type=int, default=DEFAULTS.pictures, show_default=True, help="Measured, each seed."),
        click.option("--seeds", type=int, default=DEFAULTS.seeds, show_default=True, help="Of the measures."),
        click.option("--classifier-steps", type=click.IntRange(1), default=STEPS, show_default=True),
        click.option("--out", type=FOLDER, default=Path("results"), show_default=True, help="Folder of results."),
        click.option("--force", is_flag=True, help="Overwrite the result of an earlier run."),
    ]
    for option in reversed(named + other):
        command = option(command)
    return command


@main.command()
@run_options
def run(out: Path, classifier_steps: int, realism: str, also: str, force: bool, **options: Any) -> None:
    """Train one setting, measure it, write its row and a sheet of pictures."""
    try:
        scales = tuple(float(text) for text in realism.split(",") if text)
    except ValueError as error:
        raise UsageError(f"--realism must be numbers separated by commas, not {realism!r}") from error
    settings = Settings(**options, realism=scales)
    measured = [settings, *with_samplers(settings, [text for text in also.split(",") if text])]
    for earlier in (results.path_of(out, each) for each in measured):
        if earlier.exists() and not force:
            raise UsageError(f"{earlier}: exists already; --force overwrites it, --out names another folder")
    torch.set_num_threads(1)
    data = load(settings)
    say(f"{settings.name}: {len(data.train)} pictures of {data.side}×{data.side} to train with")
    codec = train(settings, data, say)
    for each in measured:
        codec.settings = each
        write_row(measure(codec, data, out, classifier_steps), out)
        plots.sheet(codec, data, out / f"{each.name}.png")


def with_samplers(settings: Settings, samplers: list[str]) -> list[Settings]:
    """The settings with other samplers, which is nothing that training sees; UsageError where there is none."""
    if samplers and "none" in (settings.diffusion, *samplers):
        raise UsageError("--also names other samplers than --diffusion: both must be ddpm, ddim, sde or ode")
    return [replace(settings, diffusion=sampler) for sampler in samplers]


def write_row(result: results.Result, out: Path) -> None:
    """Writes a result and shows it."""
    path = results.write(result, out)
    say(comparison.plain(comparison.HEAD, comparison.rows([result])))
    if result.settings.conditional:
        say(f"\n{comparison.plain(comparison.CHANGE_HEAD, comparison.change_rows([result]))}\n")
    say(f"classifier right in {100 * result.accuracy:.1f} %; written: {path}")


@main.command()
@click.argument("paths", nargs=-1, type=FOLDER, required=True)
@click.option("--markdown", is_flag=True, help="As tables of Markdown.")
@click.option("--changes", is_flag=True, help="What each conditional decoding changes against the decoder as well.")
@click.option("--entropies", is_flag=True, help="H(Z_t) over t of each run as well.")
@click.option("--plots", "plot_folder", type=FOLDER, help="Folder for the plots; default: that of the results.")
def table(paths: tuple[Path, ...], markdown: bool, changes: bool, entropies: bool, plot_folder: Path | None) -> None:
    """Rate, distortion and perception of the results in PATHS side by side, and the plots."""
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


@main.command()
@click.argument("model")
@click.argument("pictures", nargs=-1, type=FOLDER, required=True)
@click.option("--indices", default="400,1200,2000,2800,3600", show_default=True, help="Quality indices, by commas.")
def mixing(model: str, pictures: tuple[Path, ...], indices: str) -> None:
    """Bits of MODEL (of the product) on PICTURES if its last step mixed in a fixed Gaussian, for each α."""
    try:
        wanted = [int(text) for text in indices.split(",")]
    except ValueError as error:
        raise UsageError(f"--indices must be whole numbers separated by commas, not {indices!r}") from error
    if not all(0 <= index <= TOP_INDEX for index in wanted):
        raise UsageError(f"--indices are from 0 to {TOP_INDEX}")
    torch.set_num_threads(1)
    loaded, files = load_model(model, "cpu"), find_pictures(list(pictures))
    pixels = [read(path) for path in files]
    click.echo("index  " + "".join(f"{f'α = {alpha:g}':>10}" for alpha in product.ALPHAS) + "   bits a pixel")
    for index in wanted:
        click.echo(
            f"{index:5d}  " + "".join(f"{bits:10.4f}" for bits in product.mixed_bits(loaded, pixels, index).bits)
        )


def say(line: str) -> None:
    """A line of the log, at once."""
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
