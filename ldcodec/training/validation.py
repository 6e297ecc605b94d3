"""How good a model is: its float networks on held-out pictures, or the whole codec through real files."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldcodec.bench.curves import Curve, compare
from ldcodec.bench.metrics import squared_error
from ldcodec.bench.summary import delta_cells
from ldcodec.bitstream import container, quality
from ldcodec.bitstream.quality import psnr
from ldcodec.decoder.parse import parse
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.reverse import condition, render
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.integer import LATENT_BITS
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.trellis import reconstructed
from ldcodec.nets.blocks import padded
from ldcodec.nets.model import Model
from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels
from ldcodec.training.denoising import DenoiserStage
from ldcodec.training.settings import DenoiserSettings

QUALITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
COLUMNS = ("quality", "index", "bpp", "PSNR", "of mean MSE", "centroid", "rounded", "encode s")

Report = Callable[[str], None]


@dataclass(frozen=True)
class PredictedPoint:
    """Predicted bits a pixel at a quality in 0..1, PSNR in dB, and that with the denoiser off; means over pictures."""

    quality: float
    bpp: float
    psnr: float
    centroid_psnr: float


@torch.no_grad()
def validate(networks: Networks, found: list[Pixels], coder: Coder | None = None) -> list[PredictedPoint]:
    """A forecast for each of five qualities, in float32, by networks in evaluation mode; coder: see `DenoiserStage`."""
    stage = DenoiserStage(networks, DenoiserSettings(), coder)
    forecasts = []
    for t in QUALITIES:
        rows = [_forecast(stage, pixels, t) for pixels in found]
        forecasts.append(PredictedPoint(t, *(_mean(column) for column in zip(*rows, strict=True))))
    return forecasts


def _forecast(stage: DenoiserStage, pixels: Pixels, quality: float) -> tuple[float, float, float]:
    networks, (height, width) = stage.networks, pixels.shape[:2]
    device = networks.std.device
    t = torch.tensor([quality], device=device)
    known, _, bits = stage.posterior(padded(pixels, device), t)
    errors = [
        squared_error(pixels, networks.levels(picture[0, :, :height, :width], grey=False))
        for picture in (stage.decode(known), networks.picture(known.centre, t))
    ]
    return bits.item() / (height * width), psnr(errors[0]), psnr(errors[1])


@dataclass(frozen=True)
class MeasuredPicture:
    """One picture at one quality: bits a pixel of the whole file, and squared errors of 8-bit RGB.

    seconds: of encoding, without the part that all qualities share; error: of the picture that a decoder shows;
    centroid: with the denoiser off; rounded: with each latent in the middle of its cell.
    """

    bpp: float
    seconds: float
    error: float
    centroid: float
    rounded: float


@dataclass(frozen=True)
class MeasuredPoint:
    """Means over pictures at one quality, PSNR in dB; psnr_of_mean: of the mean squared error, the lower figure."""

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
) -> list[MeasuredPoint]:
    """A point for each quality index in 0..4095 at an encoder's effort; reports a line for each picture."""
    rows: list[list[MeasuredPicture]] = [[] for _ in indices]
    for number, pixels in enumerate(found):
        encoder = PictureEncoder(pixels, model, effort=effort)
        for row, index in zip(rows, indices, strict=True):
            row.append(measure(encoder, index, settings))
        figures = "  ".join(f"{row[-1].bpp:.3f} bpp {psnr(row[-1].error):.2f} dB" for row in rows)
        report(f"picture {number + 1} of {len(found)}: {figures}")
    return [_point(index, row) for index, row in zip(indices, rows, strict=True)]


@torch.no_grad()
def measure(encoder: PictureEncoder, index: int, settings: DecodeSettings) -> MeasuredPicture:
    """Encode at a quality index, decode the written bytes and compare the result with the picture."""
    model, begun = encoder.model, time.perf_counter()
    data = container.write(encoder.code(index).container)
    seconds = time.perf_counter() - begun
    source = container.read(data)
    parsed = parse(source, model)
    known = condition(parsed, source.header, model)
    middle = torch.from_numpy(parsed.mean + reconstructed(parsed.symbols, parsed.kind)).to(known.centre)
    middle *= 2.0**-LATENT_BITS
    shown = [render(known, source.header, model, settings)]
    shown += [_pixels(encoder, latent, known.quality) for latent in (known.centre, middle[None])]
    errors = [squared_error(encoder.picture, pixels) for pixels in shown]
    return MeasuredPicture(8 * len(data) / (encoder.height * encoder.width), seconds, *errors)


def _pixels(encoder: PictureEncoder, latent: Tensor, t: Tensor) -> Pixels:
    networks = encoder.model.networks
    return networks.levels(
        networks.picture(latent, t, 0.0, latent)[0, :, : encoder.height, : encoder.width], grey=False
    )


def _point(index: int, rows: list[MeasuredPicture]) -> MeasuredPoint:
    errors = [row.error for row in rows]
    return MeasuredPoint(
        index=index,
        quality=100 * quality.fraction(index),
        bpp=_mean([row.bpp for row in rows]),
        psnr=_mean([psnr(error) for error in errors]),
        psnr_of_mean=psnr(_mean(errors)),
        centroid_psnr=_mean([psnr(row.centroid) for row in rows]),
        rounded_psnr=_mean([psnr(row.rounded) for row in rows]),
        seconds=_mean([row.seconds for row in rows]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def table(points: list[MeasuredPoint]) -> str:
    """Points as text, one a line under a head; PSNR in dB."""
    lines = ["".join(f"{column:>13}" for column in COLUMNS)]
    for p in points:
        decibels = (p.psnr, p.psnr_of_mean, p.centroid_psnr, p.rounded_psnr)
        shown = "".join(f"{value:13.3f}" for value in decibels)
        lines.append(f"{p.quality:13.1f}{p.index:13d}{p.bpp:13.4f}{shown}{p.seconds:13.2f}")
    return "\n".join(lines)


def comparison(anchors: list[Curve], test: Curve) -> list[str]:
    """A line for each anchor: bits at equal PSNR, dB at equal bits, and the range of PSNR that both cover."""
    lines = [f"{'anchor':<28}{'BD-rate':>10}{'BD-PSNR':>10}{'over dB':>12}"] if anchors else []
    lines += [f"{anchor.name:<28}" + delta_cells(compare(anchor, test)) for anchor in anchors]
    return lines
