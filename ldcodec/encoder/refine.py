"""Refinement of a picture's latent by gradient descent, for encoding efforts above 1.

The analysis transform infers the latent of any picture in one pass, but for a given picture better ones exist (Yang,
Bamler and Mandt 2020, "Improving inference for neural image compression"). Here latent and hyper-latent descend the
gradient of bits + λ·error through the rate model and the synthesis that will decode them; the error is the squared one,
or that for the eye where a file is tuned for it. Rounding has no gradient, so each value is a random mixture of the two
whole numbers around it, which becomes less random as the temperature falls (stochastic Gumbel annealing, section 3.2).

The picture is refined in squares with a margin around each, so that memory does not grow with the picture.
docs/experiments.md has the results, and what was tried instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ldcodec.bitstream import layout, quality
from ldcodec.bitstream.slices import PIXELS, REFINED_MARGIN, REFINED_SIDE, UNIT, Area, Span
from ldcodec.encoder.interface import EncoderModel, Floats
from ldcodec.engine.cpumodel import CpuModel
from ldcodec.entropy.tables import SCALE_MIN, SKIPPED_SCALES
from ldcodec.errors import UsageError
from ldcodec.nets.model import load_model
from ldcodec.nets.networks import Networks
from ldcodec.nets.quantise import centroid, information, inner_edge, lower_bound, nearest_scale, scale_of
from ldcodec.nets.rate import by_step, from_steps
from ldcodec.nets.structure import visual_errors
from ldcodec.pictures.frame import framed_area
from ldcodec.pictures.picture import Pixels

STEPS = {2: 80, 3: 100, 4: 120, 5: 150, 6: 200, 7: 250, 8: 320, 9: 400}  # by effort; 60 steps gain next to nothing
RATE, HYPER_RATE = 0.01, 0.005  # Adam's learning rates for the latent, in quantisation steps, and the hyper-latent
BETAS = (0.9, 0.98)
WARM, COLD = 0.5, 0.1  # temperatures at the first and the last step


@dataclass(frozen=True)
class Patch:
    """A square of the picture to refine.

    picture: [1, 3, 16h, 16w] in 0..1; scaled: its latent in steps, [1, M, h, w], h and w multiples of 4.
    coded: [h, w], 0 in the padding, where nothing is coded and errors do not count.
    quality: t, [1], which determines λ. tuning: 0 for squared errors, 1 for those of the eye.
    """

    picture: Tensor
    scaled: Tensor
    coded: Tensor
    quality: Tensor
    tuning: float = 0.0


def refined_rows(
    model: EncoderModel, picture: Pixels, latent: Floats, span: Span, index: int, effort: int, tuning: float
) -> tuple[Floats, Floats]:
    """Refine latent and hyper-latent of some rows of a picture: [M, rows, w] and [hyper, rows/4, w/4].

    picture: the whole picture, (H, W, 3) or (H, W); latent: of the rows in steps,
    [M, rows, w]; span: those rows; effort: 2 to 9; tuning: see `Patch`.
    """
    networks = _with_gradients(model)
    scaled = networks.array(latent[None])
    rows, columns = scaled.shape[2:]
    t = torch.tensor([quality.fraction(index)], dtype=torch.float32, device=scaled.device)
    coded = scaled.new_zeros(rows, columns)
    height, width = layout.coded_size(picture.shape[1], picture.shape[0])
    coded[: max(0, height - span.top), :width] = 1
    y = torch.empty_like(scaled)
    z = scaled.new_empty(1, networks.config.hyper, rows // UNIT, columns // UNIT)
    for square in _squares(rows, columns):
        seen = square.grown(REFINED_MARGIN, rows, columns)
        window = slice(seen.top, seen.bottom), slice(seen.left, seen.right)
        place = seen._replace(top=seen.top + span.top, bottom=seen.bottom + span.top)
        pixels = torch.from_numpy(framed_area(picture, place)).to(scaled.device)[None]
        patch = Patch(pixels, scaled[:, :, *window], coded[window], t, tuning)
        for target, result, unit in zip((y, z), refined(networks, patch, effort), (1, UNIT), strict=True):
            inner = tuple(slice(edges.start // unit, edges.stop // unit) for edges in square.inside(seen))
            top, bottom, left, right = (edge // unit for edge in square)
            target[:, :, top:bottom, left:right] = result[:, :, *inner]
    return y[0].cpu().numpy(), z[0].cpu().numpy()


def _with_gradients(model: EncoderModel) -> Networks:
    """The model's networks in PyTorch, which alone has gradients."""
    if isinstance(model, CpuModel):
        return load_model(str(model.path), "cpu").networks
    if isinstance(model.networks, Networks):
        return model.networks
    raise UsageError("an effort above 1 needs a model in PyTorch")


def _squares(rows: int, columns: int) -> Iterator[Area]:
    """Cut a latent into squares; side and margin are multiples of 4, so that they hold whole hyper-latents."""
    for top in range(0, rows, REFINED_SIDE):
        for left in range(0, columns, REFINED_SIDE):
            yield Area(top, min(rows, top + REFINED_SIDE), left, min(columns, left + REFINED_SIDE))


@torch.enable_grad()
def refined(networks: Networks, patch: Patch, effort: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Refine one square: a latent in steps [1, M, h, w] and a hyper-latent [1, hyper, h/4, w/4] that cost less.

    effort: 2 to 9. The networks are not changed.
    """
    y = patch.scaled.detach().clone().requires_grad_()
    z = networks.rate.hyper_latent(patch.scaled, patch.quality).detach().requires_grad_()
    groups = [{"params": [y], "lr": RATE}, {"params": [z], "lr": HYPER_RATE}]
    optimiser, cost, steps = torch.optim.Adam(groups, betas=BETAS), Cost(networks, patch, seed), STEPS[effort]
    # The rates are constant for the first half and fall linearly to 0 in the second.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 2 * (1 - step / steps)))
    for step in range(steps):
        loss = cost.of(y, z, WARM * (COLD / WARM) ** (step / steps))
        y.grad, z.grad = torch.autograd.grad(loss, (y, z))  # not backward(): no gradients for the weights
        optimiser.step()
        schedule.step()
    return y.detach(), z.detach()


class Cost:
    """Bits and error of latents under random rounding."""

    def __init__(self, networks: Networks, patch: Patch, seed: int) -> None:
        self.networks, self.patch = networks, patch
        self.generator = torch.Generator(patch.scaled.device).manual_seed(seed)
        with torch.no_grad():
            self.scales = networks.scales(patch.quality)
            self.hyper_scale = scale_of(nearest_scale(networks.rate.hyper_scale(patch.quality).log()))
        self.visible = F.interpolate(patch.coded[None, None], scale_factor=PIXELS)[0]  # 0 in the padding, by pixel

    def of(self, y: Tensor, z: Tensor, temperature: float) -> Tensor:
        """Bits per pixel + λ·error of a latent and a hyper-latent: a scalar with gradient."""
        below, share = self._rounded(z, temperature, None)
        hyper = below + share
        bits, known = self._coded(y, self.networks.rate.features(hyper, self.patch.quality), temperature)
        bits = bits + information(hyper, self.hyper_scale.expand_as(hyper)).sum()
        decoded = self.networks.synthesis(known / self.scales.gain, self.patch.quality, self.networks.std)
        loss: Tensor = (
            bits / self.visible.sum() + (quality.multiplier(self.patch.quality) * self._error(decoded)).squeeze()
        )
        return loss

    def _error(self, decoded: Tensor) -> Tensor:
        """The error of a decoded picture [1, 3, H, W] where it is visible, in squared levels: [1]."""
        picture, visible = self.patch.picture, self.visible.mean()
        shown = torch.lerp(picture, decoded, self.visible)
        error = (shown - picture).square().mean((1, 2, 3)) * 255**2
        if self.patch.tuning:
            error = torch.lerp(error, visual_errors(shown, picture, error, self.patch.quality), self.patch.tuning)
        return error / visible

    def _coded(self, y: Tensor, features: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Bits of the latent, and the centroids by which a decoder will know it, [1, M, h, w]."""
        parts, coded = by_step(y), by_step(self.patch.coded[None, None])
        known, bits = [], []

        def decode(k: int, mean: Tensor, log_scale: Tensor) -> Tensor:
            free = lower_bound(torch.exp(log_scale.clamp(max=8)), SCALE_MIN)
            index = nearest_scale(free.detach().log())
            scale = free + (scale_of(index) - free).detach()  # one of the 64, with the gradient of the continuous one
            kept = (index >= SKIPPED_SCALES) * coded[k]
            below, share = self._rounded(parts[k] - mean, temperature, index)
            symbol = (below + share) * kept
            bits.append((information(symbol, scale) * kept).sum())
            low, high = (centroid(s * kept, index) for s in (below, below + 1))
            known.append(mean + low + (high - low) * share)
            return mean + symbol

        self.networks.rate.walk(features, self.scales.expected, parts[0], decode)
        return torch.stack(bits).sum(), from_steps(torch.stack(known), y.shape[2:])

    def _rounded(self, values: Tensor, temperature: float, index: Tensor | None) -> tuple[Tensor, Tensor]:
        """Round at random: the whole number below each value, and the share 0..1 of the one above it in the mixture.

        Both are equally likely at the edge between their cells under these scale indices, or halfway for None.
        """
        below = values.detach().floor()
        rest = values - below
        if index is not None:  # stretch 0..edge and edge..1 to halves of equal length
            edge = _edge(below, index)
            rest = torch.where(rest < edge, rest / (2 * edge), 1 - (1 - rest) / (2 * (1 - edge)))
        rest = rest.clamp(1e-4, 1 - 1e-4)  # atanh is infinite at 1, logit at 0 and 1
        noise = torch.rand(values.shape, generator=self.generator, dtype=values.dtype, device=values.device)
        noise = noise.clamp_(1e-6, 1 - 1e-6)
        preference = (torch.atanh(rest) - torch.atanh(1 - rest)) / temperature
        return below, torch.sigmoid((preference + noise.logit_()) / temperature)


def _edge(below: Tensor, index: Tensor) -> Tensor:
    """Where the cells of a whole number and of the next one meet, 0..1 above the former."""
    outer = torch.maximum(below.abs(), (below + 1).abs())
    moved = inner_edge(outer, index) - outer + 1
    return torch.where(below < 0, 1 - moved, moved)
