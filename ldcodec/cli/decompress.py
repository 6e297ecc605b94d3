"""`ldcodec decompress`: .ldc files → picture files."""

import math
import re
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, cast

import click

from ldcodec.jobs.limits import Claims, reader_of
from ldcodec.jobs.messages import PATH, Batch, Models, Result, coding_options, takes_folders
from ldcodec.jobs.models import folder_of
from ldcodec.jobs.paths import STREAM, Job, created, is_special, opened, plan, times_of
from ldcodec.jobs.work import Work

if TYPE_CHECKING:
    from tqdm import tqdm


SAMPLERS = ("ddim", "ddpm", "heun", "sde")
LONG_WORK = 8  # steps from which one picture has a progress bar


class Settings(TypedDict):
    """How the reverse diffusion runs."""

    steps: int | None
    realism: float
    sampler: str
    seed: int


class Wanted(TypedDict):
    """What of the picture is wanted: as `ldcodec.decoder.request.View` takes it."""

    region: tuple[int, int, int, int] | None
    scale: int
    salvage: bool


@dataclass(frozen=True)
class Order:
    """What the options ask for, the same for every input; shown: whether one picture may have a progress bar."""

    settings: Settings
    wanted: Wanted
    preserve: bool
    shown: bool


def _region(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int, int, int] | None:
    """X,Y,W,H in pixels."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,7}),(\d{1,7}),(\d{1,7}),(\d{1,7})", value, re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is no region; write it as X,Y,WIDTH,HEIGHT in pixels", ctx, param)
    x, y, width, height = (int(number) for number in match.groups())
    return x, y, width, height


def _scale(ctx: click.Context, param: click.Parameter, value: str) -> int:
    return int(value.removeprefix("1/"))


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("not a number", ctx, param)
    return value


region_option = click.option(
    "--region", callback=_region, metavar="X,Y,W,H", help="Only these pixels, from the slices they need."
)


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
@region_option
@click.option(
    "--scale",
    type=click.Choice(["1/1", "1/2", "1/4", "1/8", "1/16"]),
    callback=_scale,
    default="1/1",
    help="A quick, smaller preview without diffusion.",
)
@click.option("--backend", type=click.Choice(["torch", "onnx"]), help="What computes.  [default: torch]")
@click.option("--onnx", type=PATH, metavar="DIR", help="ONNX networks, from `ldcodec export`; implies --backend onnx.")
@click.option("--salvage", is_flag=True, help="Restore what is intact in damaged files.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, metavar="N", help="Of the noise.  [default: 0]")
def decompress(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    device: str,
    threads: int | None,
    no_preserve: bool,
    max_pixels: int,
    quiet: bool,
    force: bool,
    recursive: bool,
    jobs: int | None,
    engine: str,
    address: str | None,
    steps: int | None,
    realism: float,
    sampler: str,
    seed: int,
    backend: str | None,
    onnx: str | None,
    **view: Any,
) -> int:
    """Bring .ldc files back as pictures.

    IN is an .ldc file, its URL (s3://, https://), or - for standard input. The output stands beside its input
    (img.ldc becomes img.png) unless -o says otherwise; its extension says the format: .png .jpg .webp .tif .ppm .bmp.
    With --recursive IN may be folders; a manifest in OUT tells what is done, so that the same command goes on where it
    was stopped.
    """
    settings = Settings(steps=steps, realism=realism, sampler=sampler, seed=seed)
    order = Order(settings, cast(Wanted, view), not no_preserve, not quiet and not recursive and len(inputs) == 1)
    graphs = folder_of(backend, onnx, model, device, threads)
    work = Work(_decompress, order, model, device, max_pixels, graphs)
    if takes_folders(recursive, jobs, engine, address):
        from ldcodec.jobs.run import Way, run_folders

        way = Way(jobs, threads, not no_preserve, force, quiet, engine == "ray", address)
        return run_folders(inputs, output, (frozenset({".ldc"}), ".png"), work, way)
    planned = plan(inputs, output, ".png")
    _check_formats(planned)
    batch = Batch(quiet)
    return batch.run(planned, work.begun(batch, threads), force)


def _check_formats(jobs: list[Job]) -> None:
    from ldcodec.pictures.write import format_of

    for job in jobs:
        if job.target != STREAM and not is_special(job.target):
            format_of(job.target)


def _decompress(job: Job, order: Order, models: Models, claims: Claims) -> Result:
    from ldcodec.decoder.request import DecodeSettings, Request
    from ldcodec.decoder.restore import restore
    from ldcodec.pictures.write import format_of, write

    times = times_of(job.source) if order.preserve else None
    wanted = order.wanted
    with opened(job.source, parts=wanted["region"] is not None) as stream:
        source = reader_of(stream)
        claims.of_file(source, wanted["region"], wanted["scale"], models.weights(source.header.parse_id))
        start = perf_counter()
        with _step_bar(order.settings["steps"], order.shown) as bar:
            settings, request = DecodeSettings(**order.settings), Request(**wanted)
            picture = restore(source, models.of_file, settings, request, lambda step: bar.update())
        seconds = perf_counter() - start
    format = "PNG" if job.target == STREAM or is_special(job.target) else format_of(job.target)
    with created(job.target, times, job.unfinished) as stream:
        write(picture, stream, format)
    whole = source.header.width * source.header.height
    return Result(picture.width, picture.height, source.length, whole, seconds, source.lossless)


def _step_bar(steps: int | None, shown: bool) -> "tqdm[NoReturn]":
    """Progress through the steps of one picture, where there are many and a terminal to show them."""
    from tqdm import tqdm

    few = not shown or (steps or 1) < LONG_WORK
    return tqdm(total=steps, unit="step", leave=False, disable=True if few else None)
