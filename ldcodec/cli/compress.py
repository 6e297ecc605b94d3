"""`ldcodec compress`: picture files → .ldc files."""

import math
import re
import warnings
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import click

from ldcodec.cli.options import (
    EFFORT,
    POSITIVE,
    AdvancedOption,
    CodingOptions,
    TieredCommand,
    coding_options,
    depth_option,
)
from ldcodec.encoder.target import TUNES, EncodeSettings, Roi, Target
from ldcodec.errors import LdcodecWarning
from ldcodec.jobs.limits import Limits
from ldcodec.jobs.messages import JobResult, library_output_as_warnings
from ldcodec.jobs.models import Models
from ldcodec.jobs.paths import Job, check_extension, created, length_of, opened, origin_of, seekable
from ldcodec.jobs.work import Work

# What --recursive takes: extensions of formats that are read and hold pictures, and of pictures and films that are
# refused: who archives a folder must learn, by the exit code too, that it leaves out what a camera has put there.
PHOTOGRAPHS = ".avif .gif .heic .heif .hif .jfif .jpe .jpeg .jpg .mpo .png .webp"
RASTERS = (
    ".apng .bmp .bw .dcx .dds .dib .icns .ico .icb .j2c .j2k .jp2 .jpc .jpf .jpx .pbm .pcx .pgm .pnm .ppm .psd .qoi "
    ".ras .rgb .rgba .sgi .tga .tif .tiff .vda .vst .xbm .xpm"
)
RAW = ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mrw .nef .nrw .orf .pef .raf .rw2 .rwl .sr2 .srf .srw .x3f"
UNREAD = ".cin .dpx .eps .exr .hdr .jls .jxl .jxr .pam .pfm .psb .svg .xcf"
FILMS = ".3g2 .3gp .avi .insv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .webm .wmv"
TAKEN = frozenset(" ".join((PHOTOGRAPHS, RASTERS, RAW, UNREAD, FILMS)).split())
UNITS = {"": 1, "k": 1000, "m": 1000_000}


class TargetOptions(TypedDict, total=False):
    """The target of the file: one of these, as `ldcodec.encode` takes them."""

    rate: float
    size: int
    psnr: float
    quality: float
    lossless: bool


@dataclass(frozen=True)
class CompressOptions:
    """What the command line asks for, the same for every input. Manifests hold the names of the fields."""

    target: TargetOptions
    strip: bool
    fallback: bool
    effort: int
    tune: str
    frame: int | None
    depth: int | None
    hdr: bool
    roi: tuple[float, ...] | None
    preserve: bool

    def settings(self) -> EncodeSettings:
        """The options that the codec takes."""
        roi = None if self.roi is None else Roi.of(self.roi)
        target = Target(**self.target)
        return EncodeSettings(target, self.strip, self.fallback, self.effort, self.tune, self.depth, self.hdr, roi)


def _bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A number of bytes such as 2500, 100k or 1.5M; k is 1000 and M a million."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,15}(?:\.\d*)?|\.\d+)([km]?)b?", value.strip().lower(), re.ASCII)
    size = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a number of bytes; write it like 2500, 100k or 1.5M", ctx, param)
    return size


def _roi(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """X,Y,W,H in pixels, and decibels, which may be left out."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,7}),(\d{1,7}),(\d{1,7}),(\d{1,7})(?:,([+-]?\d{1,2}(?:\.\d{1,3})?))?", value, re.ASCII)
    if match is None or abs(float(match[5] or 0)) > 30:
        hint = "write it as X,Y,WIDTH,HEIGHT in pixels, or with decibels from -30 to 30 behind"
        raise click.BadParameter(f"{value!r} is not a region of interest; {hint}", ctx, param)
    return tuple(float(text) if place == 4 else int(text) for place, text in enumerate(match.groups()) if text)


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("the number must be finite", ctx, param)
    return value


@click.command(cls=TieredCommand, short_help="Compress pictures to .ldc files.")
@coding_options
@click.option("--rate", type=POSITIVE, callback=_finite, metavar="BPP", help="At most this many bits per pixel.")
@click.option("--size", callback=_bytes, metavar="BYTES", help="At most this many bytes: 2500, 100k, 1.5M.")
@click.option("--psnr", type=POSITIVE, callback=_finite, metavar="DB", help="At least this PSNR in dB.")
@click.option(
    "--quality",
    type=click.FloatRange(0, 100),
    callback=_finite,
    metavar="0..100",
    help="The model's own scale; the fastest, because nothing is searched.",
)
@click.option("--lossless", is_flag=True, help="Keep every pixel exactly, without the model.")
@click.option(
    "--effort",
    type=EFFORT,
    metavar="1..9",
    default=1,
    show_default=True,
    help="Above 1, refine each picture's latent: smaller files, up to minutes a megapixel.",
)
@click.option(
    "--tune",
    type=click.Choice(TUNES),
    help="Spend bits for the least error, or where errors show.  [default: visual, psnr with --psnr]",
)
@click.option(
    "--roi",
    callback=_roi,
    metavar="X,Y,W,H[,DB]",
    help="Region of interest, in pixels: errors in it weigh DB more (12) than elsewhere.",
)
@click.option(
    "--no-fallback",
    cls=AdvancedOption,
    is_flag=True,
    help="Use the model even where a lossless file would be smaller.",
)
@click.option(
    "--strip",
    cls=AdvancedOption,
    is_flag=True,
    help="Leave out colour profile and all metadata; the pixels become sRGB.",
)
@click.option(
    "--frame",
    cls=AdvancedOption,
    type=click.IntRange(1),
    metavar="N",
    help="Which picture of an animation or multi-page file; 1 is the first.",
)
@depth_option(["8"], "Reduce pictures of more bits a sample to 8.")
@click.option(
    "--hdr",
    cls=AdvancedOption,
    is_flag=True,
    help="Keep PQ and HLG of pictures of more than 8 bits, instead of bringing them into sRGB.",
)
def compress(
    common: CodingOptions,
    no_fallback: bool,
    effort: int,
    tune: str | None,
    roi: tuple[float, ...] | None,
    strip: bool,
    frame: int | None,
    depth: int | None,
    hdr: bool,
    **targets: Any,
) -> int:
    """Compress pictures to .ldc files.

    IN is any picture file, its URL (s3://, https://), or - for standard input. Give exactly one of --rate, --size,
    --psnr, --quality and --lossless. Without -o, the output is written next to its input: img.png becomes img.ldc.
    With --recursive, IN may be folders; a manifest in OUT records what is done, so that the same command continues a
    run that was stopped.
    """
    given = {name: value for name, value in targets.items() if value}
    given |= {"quality": 0.0} if targets["quality"] == 0 else {}
    if len(given) != 1:
        raise click.UsageError("give exactly one of --rate, --size, --psnr, --quality and --lossless")
    if no_fallback and "lossless" in given:
        raise click.UsageError("--no-fallback and --lossless contradict each other")
    options = CompressOptions(
        cast(TargetOptions, given),
        strip,
        not no_fallback,
        effort,
        tune or Target(**given).tune,
        frame,
        depth,
        hdr,
        roi,
        not common.no_preserve,
    )
    work = Work(_compress, options, common.model, common.device, common.max_pixels)
    return common.run(work, (TAKEN, _is_taken), ".ldc", _check_names)


def _is_taken(head: bytes) -> bool:
    from ldcodec.pictures.kinds import is_film, is_picture

    return is_picture(head) or is_film(head)


def _check_names(jobs: list[Job]) -> None:
    """Raise UsageError for an output that says to be something else."""
    for job in jobs:
        check_extension(job.target, (".ldc", ""))


def _compress(job: Job, options: CompressOptions, models: Models, limits: Limits) -> JobResult:
    import logging

    from ldcodec.codec import encode_picture
    from ldcodec.pictures.read import read

    logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors are reported once, as ours
    origin = origin_of(job.source, options.preserve)
    settings = options.settings()
    with opened(job.source) as given, library_output_as_warnings():
        stream = seekable(given)
        limits.check_picture(stream, settings, models.weights(), options.frame or 1)
        length = length_of(stream)
        picture = read(stream, job.source_name, options.frame)
    start = models.clock()
    encoded = encode_picture(picture, settings, models.chosen)
    seconds = models.clock() - start
    with created(job.target, origin, job.unfinished) as stream:
        stream.write(encoded.data)
    if len(encoded.data) > length:  # as of a small JPEG at a high quality, or without loss
        text = f"the output is larger than the input: {len(encoded.data)} instead of {length} bytes"
        warnings.warn(text, LdcodecWarning, stacklevel=2)
    size = picture.width, picture.height
    return JobResult(*size, len(encoded.data), picture.width * picture.height, seconds, encoded.lossless)
