"""Stage 1: analysis, rate model, synthesis and gain, trained for bits and squared error together."""

import math

import torch
from torch import Tensor, nn

from ldcodec.bitstream import quality
from ldcodec.nets.networks import Networks
from ldcodec.nets.structure import visual_errors
from ldcodec.training.settings import AutoencoderSettings
from ldcodec.training.stages import Stage, StageLoss, balance, batch_errors


class AutoencoderStage(Stage):
    """Loss (bits a pixel + λ·MSE)·(λ/0.017)^balance, −0.4 by default.

    The synthesis reads the centroid of each latent's cell, as in a decoder; the gradient passes this step unchanged.
    Of a tuned model some crops are coded for the eye, with another error for MSE, while the analysis learns.
    """

    name = "autoencoder"

    def __init__(self, networks: Networks, settings: AutoencoderSettings, teacher: Networks | None = None) -> None:
        """teacher: trained networks, whose picture is a second target of the squared error; see `teaching`."""
        phases = tuple(phase for phase in (settings.decoder, settings.phase) if phase.share)
        super().__init__(networks, phases, settings.shortcut_rate)
        self.prepares = settings.decoder.share > 0
        self.muon, self.balance = settings.muon, settings.balance
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.teaching = settings.teaching if teacher is not None else 0.0
        self.visual = settings.visual if networks.config.tuned else 0.0

    def trained(self) -> tuple[nn.Module, ...]:
        """All networks but the denoiser."""
        return self.networks.analysis, self.networks.rate, self.networks.synthesis, self.networks.gain

    def enter(self, phase: int) -> None:
        """Everything but the denoiser learns, at first not the latent; the rate model sees noise, not rounding."""
        self.networks.train().requires_grad_(True)
        self.networks.denoiser.requires_grad_(False)
        for part in (self.networks.analysis, self.networks.gain):
            part.requires_grad_(self._analyses(phase))

    def _analyses(self, phase: int) -> bool:
        """Whether the latent learns in a phase."""
        return phase > 0 or not self.prepares

    def loss(self, x: Tensor, t: Tensor, phase: int) -> StageLoss:
        """See `Stage.loss`."""
        networks = self.networks
        scales = networks.scales(t)
        visual = places(len(x), self.visual if self._analyses(phase) else 0.0, x.device)
        tuning = torch.zeros_like(t).index_fill(0, visual, 1.0)
        y = networks.analysis(x, t, networks.std, tuning) * scales.gain
        rated = networks.rate(y, t, scales.expected)
        with torch.no_grad():
            known = rated.mean + centroid(torch.round(y - rated.mean), rated.scale)
        decoded = networks.synthesis((y + (known - y).detach()) / scales.gain, t, networks.std)
        bpp, error = rated.bits / x[0, 0].numel(), batch_errors(decoded, x)
        wanted = error
        if self.teacher is not None:
            wanted = torch.lerp(error, batch_errors(decoded, pictured(self.teacher, x, t)), self.teaching)
        if len(visual):
            some = (values.index_select(0, visual) for values in (decoded, x, wanted, t))
            wanted = wanted.index_copy(0, visual, visual_errors(*some))
        loss = ((bpp + quality.multiplier(t) * wanted) * balance(t, self.balance)).mean()
        return StageLoss(loss, {"bpp": bpp.detach().mean(), "mse": error.detach().mean()})


def places(count: int, share: float, device: torch.device) -> Tensor:
    """Which of so many crops are coded for the eye: about this share of them, evenly spread from a random one on.

    Crops are ordered by quality, so that both tunings see all qualities.
    """
    chosen = int(count * share)
    if not chosen:
        return torch.empty(0, dtype=torch.long, device=device)
    spread = ((torch.arange(chosen, device=device) + 0.5) / share).long()
    return (spread + torch.randint(count, (1,), device=device)) % count


@torch.no_grad()
def pictured(networks: Networks, x: Tensor, t: Tensor) -> Tensor:
    """What networks in evaluation mode make of pictures [B, 3, H, W] at qualities t [B], without their denoiser."""
    scales = networks.scales(t)
    rated = networks.rate(networks.analysis(x, t, networks.std) * scales.gain, t, scales.expected)
    known = rated.mean + centroid(rated.symbols, rated.scale)
    return networks.synthesis(known / scales.gain, t, networks.std)  # type: ignore[no-any-return]


def centroid(symbol: Tensor, scale: Tensor) -> Tensor:
    """Mean of N(0, scale²) restricted to [symbol − ½, symbol + ½], elementwise.

    Not `nets.quantise.centroid`, which looks up what `diffusion.posterior.moments` has computed for the 64 scales and
    the cells of the dead zone: this stage has continuous scales and plain rounding. It is the textbook formula in
    float32, fast enough for every step, with the inner edge where the cell has next to no mass. Where both apply and
    |symbol| < 3σ, the two differ by less than 3e-5·σ² + 1e-4 steps.
    """
    low, high = (symbol - 0.5) / scale, (symbol + 0.5) / scale
    mass = 0.5 * (torch.erf(high / math.sqrt(2)) - torch.erf(low / math.sqrt(2)))
    density = torch.exp(-low.square() / 2) - torch.exp(-high.square() / 2)
    mean = scale * density / math.sqrt(2 * math.pi) / mass.clamp(min=1e-12)
    return torch.where(mass < 1e-5, symbol - 0.5 * symbol.sign(), mean)
