"""`ldcodec decompress`: .ldc files → picture files."""

import math
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn, TypedDict

import click

from ldcodec import container
from ldcodec.cli.batch import Batch, Models, Result, coding_options
from ldcodec.cli.files import STREAM, Job, created, is_special, opened, plan, read_start, times_of

if TYPE_CHECKING:
    from tqdm import tqdm

    from ldcodec.pictures.picture import Picture

SAMPLERS = ("ddim", "ddpm", "heun", "sde")
LONG_WORK = 8  # steps from which one picture has a progress bar


class Settings(TypedDict):
    """How the reverse diffusion runs."""

    steps: int | None
    realism: float
    sampler: str
    seed: int


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("not a number", ctx, param)
    return value


@click.command(short_help=".ldc files to pictures.")
@coding_options
@click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Of the reverse diffusion.  [default: 1]")
@click.option(
    "--realism",
    type=click.FloatRange(0, 1),
    callback=_number,
    default=0.0,
    metavar="0..1",
    help="From the smallest error (0) to the most natural texture (1).  [default: 0]",
)
@click.option("--sampler", type=click.Choice(SAMPLERS), default="ddim", show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, metavar="N", help="Of the noise.  [default: 0]")
def decompress(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    device: str,
    threads: int | None,
    no_preserve: bool,
    quiet: bool,
    force: bool,
    steps: int | None,
    realism: float,
    sampler: str,
    seed: int,
) -> int:
    """Bring .ldc files back as pictures.

    IN is an .ldc file, or - for standard input. The output stands beside its input (img.ldc becomes img.png) unless
    -o says otherwise; its extension says the format: .png .jpg .webp .tif .ppm .bmp.
    """
    settings = Settings(steps=steps, realism=realism, sampler=sampler, seed=seed)
    jobs = plan(inputs, output, ".png")
    _check_formats(jobs)
    batch = Batch(quiet)
    if realism > 0 and steps is None:
        batch.note("note: --realism above 0 takes 8 steps; --steps sets another number")
    models = Models(model, device, threads)
    shown = not quiet and len(jobs) == 1
    return batch.run(jobs, lambda job: _decompress(job, settings, models, shown, not no_preserve), force)


def _check_formats(jobs: list[Job]) -> None:
    from ldcodec.pictures.write import format_of

    for job in jobs:
        if job.target != STREAM and not is_special(job.target):
            format_of(job.target)


def _decompress(job: Job, settings: Settings, models: Models, shown: bool, preserve: bool) -> Result:
    times = times_of(job.source) if preserve else None
    with opened(job.source) as stream:
        data = read_start(stream, container.MAGIC)
    source = container.read(data)
    start = perf_counter()
    if source.lossless:
        picture = _restored(source)
    else:
        model = models.of_file(source.header.parse_id)
        from ldcodec.codec import decode_picture

        start = perf_counter()
        with _step_bar(settings["steps"], shown) as bar:
            picture = decode_picture(data, **settings, model=model, on_step=lambda step: bar.update())
    seconds = perf_counter() - start
    from ldcodec.pictures.write import format_of, write

    format = "PNG" if job.target == STREAM or is_special(job.target) else format_of(job.target)
    with created(job.target, times) as stream:
        write(picture, stream, format)
    return Result(picture.width, picture.height, len(data), seconds, source.lossless)


def _restored(source: container.Container) -> "Picture":
    """A picture without loss, for which nothing of the codec is loaded."""
    from ldcodec.pictures import lossless, parts

    return parts.unpack(lossless.restore(source), source)


def _step_bar(steps: int | None, shown: bool) -> "tqdm[NoReturn]":
    """Progress through the steps of one picture, where there are many and a terminal to show them."""
    from tqdm import tqdm

    few = not shown or (steps or 1) < LONG_WORK
    return tqdm(total=steps, unit="step", leave=False, disable=True if few else None)
