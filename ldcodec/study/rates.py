"""What a latent costs in bits that are really written, and the entropies that a note on latent diffusion uses instead.

A delta latent is rounded and coded by the codec's range coder. A Gaussian latent is sent by universal quantisation (Ziv
1985; Agustsson and Theis 2020): with noise u in ±½ that both sides know, Δ·(round(μ/Δ − u) + u) is μ plus uniform noise
of width Δ. A Gaussian is a mixture of such uniforms with Δ = 2σ·√χ²₃ (Walker 1999), and both sides draw the same Δ. So
z has exactly the distribution N(μ, σ²), and what is sent is a whole number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import SYMBOL_LIMIT, make_tables
from ldcodec.errors import LdcodecError
from ldcodec.nets.quantise import nearest_scale
from ldcodec.study.losses import FIRST, NOISE_ENTROPY, cross_entropy_denoising, likelihood_times

NARROWEST = 0.002  # scale in steps: below it the coder's table would have a single symbol
BLOCK = 64  # pictures at a time in pairwise densities, to bound the memory


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of each element of μ(x) over the training pictures, [L, h, w]: the coder's Gaussians."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Sent:
    """What a decoder receives, z [B, L, h, w], and the size in bytes of the one stream for all B pictures."""

    z: Tensor
    size: int

    @property
    def bits(self) -> float:
        """Bits per picture."""
        return 8 * self.size / len(self.z)


def statistics(mean: Tensor) -> Statistics:
    """The statistics of μ(x) [B, L, h, w], B ≥ 2."""
    return Statistics(mean.mean(0), mean.std(0).clamp(min=1e-4))


def send(latent: str, mean: Tensor, log_noise: Tensor, given: Statistics, seed: int) -> Sent:
    """Codes the latent of μ(x) [B, L, h, w], reads it back and checks it. Raises LdcodecError if the symbols differ."""
    if latent == "delta":
        return _send_rounded(mean, log_noise.exp(), given)
    return _send_universal(mean, log_noise.exp(), given, seed)


def _send_rounded(mean: Tensor, step: Tensor, given: Statistics) -> Sent:
    symbols = torch.round((mean - given.mean) / step).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    index = nearest_scale((given.deviation / step).log()).expand_as(symbols).flatten().numpy().astype(np.uint8)
    values = symbols.flatten().numpy().astype(np.int32)
    coder = Coder(make_tables())
    encoder = coder.encoder()
    encoder.encode(values, index)
    data = encoder.finish()
    _check(values, coder.decoder(data).decode(index))
    return Sent(given.mean + step * symbols, len(data))


def _send_universal(mean: Tensor, sigma: Tensor, given: Statistics, seed: int) -> Sent:
    step, dither = shared_randomness(mean.shape, sigma, seed)
    symbols = torch.round(mean.double() / step - dither).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    values = symbols.flatten().numpy().astype(np.int32)
    centre = (given.mean / step - dither).flatten().numpy()
    scale = (given.deviation / step).clamp(min=NARROWEST).flatten().numpy()
    # Not the codec's tables, whose Gaussians lie around zero: here the dither shifts each cell.
    model = constriction.stream.model.QuantizedGaussian(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(values, model, centre, scale)
    words = encoder.get_compressed()
    _check(values, constriction.stream.queue.RangeDecoder(words).decode(model, centre, scale))
    return Sent((step * (symbols + dither)).float(), 4 * len(words))


def shared_randomness(shape: torch.Size, sigma: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Steps Δ > 0 and dithers in ±½, both float64 of this shape, that sender and receiver draw from the same seed."""
    rng = np.random.default_rng(seed)
    radius = torch.from_numpy(np.sqrt(rng.chisquare(3, tuple(shape)))).clamp(min=0.01)
    dither = torch.from_numpy(rng.random(tuple(shape)) - 0.5)
    return 2 * sigma.double() * radius, dither


def _check(sent: NDArray[np.int32], received: NDArray[np.int32]) -> None:
    if not np.array_equal(sent, received):
        raise LdcodecError("the range coder returned other symbols than it was given")


@dataclass(frozen=True)
class Entropies:
    """H(Z_t) and I(X; Z_t) at one time in bits per picture, X being one of B pictures with equal probability.

    note: the entropy of a Gaussian with the variances of z_t. true: that of the mixture of B Gaussians which z_t is, by
    sampling. given: H(Z_t|X). denoising: an upper bound of H by the prior's network, None without one for these z.
    """

    time: float
    note: float
    true: float
    given: float
    denoising: float | None

    @property
    def information(self) -> float:
        """I(X; Z_t) of the B pictures; at most log2 B."""
        return self.true - self.given


def entropies(
    mean: Tensor, sigma: Tensor, time: float, velocity: Callable[[Tensor, Tensor], Tensor] | None
) -> Entropies:
    """H(Z_t) of z_t = α·(μ(x) + σ_q·noise) + σ·ε: mean [B, L, h, w]; sigma σ_q ≥ 0 [L, h, w], 0 for delta latents."""
    alpha, noise = (float(part) for part in alpha_sigma(torch.tensor(time, dtype=torch.float64)))
    centres = alpha * mean.flatten(1).double()
    variance = (alpha * sigma.flatten().double()).square() + noise**2
    given = float((0.5 * variance.log() + NOISE_ENTROPY).sum())
    spread = centres.var(0, correction=0) + variance
    bits = 1 / math.log(2)
    return Entropies(
        time,
        note=bits * float((0.5 * spread.log() + NOISE_ENTROPY).sum()),
        true=bits * (given + _information(centres, variance)),
        given=bits * given,
        denoising=None if velocity is None else bits * _by_denoising(mean, sigma, time, velocity),
    )


def _information(centres: Tensor, variance: Tensor) -> float:
    """I(X; Z) in nats of Gaussians around equally likely centres [B, d], by a draw for each: E log q(z|x)/mean q(z|x′).

    Both densities are evaluated at the same draw, so that the noise of their sums over d elements cancels.
    """
    around = centres / variance.sqrt()
    noise = torch.randn_like(around)
    parts = [torch.cdist(block, around).square() for block in torch.split(around + noise, BLOCK)]
    others = torch.logsumexp(-0.5 * torch.cat(parts), 1) - math.log(len(centres))
    return float((-0.5 * noise.square().sum(1) - others).mean())


def _by_denoising(mean: Tensor, sigma: Tensor, time: float, velocity: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The cross-entropy of z_t with the network's p_t, in nats: that of the process from t on."""
    start = max(time, FIRST)
    z = mean + sigma * torch.randn_like(mean)
    later = likelihood_times(len(z), z.dtype, start)
    with torch.no_grad():
        return float(cross_entropy_denoising(z, velocity, later, torch.randn_like(z), start).mean())
