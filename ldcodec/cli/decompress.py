"""`ldcodec decompress`: .ldc files → picture files."""

import math
import re
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, cast

import click

from ldcodec.bitstream.layout import MAGIC
from ldcodec.bitstream.slices import PREVIEW_SCALES
from ldcodec.cli.options import STEPS, AdvancedOption, CodingOptions, TieredCommand, coding_options, depth_option
from ldcodec.diffusion import SAMPLER_NAMES
from ldcodec.jobs.limits import Limits
from ldcodec.jobs.messages import JobResult
from ldcodec.jobs.models import Models
from ldcodec.jobs.paths import STREAM, Job, created, is_special, opened, origin_of, reader_of
from ldcodec.jobs.work import Work


class Settings(TypedDict):
    """How the picture is restored, as `DecodeSettings` takes it."""

    steps: int | None
    realism: float
    sampler: str
    seed: int
    draft: NotRequired[bool]


class Wanted(TypedDict):
    """What of the picture is wanted, as `ldcodec.decoder.request.Request` takes it."""

    region: tuple[int, int, int, int] | None
    scale: int
    salvage: bool
    depth: NotRequired[int]


@dataclass(frozen=True)
class DecompressOptions:
    """What the command line asks for, the same for every input. Manifests hold the names of the fields."""

    settings: Settings
    wanted: Wanted
    preserve: bool


def _region(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int, int, int] | None:
    """X,Y,W,H in pixels."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,7}),(\d{1,7}),(\d{1,7}),(\d{1,7})", value, re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a region; write it as X,Y,WIDTH,HEIGHT in pixels", ctx, param)
    x, y, width, height = (int(number) for number in match.groups())
    return x, y, width, height


def _scale(ctx: click.Context, param: click.Parameter, value: str) -> int:
    return int(value.removeprefix("1/"))


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("not a number", ctx, param)
    return value


region_option = click.option("--region", callback=_region, metavar="X,Y,W,H", help="Decode this part only, in pixels.")


@click.command(cls=TieredCommand, short_help="Turn .ldc files back into pictures.")
@coding_options
@click.option(
    "--realism",
    type=click.FloatRange(0, 1),
    callback=_number,
    default=0.0,
    metavar="0..1",
    help="From the smallest error (0) to the most natural texture (1).  [default: 0]",
)
@click.option("--steps", type=STEPS, metavar="N", help="Steps of the reverse diffusion.  [default: 1]")
@region_option
@click.option(
    "--scale",
    type=click.Choice(["1/1", *(f"1/{scale}" for scale in PREVIEW_SCALES)]),
    callback=_scale,
    default="1/1",
    help="Decode a small preview, quickly and without diffusion.",
)
@click.option("--draft", is_flag=True, help="Decode a little less well, quickly and without diffusion.")
@click.option("--salvage", is_flag=True, help="Restore what is left of damaged files.")
@click.option(
    "--sampler",
    cls=AdvancedOption,
    type=click.Choice(SAMPLER_NAMES),
    default="ddim",
    show_default=True,
    help="How several steps are taken.",
)
@click.option(
    "--seed",
    cls=AdvancedOption,
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    metavar="N",
    help="Seed of the noise.  [default: 0]",
)
@depth_option(["8", "16"], "Bits a sample of the output, instead of what the picture had.")
def decompress(
    common: CodingOptions,
    steps: int | None,
    realism: float,
    sampler: str,
    seed: int,
    draft: bool,
    depth: int | None,
    **wanted: Any,
) -> int:
    """Turn .ldc files back into pictures.

    IN is an .ldc file, its URL (s3://, https://), or - for standard input. Without -o, the output is written next
    to its input: img.ldc becomes img.png. The extension of OUT sets the format: .png .jpg .webp .avif .tif .ppm .bmp.
    With --recursive, IN may be folders; a manifest in OUT records what is done, so that the same command continues a
    run that was stopped.
    """
    settings = Settings(steps=steps, realism=realism, sampler=sampler, seed=seed)
    if draft:  # not named otherwise, as in manifests from before there were drafts
        settings["draft"] = True
    if depth is not None:  # likewise
        wanted["depth"] = depth
    options = DecompressOptions(settings, cast(Wanted, wanted), not common.no_preserve)
    work = Work(_decompress, options, common.model, common.device, common.max_pixels)
    taken = frozenset({".ldc"}), lambda head: head.startswith(MAGIC)
    return common.run(work, taken, ".png", _check_formats)


def _check_formats(jobs: list[Job]) -> None:
    from ldcodec.pictures.write import format_of

    for job in jobs:
        if job.target != STREAM and not is_special(job.target):
            format_of(job.target)


def _decompress(job: Job, options: DecompressOptions, models: Models, limits: Limits) -> JobResult:
    from ldcodec.decoder.request import DecodeSettings, Request
    from ldcodec.decoder.restore import restore
    from ldcodec.pictures.write import format_of, write

    origin = origin_of(job.source, options.preserve)
    wanted = options.wanted
    with opened(job.source, parts=wanted["region"] is not None) as stream:
        source = reader_of(stream)
        limits.check_file(source, wanted["region"], wanted["scale"], models.weights(source.header.parse_id))
        start = models.clock()
        picture = restore(source, models.of_file, DecodeSettings(**options.settings), Request(**wanted))
        seconds = models.clock() - start
    format = "PNG" if job.target == STREAM or is_special(job.target) else format_of(job.target)
    with created(job.target, origin, job.unfinished) as stream:
        write(picture, stream, format)
    whole = source.header.width * source.header.height
    return JobResult(picture.width, picture.height, source.length, whole, seconds, source.lossless)
