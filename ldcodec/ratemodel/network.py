"""The float form of the rate model: what training optimises and what a rate search asks.

    y (scaled latent) ─ h_a ─► z ─ round ─► h_s ─ ×q(t) ─► features ─┐
                                                                    ▼
    four times: features, decoded so far ─ conv1×1 ─ conv3×3 ─ conv1×1 ─► μ, log σ of a quarter of the elements ─►
    symbols round(y − μ)

The four-step order is the quadtree of DCVC (Li et al. 2023, section 3.3): channels in four groups, positions in 2×2
cells; after every step each cell has something decoded. A file is never parsed with these floats: see `integer`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.config import Config
from ldcodec.ratemodel.gaussian import (
    SCALE_MIN,
    information,
    lower_bound,
    nearest_scale,
    scale_of,
)
from ldcodec.ratemodel.quantiser import quantise
from ldcodec.transforms.blocks import QualityScale, act

# Position (0..3 in reading order of a 2×2 cell) that channel group j codes in step k: ORDER[k][j].
ORDER = ((0, 3, 1, 2), (3, 0, 2, 1), (1, 2, 0, 3), (2, 1, 3, 0))
OUTPUT_SCALE = 0.3  # of the step networks' heads: keeps Adam's first steps small
SKIPPED_SCALES = 2  # scale indices below this are never coded; equals Tables.skipped (tested)


@dataclass(frozen=True)
class Rated:
    """One latent as the rate model sees it: all [B, M, h, w] but bits, which is [B].

    `mean` and `scale` of each element's Gaussian; `symbols` of y − mean, without gradient; `bits` include the
    hyper-latent's.
    """

    mean: Tensor
    scale: Tensor
    symbols: Tensor
    bits: Tensor


class Step(nn.Module):
    """One context step: features [B, ctx, h, w] (and what is decoded, [B, M, h, w]) → mean and log-scale of every
    element.
    """

    def __init__(self, config: Config, first: bool) -> None:
        super().__init__()
        c = config
        self.mix = nn.Conv2d(c.context + (0 if first else c.latent), c.context, 1)
        self.spatial, self.head = nn.Conv2d(c.context, c.context, 3, padding=1), nn.Conv2d(c.context, 2 * c.latent, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = (OUTPUT_SCALE * self.head(act(self.spatial(act(self.mix(x))))).float()).chunk(2, 1)
        return mean, log_scale


class RateModel(nn.Module):
    """Hyperprior and four-step context."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config
        self.analysis = nn.ModuleList(
            [
                nn.Conv2d(c.latent, c.context, 3, padding=1),
                nn.Conv2d(c.context, c.context, 3, 2, 1),
                nn.Conv2d(c.context, c.hyper, 3, 2, 1),
            ]
        )
        self.synthesis = nn.ModuleList(
            [
                nn.Conv2d(c.hyper, 4 * c.context, 1),
                nn.Conv2d(c.context, 4 * c.context, 1),
                nn.Conv2d(c.context, c.context, 3, padding=1),
            ]
        )
        self.quality = QualityScale(c.context)
        self.steps = nn.ModuleList([Step(c, k == 0) for k in range(4)])
        self.z_mean, self.z_log_scale = nn.Parameter(torch.zeros(c.hyper)), nn.Parameter(torch.zeros(c.hyper))

    def hyper_latent(self, y: Tensor) -> Tensor:
        """Scaled latent [B, M, h, w] → hyper-latent minus its mean, [B, hyper, h/4, w/4]; rounded, these are its
        symbols.
        """
        z = torch.sign(y) * torch.log1p(y.abs())
        for k, layer in enumerate(self.analysis):
            z = layer(act(z) if k else z)
        centred: Tensor = z.float() - self.z_mean[:, None, None]
        return centred

    def hyper_scale(self) -> Tensor:
        """σ of each channel of the hyper-latent, [hyper]."""
        return lower_bound(3 * F.softplus(self.z_log_scale + 0.5), 0.15)

    def features(self, symbols: Tensor, t: Tensor) -> Tensor:
        """Hyper-latent symbols [B, hyper, h/4, w/4], t [B] → features [B, ctx, h, w]."""
        hidden = F.pixel_shuffle(self.synthesis[0](symbols + self.z_mean[:, None, None]), 2)
        hidden = F.pixel_shuffle(self.synthesis[1](act(hidden)), 2)
        features: Tensor = act(self.synthesis[2](act(hidden))).float() * self.quality(t)
        return features

    def forward(self, y: Tensor, t: Tensor, expected: Tensor, coded: Tensor | None = None) -> Rated:
        """y: scaled latent [B, M, h, w]; t: [B]; expected: its deviation before training, [B, M, 1, 1]; coded: [h,
        w], 0 where nothing is coded.

        In training mode the bits are those of y plus uniform noise under free scales and gradients pass the rounding;
        otherwise they are those of the symbols under the 64 scales, and elements that a file would skip are zero.
        """
        z = self.hyper_latent(y)
        z_bits = information(self._noisy(z), self._snapped(self.hyper_scale())[:, None, None].expand_as(z))
        features = self.features(straight_round(z), t)
        decoded, mean, log_scale, symbols = (torch.zeros_like(y) for _ in range(4))
        floor, log_expected = expected.clamp(min=1), expected.log()
        for k, mask in enumerate(step_masks(y, coded)):
            raw_mean, raw_log = self.steps[k](torch.cat([features, decoded / floor], 1) if k else features)
            mean = mean + raw_mean * floor * mask.any_
            log_scale = log_scale + (raw_log + log_expected) * mask.any_
            symbol = self._symbol(y - raw_mean * floor, raw_log + log_expected) * mask.coded
            symbols = symbols + symbol.detach()
            decoded = decoded + (symbol + raw_mean * floor) * mask.any_
        scale = self._snapped(lower_bound(torch.exp(log_scale.clamp(max=8)), SCALE_MIN))
        y_bits = information(self._noisy(y - mean) if self.training else symbols, scale)
        y_bits = y_bits if coded is None else y_bits * coded
        return Rated(mean, scale, symbols, y_bits.sum((1, 2, 3)) + z_bits.sum((1, 2, 3)))

    def _noisy(self, centred: Tensor) -> Tensor:
        return centred + torch.rand_like(centred) - 0.5 if self.training else torch.round(centred)

    def _snapped(self, scale: Tensor) -> Tensor:
        return scale if self.training else scale_of(nearest_scale(scale.log()))

    def _symbol(self, centred: Tensor, log_scale: Tensor) -> Tensor:
        if self.training:
            return straight_round(centred)
        index = nearest_scale(log_scale)
        return quantise(centred, index) * (index >= SKIPPED_SCALES)


def straight_round(x: Tensor) -> Tensor:
    """Rounds forward; the gradient passes unchanged."""
    return x + (torch.round(x) - x).detach()


@dataclass(frozen=True)
class StepMask:
    """Elements of one step, [M, h, w] of 0 and 1: all of them, and those that a file codes."""

    any_: Tensor
    coded: Tensor


def step_masks(y: Tensor, coded: Tensor | None) -> list[StepMask]:
    """The four steps of a latent [B, M, h, w]; together they cover every element once."""
    cell = torch.eye(4, device=y.device).view(4, 2, 2)
    channels, h, w = y.shape[1:]
    masks = []
    for order in ORDER:
        groups = torch.cat([cell[p].expand(channels // 4, 2, 2) for p in order])
        every = groups.repeat(1, (h + 1) // 2, (w + 1) // 2)[:, :h, :w]
        masks.append(StepMask(every, every if coded is None else every * coded))
    return masks
