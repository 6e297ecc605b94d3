"""Stage 2: denoiser and synthesis, for symbols that no longer change.

What quantisation destroyed is u = (y − μ − m)/d, in units of the posterior's deviation. The denoiser first learns its
velocity at all times. Then denoiser and synthesis learn the picture together, through the single step of decoding.
"""

import torch
from torch import Tensor, nn

from ldcodec.bitstream import quality
from ldcodec.diffusion.posterior import Condition
from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.nets.denoiser import Prepared
from ldcodec.nets.networks import Networks
from ldcodec.nets.quantise import centroid, deviation, nearest_scale
from ldcodec.training.settings import DenoiserSettings
from ldcodec.training.stages import Stage, StageLoss, balance, batch_errors

VELOCITY, PICTURE = 0, 1  # the phases


class DenoiserStage(Stage):
    """Encoder and rate model stay bit for bit what they are, and so does the parse id."""

    name = "denoiser"

    def __init__(self, networks: Networks, settings: DenoiserSettings) -> None:
        super().__init__(networks, (settings.velocity, settings.picture), settings.shortcut_rate)
        self.settings = settings

    def trained(self) -> tuple[nn.Module, ...]:
        """Denoiser and synthesis."""
        return self.networks.denoiser, self.networks.synthesis

    def enter(self, phase: int) -> None:
        """The rate model behaves as when a file is written: symbols instead of noise, and the 64 scales."""
        self.networks.eval().requires_grad_(False)
        self.networks.denoiser.requires_grad_(True)
        self.networks.synthesis.requires_grad_(phase == PICTURE)

    def loss(self, x: Tensor, t: Tensor, phase: int) -> StageLoss:
        """The velocity's error, or the picture's and a part of the velocity's; see `Stage.loss`."""
        known, u, bits = self.posterior(x, t)
        prepared = self.networks.denoiser.prepare(known)
        figures = {"bpp": bits.mean() / x[0, 0].numel()}
        velocity = self._velocity(known, u, prepared)
        u0 = self.start(known, prepared)
        left = self._error(known, u0 - u)
        figures |= {"velocity": velocity.detach(), "left": left.detach() / self._error(known, u)}
        if phase == VELOCITY:
            share = self.settings.start_share
            return StageLoss(share * left + (1 - share) * velocity, figures)
        decoded = self.networks.picture(known.centre + known.deviation * u0, t)
        error = batch_errors(decoded, x)
        loss = (quality.multiplier(t) * error * balance(t)).mean() + self.settings.velocity_weight * velocity
        return StageLoss(loss, {**figures, "mse": error.detach().mean()})

    @torch.no_grad()
    def posterior(self, x: Tensor, t: Tensor) -> tuple[Condition[Tensor], Tensor, Tensor]:
        """What a decoder knows of each latent, the remainder u [B, M, h, w] that it lacks, and the bits [B]."""
        networks = self.networks
        scales = networks.scales(t)
        y = networks.analysis(x, t, networks.std) * scales.gain
        rated = networks.rate(y, t, scales.expected)
        index = nearest_scale(rated.scale.log())
        centre, width = rated.mean + centroid(rated.symbols, index), deviation(rated.symbols, index)
        return Condition(centre, width, rated.scale, t), (y - centre) / width, rated.bits

    def decode(self, known: Condition[Tensor]) -> Tensor:
        """The picture [B, 3, H, W] of decoding in one step."""
        u0 = self.start(known, self.networks.denoiser.prepare(known))
        return self.networks.picture(known.centre + known.deviation * u0, known.quality)

    def start(self, known: Condition[Tensor], prepared: Prepared | None = None) -> Tensor:
        """The remainder [B, M, h, w] restored by one step from u = 0 at time 1, which is −v."""
        prepared = prepared or self.networks.denoiser.prepare(known)
        start = torch.zeros_like(known.centre)
        return -self.networks.denoiser(start, torch.ones_like(known.quality), prepared)  # type: ignore[no-any-return]

    def _velocity(self, known: Condition[Tensor], u: Tensor, prepared: Prepared) -> Tensor:
        """Error of v = α·ε − σ·u at one time from each of B equal parts of 0..1.

        The times are shuffled because the qualities of a batch are in order.
        """
        u = u.clamp(-self.settings.velocity_limit, self.settings.velocity_limit)
        time = (torch.randperm(len(u), device=u.device) + torch.rand(1, device=u.device)) / len(u)
        alpha, sigma = (factor[:, None, None, None] for factor in alpha_sigma(time))
        noise = torch.randn_like(u)
        output = self.networks.denoiser(alpha * u + sigma * noise, time, prepared)
        return self._error(known, output - (alpha * noise - sigma * u))

    def _error(self, known: Condition[Tensor], difference: Tensor) -> Tensor:
        """Mean of 12·d²·difference², for a difference in units of d: in steps, relative to the variance 1/12 of a cell.

        The transform is nearly orthonormal, so this is about the latent's share of the picture's error at any quality.
        Without the weight, the many narrow latents that are never coded would drown the others.
        """
        return (12 * known.deviation.square() * difference.square()).mean()
