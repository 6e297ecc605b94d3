"""The rate model in floats, for training and for estimates during a rate search.

    y (scaled latent) ─ h_a ─► z ─ round ─► h_s ─ ×q(t) ─► features ─┐
                                                                    ▼
    four times: features, decoded so far ─ conv1×1 ─ conv3×3 ─ conv1×1 ─► μ, log σ of a quarter of the elements ─►
    symbols round(y − μ)

The order of the four steps is the quadtree of DCVC (Li et al. 2023, section 3.3): the channels form four groups, the
positions 2×2 cells, and each step decodes one group at each position of a cell. Files are never parsed with these
floats, but with `entropy.integer`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.bitstream.quality import to_middle
from ldcodec.entropy.config import CONTEXT_SCALE, Config
from ldcodec.entropy.integer import ORDER
from ldcodec.entropy.tables import SCALE_MIN, SKIPPED_SCALES
from ldcodec.nets.blocks import QualityScale, act
from ldcodec.nets.quantise import (
    cell_information,
    information,
    lower_bound,
    nearest_scale,
    quantise,
    scale_of,
)

DecodeStep = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Rated:
    """What the rate model computes for a latent.

    mean, scale: the Gaussian of each element, [B, M, h, w]; symbols: y − mean quantised, [B, M, h, w], no gradient.
    bits: [B], of latent and hyper-latent; hyper_bits: [B], of the hyper-latent alone, under one Gaussian per channel.
    hyper: the symbols of the hyper-latent, [B, hyper, h/4, w/4], whole numbers up to float rounding.
    """

    mean: Tensor
    scale: Tensor
    symbols: Tensor
    bits: Tensor
    hyper_bits: Tensor
    hyper: Tensor


class ContextStep(nn.Module):
    """One context step: predicts means, and unless all scales are known their logs, of the quarter that it codes.

    x: the features [B, ctx, h, w], after the first step followed by the decoded latent [B, M, h, w]; step: 0 … 3.
    Returns one or two tensors [4, B, h·w/4, M/4], ordered like one entry of `by_step`.
    """

    def __init__(self, config: Config, first: bool) -> None:
        super().__init__()
        c = config
        self.mix = nn.Conv2d(c.context + (0 if first else c.latent), c.context, 1)
        self.outputs = 1 if c.one_shot else 2
        self.spatial = nn.Conv2d(c.context, c.context, 3, padding=1)
        self.head = nn.Conv2d(c.context, self.outputs * c.latent, 1)

    def forward(self, x: Tensor, step: int) -> tuple[Tensor, ...]:
        # Each group needs the head's outputs at one position of every cell only, so the head runs as four small matrix
        # products instead of one convolution of which three quarters would be discarded.
        hidden = _selected(cell_positions(act(self.spatial(act(self.mix(x))))), ORDER[step])
        _, b, n, c = hidden.shape
        weight = self.head.weight.view(self.outputs, 4, -1, c).transpose(0, 1).reshape(4, -1, c)
        bias = self.head.bias.view(self.outputs, 4, 1, -1).transpose(0, 1).reshape(4, 1, -1)  # type: ignore[union-attr]
        raw = torch.baddbmm(bias, hidden.view(4, b * n, c), weight.transpose(1, 2))
        return (CONTEXT_SCALE * raw).float().view(4, b, n, -1).chunk(self.outputs, -1)


class RateModel(nn.Module):
    """Hyperprior and four-step context model."""

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
        self.steps = nn.ModuleList([ContextStep(c, k == 0) for k in range(4)])
        self.scales = nn.Conv2d(c.context, c.latent, 1) if c.one_shot else None
        self.fineness = QualityScale(c.hyper) if c.one_shot else None
        self.z_mean, self.z_log_scale = nn.Parameter(torch.zeros(c.hyper)), nn.Parameter(torch.zeros(c.hyper))

    def hyper_latent(self, y: Tensor, t: Tensor) -> Tensor:
        """Latent in steps [B, M, h, w] at qualities t [B] → hyper-latent minus its mean, [B, hyper, h/4, w/4].

        It is not yet rounded. In a one-shot model h_a reads the latent in the steps of the middle quality, and the
        hyper-latent is finer where the latent is (as in DCVC-RT: Jia et al. 2025, arXiv 2502.20762).
        """
        y = y if self.fineness is None else y * to_middle(t)[:, None, None, None]
        z = torch.sign(y) * torch.log1p(y.abs())
        for k, layer in enumerate(self.analysis):
            z = layer(act(z) if k else z)
        centred: Tensor = z.float() - self.z_mean[:, None, None]
        return centred if self.fineness is None else centred * self.fineness(t)

    def hyper_scale(self, t: Tensor) -> Tensor:
        """σ of each channel of the hyper-latent at qualities t [B]: [B, hyper, 1, 1], or [1, hyper, 1, 1] for all."""
        scale = 3 * F.softplus(self.z_log_scale + 0.5)[:, None, None]
        return lower_bound(scale[None] if self.fineness is None else scale * self.fineness(t), 0.15)

    def features(self, symbols: Tensor, t: Tensor) -> Tensor:
        """Hyper synthesis: hyper-latent symbols [B, hyper, h/4, w/4] and t [B] → features [B, ctx, h, w]."""
        z = symbols if self.fineness is None else symbols / self.fineness(t)
        hidden = F.pixel_shuffle(self.synthesis[0](z + self.z_mean[:, None, None]), 2)
        hidden = F.pixel_shuffle(self.synthesis[1](act(hidden)), 2)
        features: Tensor = act(self.synthesis[2](act(hidden))).float() * self.quality(t)
        return features

    def forward(self, y: Tensor, t: Tensor, expected: Tensor, coded: Tensor | None = None) -> Rated:
        """Rate a latent in steps, y [B, M, h, w], at qualities t [B].

        expected: the expected deviation of y, [B, M, 1, 1]; coded: [h, w], 0 for positions in the padding.

        In training mode, bits are those of y plus uniform noise under continuous scales, and gradients pass straight
        through the rounding. In evaluation mode, bits are those of the symbols under the 64 scales, and elements that a
        file would skip are zero.
        """
        z = self.hyper_latent(y, t)
        z_bits = information(self._noisy(z), self.snapped(self.hyper_scale(t)).expand_as(z))
        hyper = round_straight_through(z)
        parts, mask = by_step(y), None if coded is None else by_step(coded[None, None])
        mean, log_scale, symbols = self._rated(self.features(hyper, t), parts, expected, mask)
        scale = self.snapped(lower_bound(torch.exp(log_scale.clamp(max=8)), SCALE_MIN))  # e⁸ > SCALE_MAX
        y_bits = information(self._noisy(parts - mean), scale) if self.training else cell_information(symbols, scale)
        y_bits = y_bits if mask is None else y_bits * mask
        hyper_bits = z_bits.sum((1, 2, 3))
        bits = y_bits.sum((0, 1, 3, 4)) + hyper_bits
        mean, scale, symbols = (from_steps(part, y.shape[2:]) for part in (mean, scale, symbols))
        return Rated(mean, scale, symbols, bits, hyper_bits, hyper)

    def walk(self, features: Tensor, expected: Tensor, like: Tensor, decode: DecodeStep) -> None:
        """Run the four context steps, each of which sees what the earlier ones decoded.

        features: [B, ctx, h, w]; expected: the latent's expected deviation, [B, M, 1, 1]; like: a tensor of the shape
        of one step's elements, [4, B, h·w/4, M/4].
        decode: takes a step's number, means and log-scales, and returns its decoded elements, all of that shape.
        """
        kind = autocast_dtype(features)
        features, grouped = features.to(kind), expected.view(len(expected), 4, 1, -1).movedim(1, 0)
        floor, log_expected = grouped.clamp(min=1), grouped.log()
        decoded = [torch.zeros_like(like, dtype=kind)] * 4
        known = None if self.scales is None else by_step((CONTEXT_SCALE * self.scales(features)).float())
        for k, step in enumerate(self.steps):
            x = torch.cat([features, from_steps(torch.stack(decoded), features.shape[2:])], 1) if k else features
            mean, *own = step(x, k)
            log_scale = own[0] if known is None else known[k]
            decoded[k] = (decode(k, mean * floor, log_scale + log_expected) / floor).to(kind)

    def means(self, step: int, features: Tensor, decoded: Tensor | None) -> Tensor:
        """The means of one context step, over the expected deviation: [B, M, h/2, w/2], see `entropy.integer.MeanStep`.

        features: [B, ctx, h, w]; decoded: the latent decoded so far over its expected deviation, [B, M, h, w]; the
        first step does not read it.
        """
        b, _, h, w = features.shape
        x = features if decoded is None or step == 0 else torch.cat([features, decoded], 1)
        mean = self.steps[step](x, step)[0]
        grouped: Tensor = mean.permute(1, 0, 3, 2).reshape(b, -1, h // 2, w // 2)
        return grouped

    def _rated(
        self, features: Tensor, parts: Tensor, expected: Tensor, coded: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, log-scale and symbols of all elements, in the order of `by_step`; so are `parts` and `coded`."""
        means: list[Tensor] = []
        log_scales: list[Tensor] = []
        symbols: list[Tensor] = []

        def decode(k: int, mean: Tensor, log_scale: Tensor) -> Tensor:
            with torch.no_grad():
                symbol = self._symbol(parts[k] - mean, log_scale)
                symbol = symbol if coded is None else symbol * coded[k]
            for collected, value in zip((means, log_scales, symbols), (mean, log_scale, symbol), strict=True):
                collected.append(value)
            return parts[k] + (symbol + mean - parts[k]).detach()  # the gradient reaches the latent unchanged

        self.walk(features, expected, parts[0], decode)
        return torch.stack(means), torch.stack(log_scales), torch.stack(symbols)

    def _noisy(self, centred: Tensor) -> Tensor:
        return centred + torch.rand_like(centred) - 0.5 if self.training else torch.round(centred)

    def snapped(self, scale: Tensor) -> Tensor:
        """Scales rounded to the 64; in training mode as they are."""
        return scale if self.training else scale_of(nearest_scale(scale.log()))

    def _symbol(self, centred: Tensor, log_scale: Tensor) -> Tensor:
        if self.training:
            return torch.round(centred)
        index = nearest_scale(log_scale)
        return quantise(centred, index) * (index >= SKIPPED_SCALES)


def round_straight_through(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The type in which a convolution of x computes."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def cell_positions(x: Tensor) -> Tensor:
    """[B, C, h, w] → [4, B, h·w/4, C], first by position in the 2×2 cell in reading order; h and w are even."""
    b, c, h, w = x.shape
    squares = x.permute(0, 2, 3, 1).reshape(b, h // 2, 2, w // 2, 2, c)
    return squares.permute(2, 4, 0, 1, 3, 5).reshape(4, b, h * w // 4, c)


def by_step(x: Tensor) -> Tensor:
    """Sort the elements of a latent [B, M, h, w] by coding step and channel group: [4, 4, B, h·w/4, M/4].

    A mask [1, 1, h, w], which holds for all channels, becomes [4, 4, 1, h·w/4, 1].
    """
    b, channels, h, w = x.shape
    positions = cell_positions(x).view(4, b, h * w // 4, -1, max(1, channels // 4))
    grouped = positions.movedim(3, 1).expand(4, 4, -1, -1, -1)
    return _selected(grouped.flatten(0, 1), _SOURCES).view(4, 4, b, h * w // 4, -1)


def from_steps(parts: Tensor, size: torch.Size) -> Tensor:
    """The inverse of `by_step`: [4, 4, B, h·w/4, M/4] → [B, M, h, w] in channels-last memory; size: (h, w)."""
    _, _, b, _, c = parts.shape
    h, w = size
    squares = _selected(parts.flatten(0, 1), _TARGETS).view(2, 2, 4, b, h // 2, w // 2, c)
    return squares.permute(3, 4, 0, 5, 1, 2, 6).reshape(b, h, w, 4 * c).permute(0, 3, 1, 2)


def _selected(parts: Tensor, order: Sequence[int]) -> Tensor:
    """parts[order], without copying an index tensor to the device and without an element-wise scatter in backward."""
    listed = parts.unbind()
    return torch.stack([listed[place] for place in order])


# _SOURCES[4·k + j]: which of the 16 pairs 4·position + group step k decodes for group j; _TARGETS is the inverse.
_SOURCES = [4 * position + group for order in ORDER for group, position in enumerate(order)]
_TARGETS = [_SOURCES.index(place) for place in range(16)]
