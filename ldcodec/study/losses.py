"""The terms of the evidence lower bound, in nats for each picture.

    −log p(x) ≤ −E log p(x|z)  −  H(q(z|x))  +  CE(q(z|x) ‖ p(z))

(Vahdat, Kreis and Kautz 2021, LSGM, equation 4). The first is the distortion, the other two are the rate. Under a
diffusion prior the cross-entropy is a denoising loss with the weight g²/σ² (their theorem 1): half the integral of
‖ε − ε_θ‖² over the logarithm of the signal-to-noise ratio (Kingma et al. 2021, VDM, equation 17).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.nets.quantise import information

Velocity = Callable[[Tensor, Tensor], Tensor]  # (z_t, time [B]) → v, the shape of z_t

FIRST, LAST = 0.01, 0.995  # the times between which the cross-entropy is integrated; σ is 0.016 at the first
LOG_TWO_PI = math.log(2 * math.pi)
NOISE_ENTROPY = 0.5 * (LOG_TWO_PI + 1)  # of one standard normal number


def deviation_of(multiplier: float, channels: int) -> float:
    """Standard deviation s of p(x|z), x in 0..1, for which nats are proportional to bits + λ·255²·MSE.

    Bits are per pixel and MSE is over the C channels of a pixel, so C·MSE/(2s²) nats = λ·255²·MSE bits.
    """
    return math.sqrt(channels / (2 * math.log(2) * multiplier)) / 255


def reconstruction(x: Tensor, decoded: Tensor, deviation: float) -> Tensor:
    """−log N(x; decoded, deviation²): pictures [B, ...] → [B] nats (Kingma and Welling 2014, equation 10)."""
    squares = (x - decoded).square().flatten(1).sum(1)
    return squares / (2 * deviation**2) + x[0].numel() * (0.5 * LOG_TWO_PI + math.log(deviation))


def gaussian_entropy(log_sigma: Tensor) -> Tensor:
    """Entropy of independent Gaussians: log σ of any shape → their sum, a scalar, in nats."""
    return (log_sigma + NOISE_ENTROPY).sum()


def uniform_entropy(log_step: Tensor) -> Tensor:
    """Entropy of independent uniform noise of width Δ: log Δ of any shape → their sum, a scalar, in nats."""
    return log_step.sum()


def diffused_entropy(entropy: Tensor, time: float = FIRST) -> Tensor:
    """Entropy of α·z + σ·ε from that of z, element by element, in nats.

    Exact where z is Gaussian, otherwise a lower bound by the entropy power inequality (Shannon 1948, section 21), so
    that a rate computed with it is never too small.
    """
    alpha, sigma = (float(part) for part in alpha_sigma(torch.tensor(time, dtype=torch.float64)))
    return 0.5 * torch.log(alpha**2 * torch.exp(2 * entropy) + sigma**2 * math.exp(2 * NOISE_ENTROPY))


def cross_entropy_normal(mean: Tensor, log_sigma: Tensor) -> Tensor:
    """CE(N(mean, σ²) ‖ N(0, 1)): mean [B, ...], log σ of one picture → [B] nats."""
    return (0.5 * (LOG_TWO_PI + mean.square() + (2 * log_sigma).exp())).flatten(1).sum(1)


def cross_entropy_cells(noisy: Tensor, log_step: Tensor) -> Tensor:
    """−log of the density of N(0, 1) smeared over the cell of width Δ around z: noisy z [B, ...] → [B] nats.

    These are the codec's bits of the symbol z/Δ under the scale 1/Δ (`nets.quantise.information`), plus log Δ.
    """
    bits = information(noisy / log_step.exp(), (-log_step).exp().expand_as(noisy))
    return (bits * math.log(2) + log_step).flatten(1).sum(1)


def log_snr(time: Tensor) -> Tensor:
    """log(α²/σ²) at times in 0..1, elementwise."""
    alpha, sigma = alpha_sigma(time)
    return 2 * (alpha.log() - sigma.log())


def likelihood_times(count: int, dtype: torch.dtype = torch.float32, first: float = FIRST) -> Tensor:
    """Times with density proportional to g²/σ², [count] in first..LAST, one in each of `count` equal strata.

    Uniform in the logarithm of the signal-to-noise ratio: LSGM's importance sampling (their section 3.3).
    """
    most, least = _log_snr_range(first)
    share = (torch.randperm(count) + torch.rand(count, dtype=torch.float64)) / count
    angle = torch.atan(torch.exp(-0.5 * (most + (least - most) * share)))
    return (angle * (2 / math.pi)).to(dtype)


def _log_snr_range(first: float) -> tuple[float, float]:
    most, least = log_snr(torch.tensor([first, LAST], dtype=torch.float64)).tolist()
    return most, least


def uniform_times(count: int) -> Tensor:
    """Times evenly over FIRST..LAST, [count], one in each of `count` equal strata, in random order."""
    return FIRST + (LAST - FIRST) * (torch.randperm(count) + torch.rand(count)) / count


def spread(time: Tensor, like: Tensor) -> Tensor:
    """[B] → [B, 1, ...], as many dimensions as `like`."""
    return time.view(-1, *[1] * (like.dim() - 1))


def noise_error(z: Tensor, velocity: Velocity, time: Tensor, noise: Tensor) -> Tensor:
    """‖ε − ε_θ(z_t, t)‖² at z_t = α·z + σ·ε: z and noise [B, ...], time [B] → [B].

    ε_θ = σ·z_t + α·v_θ, so the error is α times that of v = α·ε − σ·z (Salimans and Ho 2022, appendix D).
    """
    alpha, sigma = (spread(part, z) for part in alpha_sigma(time))
    miss = velocity(alpha * z + sigma * noise, time) - (alpha * noise - sigma * z)
    return (alpha * miss).square().flatten(1).sum(1)


def cross_entropy_denoising(z: Tensor, velocity: Velocity, time: Tensor, noise: Tensor, first: float = FIRST) -> Tensor:
    """CE(q(z_t|x) ‖ p_θ) at t = first for z drawn from q, by denoising: [B] nats, unbiased over `likelihood_times`.

    LSGM, theorem 1: ∫ g²/(2σ²)·E‖ε − ε_θ‖² dt + ½·log(2πe·σ²) for each element, σ that of the first time; to which
    the divergence of q(z_t|z) from N(0, 1) at the last time is added, which they take to be zero.
    """
    most, least = _log_snr_range(first)
    integral = 0.5 * (most - least) * noise_error(z, velocity, time, noise)
    sigma = alpha_sigma(torch.tensor(first, dtype=torch.float64))[1]
    start = z[0].numel() * (NOISE_ENTROPY + float(sigma.log()))
    return integral + start + _divergence_at_the_end(z)


def _divergence_at_the_end(z: Tensor) -> Tensor:
    alpha, sigma = (float(part) for part in alpha_sigma(torch.tensor(LAST, dtype=torch.float64)))
    return (0.5 * alpha**2 * (z.square() - 1) - math.log(sigma)).flatten(1).sum(1)


def weight(weighting: str, time: Tensor) -> Tensor:
    """w(t) of w(t)/2·‖ε − ε_θ‖², elementwise (LSGM, table 1): g²/σ², 1 or g² = σ²·d(−log SNR)/dt."""
    if weighting == "simple":
        return torch.ones_like(time)
    alpha, sigma = alpha_sigma(time)
    slope = math.pi / (alpha * sigma)  # −d(log SNR)/dt of the cosine schedule
    return slope if weighting == "likelihood" else slope * sigma.square()


def denoising(z: Tensor, velocity: Velocity, weighting: str) -> Tensor:
    """The loss w(t)/2·‖ε − ε_θ‖² of a prior's network at random times and noise: z [B, ...] → [B] nats."""
    noise = torch.randn_like(z)
    if weighting == "likelihood":
        return cross_entropy_denoising(z, velocity, likelihood_times(len(z), z.dtype), noise)
    time = uniform_times(len(z))
    return 0.5 * (LAST - FIRST) * weight(weighting, time) * noise_error(z, velocity, time, noise)
