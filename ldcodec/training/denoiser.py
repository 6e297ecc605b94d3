"""Stage 2: denoiser and synthesis, for symbols that no longer change.

What quantisation destroyed, in units of the posterior's deviation, is u = (y − μ − m)/d. The denoiser first learns its
velocity at all times; then denoiser and synthesis learn the picture together, through the one step that decoding takes.
"""

import torch
from torch import Tensor, nn

from ldcodec import quality
from ldcodec.diffusion.denoiser import Condition, Prepared
from ldcodec.diffusion.posterior import truncated_moments
from ldcodec.diffusion.schedule import alpha_sigma
from ldcodec.networks import Networks
from ldcodec.training.settings import Denoiser
from ldcodec.training.stages import Result, Stage, balance, squared_error

VELOCITY, PICTURE = 0, 1  # the phases


class DenoiserStage(Stage):
    """Encoder and rate model stay as they are, bit for bit, and so does the parse id."""

    name = "denoiser"

    def __init__(self, networks: Networks, settings: Denoiser) -> None:
        super().__init__(networks, (settings.velocity, settings.picture), settings.shortcut_rate)
        self.settings = settings

    def trained(self) -> tuple[nn.Module, ...]:
        """Denoiser and synthesis."""
        return self.networks.denoiser, self.networks.synthesis

    def enter(self, phase: int) -> None:
        """The rate model behaves as for a file: snapped scales, near-zero ones skipped, symbols instead of noise."""
        self.networks.eval().requires_grad_(False)
        self.networks.denoiser.requires_grad_(True)
        self.networks.synthesis.requires_grad_(phase == PICTURE)

    def loss(self, x: Tensor, t: Tensor, phase: int) -> Result:
        """Velocity's error, or picture's with a part of the velocity's; `x` and `t` as in `Stage.loss`."""
        known, u, bits = self.posterior(x, t)
        prepared = self.networks.denoiser.prepare(known)
        figures = {"bpp": bits.mean() / x[0, 0].numel()}
        if phase == VELOCITY:
            return self._velocity(u, prepared, self.settings.start_share, figures)
        velocity = self._velocity(u, prepared, 0.0, figures)
        error = squared_error(self.decode(known, prepared), x)
        loss = (quality.multiplier(t) * error * balance(t)).mean()
        total = loss + self.settings.velocity_weight * velocity.loss
        return Result(total, {**figures, "mse": error.detach().mean()})

    @torch.no_grad()
    def posterior(self, x: Tensor, t: Tensor) -> tuple[Condition, Tensor, Tensor]:
        """What a decoder knows of each latent, the remainder u [B, M, h, w] that it does not know, and the bits [B]."""
        networks = self.networks
        scales = networks.scales(t)
        y = networks.analysis(x, t, networks.std) * scales.gain
        rated = networks.rate(y, t, scales.expected)
        mean, deviation = truncated_moments(rated.symbols, rated.scale)
        centre = rated.mean + mean
        return Condition(centre, deviation, rated.scale, t), (y - centre) / deviation, rated.bits

    def decode(self, known: Condition, prepared: Prepared) -> Tensor:
        """The picture [B, 3, H, W] that decoding in one step gives: u0 = −v(0, 1)."""
        u0 = -self.networks.denoiser(torch.zeros_like(known.centre), torch.ones_like(known.quality), prepared)
        return self.networks.picture(known.centre + known.deviation * u0, known.quality)

    def _velocity(self, u: Tensor, prepared: Prepared, start_share: float, figures: dict[str, Tensor]) -> Result:
        """Squared error of v = α·ε − σ·u at random times; some crops at time 1 without noise, where decoding starts."""
        limit = self.settings.velocity_limit
        u = u.clamp(-limit, limit)
        time, noise, start = self._times(u, start_share)
        alpha, sigma = (factor[:, None, None, None] for factor in alpha_sigma(time))
        output = self.networks.denoiser(alpha * u + sigma * noise, time, prepared)
        error = (output - (alpha * noise - sigma * u)).square().mean((1, 2, 3))
        if start.any():  # 1 where nothing was learnt: the share of the posterior's variance that is left
            left = (error[start].sum() / u[start].square().mean((1, 2, 3)).sum()).detach()
            figures = {**figures, "left": left}
        return Result(error.mean(), {**figures, "velocity": error.detach().mean()})

    def _times(self, u: Tensor, start_share: float) -> tuple[Tensor, Tensor, Tensor]:
        """Times [B], noise like u, and which crops are at the start: chosen at random, as qualities lie in order."""
        count = len(u)
        time = (torch.randperm(count, device=u.device) + torch.rand(1, device=u.device)) / count
        start = torch.randperm(count, device=u.device) < round(count * start_share)
        time = torch.where(start, torch.ones_like(time), time)
        return time, torch.randn_like(u) * ~start[:, None, None, None], start
