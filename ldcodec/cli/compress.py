"""`ldcodec compress`: picture files → .ldc files."""

import math
import re
from time import perf_counter
from typing import Any, TypedDict, cast

import click

from ldcodec.cli.batch import Batch, Models, Result, coding_options
from ldcodec.cli.claims import Claims
from ldcodec.cli.files import Job, created, opened, plan

UNITS = {"": 1, "k": 1000, "m": 1000_000}
POSITIVE = click.FloatRange(min=0, min_open=True)


class Target(TypedDict, total=False):
    """What the file shall be: one of these, as `ldcodec.encode` takes them."""

    rate: float
    size: int
    psnr: float
    quality: float


def _bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A number of bytes such as 2500, 100k or 1.5M; k is 1000 and M a million."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,15}(?:\.\d*)?|\.\d+)([km]?)b?", value.strip().lower(), re.ASCII)
    size = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if size < 1:
        raise click.BadParameter(f"{value!r} is no number of bytes; write it like 2500, 100k or 1.5M", ctx, param)
    return size


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("the number must be finite", ctx, param)
    return value


@click.command(short_help="Pictures to .ldc files.")
@coding_options
@click.option("--rate", type=POSITIVE, callback=_finite, metavar="BPP", help="Bits per pixel of the file, at most.")
@click.option("--size", callback=_bytes, metavar="BYTES", help="Bytes of the file, at most: 2500, 100k, 1.5M.")
@click.option("--psnr", type=POSITIVE, callback=_finite, metavar="DB", help="PSNR to reach, in dB.")
@click.option(
    "--quality",
    type=click.FloatRange(0, 100),
    callback=_finite,
    metavar="0..100",
    help="The model's own scale, without any search.",
)
def compress(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    quiet: bool,
    force: bool,
    **targets: Any,
) -> int:
    """Compress pictures to .ldc files.

    IN is any picture file, or - for standard input. Give exactly one of --rate, --size, --psnr and --quality.
    The output stands beside its input (img.png becomes img.ldc) unless -o says otherwise.
    """
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise click.UsageError("give exactly one of --rate, --size, --psnr and --quality")
    target = cast(Target, given)
    jobs = plan(inputs, output, ".ldc")
    models = Models(model, device, threads)
    batch = Batch(quiet)
    claims = Claims(batch, max_pixels)
    return batch.run(jobs, lambda job: _compress(job, target, models, claims), force)


def _compress(job: Job, target: Target, models: Models, claims: Claims) -> Result:
    import logging

    from ldcodec import picture

    logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors are told once, as ours
    with opened(job.source) as stream:
        claims.of_picture(stream, job.source_name)
        pixels = picture.read(stream, job.source_name)
    model = models.chosen()
    from ldcodec.codec import encode

    start = perf_counter()
    data = encode(pixels, **target, model=model)
    seconds = perf_counter() - start
    with created(job.target) as stream:
        stream.write(data)
    return Result(pixels.shape[1], pixels.shape[0], len(data), seconds)
