"""How good the float networks are on held-out pictures: predicted bits and PSNR, with and without the denoiser."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels
from ldcodec.training.denoising import DenoiserStage
from ldcodec.training.settings import Denoiser

QUALITIES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Point:
    """One quality, means over the pictures: bits a pixel, PSNR in dB of the decoder's picture and of the centroid's."""

    quality: float
    bpp: float
    psnr: float
    centroid_psnr: float


@torch.no_grad()
def validate(networks: Networks, found: list[Pixels], device: torch.device) -> list[Point]:
    """A point for each of five qualities, in float32. networks: in evaluation mode on `device`."""
    stage = DenoiserStage(networks, Denoiser())
    points = []
    for quality in QUALITIES:
        rows = [_measure(stage, pixels, quality, device) for pixels in found]
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        points.append(Point(quality, *means))
    return points


def _measure(stage: DenoiserStage, pixels: Pixels, quality: float, device: torch.device) -> tuple[float, float, float]:
    height, width = pixels.shape[:2]
    x = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float() / 255
    padded = F.pad(x, (0, -width % 64, 0, -height % 64), mode="replicate")
    t = torch.tensor([quality], device=device)
    known, _, bits = stage.posterior(padded, t)
    decoded = stage.decode(known)
    plain = stage.networks.picture(known.centre, t)
    return bits.item() / (height * width), _psnr(decoded, x), _psnr(plain, x)


def _psnr(decoded: Tensor, x: Tensor) -> float:
    """Over 8-bit values, of the part that is not padding."""
    shown = decoded[..., : x.shape[2], : x.shape[3]].clamp(0, 1).mul(255).round() / 255
    return -10 * math.log10(max((shown - x).square().mean().item(), 1e-10))
