"""LSGM's mixed prior in the codec's own rate model: would N(0, S²)^(1−α)·N(μ, σ²)^α save bits?

Each latent element of the codec has a Gaussian from the network, N(μ, σ²), and each channel has a fixed one, N(0, S²)
with the deviation S expected at a quality. Their weighted geometric mean is a Gaussian too, with precision
α/σ² + (1 − α)/S². α = 1 is the codec as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldcodec.bitstream import quality
from ldcodec.nets.blocks import padded
from ldcodec.nets.model import Model
from ldcodec.nets.quantise import information, nearest_scale, scale_of
from ldcodec.pictures.picture import Pixels

ALPHAS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05)  # above 1: away from the fixed Gaussian


@dataclass(frozen=True)
class MixedBits:
    """Bits a pixel of the latent at a quality index, for each α, with plain rounding and without the hyper-latent."""

    index: int
    bits: tuple[float, ...]


def mixture(mean: Tensor, scale: Tensor, fixed: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mean and scale of N(0, fixed²)^(1−α)·N(mean, scale²)^α, normalised; broadcast over all shapes, scales > 0.

    LSGM (Vahdat, Kreis and Kautz 2021), section 3.2, for two Gaussians. α may be a little above 1: the precision is at
    least a hundredth of 1/scale².
    """
    own, other = scale.pow(-2), fixed.pow(-2)
    precision = torch.maximum(alpha * own + (1 - alpha) * other, 0.01 * own)
    return alpha * own * mean / precision, precision.rsqrt()


@torch.no_grad()
def mixed_bits(model: Model, pictures: Sequence[Pixels], index: int) -> MixedBits:
    """Means over RGB pictures uint8 (H, W, 3), cropped to multiples of 64 pixels, at a quality index in 0..4095.

    μ and σ come from the float rate model, with today's symbols as context. So this is what the last step of the rate
    model would gain, not what a model trained with the mixture might.
    """
    total, pixels = np.zeros(len(ALPHAS)), 0
    t = torch.tensor([quality.fraction(index)])
    networks = model.networks.eval()
    for picture in pictures:
        whole = picture[: picture.shape[0] // 64 * 64, : picture.shape[1] // 64 * 64]
        y = networks.scaled_latent(networks.analysis.base(padded(whole, torch.device("cpu"))), t)
        expected = networks.scales(t).expected
        rated = networks.rate(y, t, expected)
        total += [_bits(y, *mixture(rated.mean, rated.scale, expected, alpha)) for alpha in ALPHAS]
        pixels += whole.shape[0] * whole.shape[1]
    return MixedBits(index, tuple(total / pixels))


def _bits(y: Tensor, mean: Tensor, scale: Tensor) -> float:
    return float(information(torch.round(y - mean), scale_of(nearest_scale(scale.log()))).double().sum())
