"""The prior p(z): the standard normal, a diffusion, or a mixture of both.

LSGM (Vahdat, Kreis and Kautz 2021, section 3.2) mixes p(z) ∝ N(z; 0, 1)^(1−α)·p_θ(z)^α, and so the noise predictions:
ε = (1 − α)·σ·z_t + α·ε_θ. With ε_θ = σ·z_t + α_t·v_θ this is the velocity α·v_θ. The standard normal has velocity zero,
so a network whose output starts at zero starts as the standard normal, whatever α is.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ldcodec.study.losses import (
    NOISE_ENTROPY,
    cross_entropy_cells,
    cross_entropy_denoising,
    cross_entropy_normal,
    denoising,
    diffused_entropy,
    gaussian_entropy,
    likelihood_times,
    uniform_entropy,
)
from ldcodec.study.toynets import NetLayout, VelocityNetwork

START_MIXING = -2.0  # logit of a learned α before training: α = 0.12, near the standard normal


class MixedVelocity(nn.Module):
    """α·v_θ: z_t [B, L, h, w] and time [B] → v, where α [L, 1, 1] is 1, fixed, or learned for each channel."""

    def __init__(self, layout: NetLayout, prior: str, mixing: float | None) -> None:
        super().__init__()
        self.network = VelocityNetwork(layout.latent, 0, layout)
        learned = prior == "mixed" and mixing is None
        self.logit = nn.Parameter(torch.full((layout.latent, 1, 1), START_MIXING)) if learned else None
        self.fixed = 1.0 if mixing is None else mixing

    def mixing(self) -> Tensor:
        """α, [L, 1, 1] or a scalar, in 0..1."""
        return torch.tensor(self.fixed) if self.logit is None else self.logit.sigmoid()

    def forward(self, z: Tensor, time: Tensor) -> Tensor:
        velocity: Tensor = self.mixing() * self.network(z, time)
        return velocity


def entropy(latent: str, log_noise: Tensor) -> Tensor:
    """H(q(z|x)), a scalar in nats; log_noise is log σ of a Gaussian latent, or log Δ of a delta."""
    return gaussian_entropy(log_noise) if latent == "gaussian" else uniform_entropy(log_noise)


def entropy_at_start(latent: str, log_noise: Tensor) -> Tensor:
    """H of q diffused to the first time, to go with `cross_entropy_denoising`: a scalar in nats."""
    each = log_noise + NOISE_ENTROPY if latent == "gaussian" else log_noise
    return diffused_entropy(each).sum()


def cross_entropy_closed(latent: str, mean: Tensor, noisy: Tensor, log_noise: Tensor) -> Tensor:
    """CE(q(z|x) ‖ N(0, I)) in closed form: means and noisy z, both [B, L, h, w] → [B] nats."""
    if latent == "gaussian":
        return cross_entropy_normal(mean, log_noise)
    return cross_entropy_cells(noisy, log_noise)


def prior_losses(velocity: MixedVelocity, z: Tensor, weighting: str) -> tuple[Tensor, Tensor]:
    """(cross-entropy, loss of the prior's network), both [B] nats: LSGM's algorithms 1 to 3.

    The encoder is always trained by the cross-entropy, whose weight is g²/σ². With the weighting "likelihood" it trains
    the network too; otherwise the network is held fixed there and learns from a second draw.
    """
    noise, time = torch.randn_like(z), likelihood_times(len(z))
    if weighting == "likelihood":
        both = cross_entropy_denoising(z, velocity, time, noise)
        return both, torch.zeros_like(both)
    cross = cross_entropy_denoising(z, still(velocity), time, noise)
    return cross, denoising(z.detach(), velocity, weighting)


def still(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """The network as a function that passes gradients to its input but not to its parameters."""
    held = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return lambda z, time: functional_call(network, held, (z, time))
