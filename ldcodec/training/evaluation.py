"""A model measured as it is used: pictures to files, files to bytes, bytes to pictures."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ldcodec.bench.metrics import psnr, squared_error
from ldcodec.bitstream import container, quality
from ldcodec.decoder.parse import parse
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.reverse import condition, render
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.integer import LATENT_BITS
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Pixels

Report = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """One picture at one quality: bits a pixel of the whole file; squared errors of 8-bit RGB.

    error: as the decoder shows it; centroid: with the denoiser off; rounded: each latent in the middle of its cell.
    seconds: of encoding, without what no quality changes.
    """

    bpp: float
    seconds: float
    error: float
    centroid: float
    rounded: float


@dataclass(frozen=True)
class Point:
    """Means over the pictures at one quality, PSNR in dB; psnr_of_mean: of the mean squared error, the lower figure."""

    index: int
    quality: float
    bpp: float
    psnr: float
    psnr_of_mean: float
    centroid_psnr: float
    rounded_psnr: float
    seconds: float


def evaluate(
    found: list[Pixels], model: Model, indices: list[int], settings: DecodeSettings, report: Report, effort: int = 1
) -> list[Point]:
    """A point for each quality index in 0..4095, coded with an effort; reports a line for each picture."""
    rows: list[list[Measured]] = [[] for _ in indices]
    for number, pixels in enumerate(found):
        encoder = PictureEncoder(pixels, model, effort=effort)
        for row, index in zip(rows, indices, strict=True):
            row.append(measure(encoder, index, settings))
        figures = "  ".join(f"{row[-1].bpp:.3f} bpp {psnr(row[-1].error):.2f} dB" for row in rows)
        report(f"picture {number + 1} of {len(found)}: {figures}")
    return [_point(index, row) for index, row in zip(indices, rows, strict=True)]


@torch.no_grad()
def measure(encoder: PictureEncoder, index: int, settings: DecodeSettings) -> Measured:
    """Encodes at a quality index, reads the written bytes again and compares what comes out."""
    model, begun = encoder.model, time.perf_counter()
    data = container.write(encoder.code(index).container)
    seconds = time.perf_counter() - begun
    source = container.read(data)
    parsed = parse(source, model)
    known = condition(parsed, source.header, model)
    symbols = torch.from_numpy(parsed.symbols).to(known.centre)
    middle = symbols + torch.from_numpy(parsed.mean).to(known.centre) * 2.0**-LATENT_BITS
    shown = [render(known, source.header, model, settings)]
    shown += [_pixels(encoder, latent, known.quality) for latent in (known.centre, middle[None])]
    errors = [squared_error(encoder.picture, pixels) for pixels in shown]
    return Measured(8 * len(data) / (encoder.height * encoder.width), seconds, *errors)


def _pixels(encoder: PictureEncoder, latent: Tensor, t: Tensor) -> Pixels:
    picture = encoder.model.networks.picture(latent, t)[0, :, : encoder.height, : encoder.width]
    shown: Pixels = picture.mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return shown


def _point(index: int, rows: list[Measured]) -> Point:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    errors = [row.error for row in rows]
    return Point(
        index=index,
        quality=100 * quality.fraction(index),
        bpp=mean([row.bpp for row in rows]),
        psnr=mean([psnr(error) for error in errors]),
        psnr_of_mean=psnr(mean(errors)),
        centroid_psnr=mean([psnr(row.centroid) for row in rows]),
        rounded_psnr=mean([psnr(row.rounded) for row in rows]),
        seconds=mean([row.seconds for row in rows]),
    )
