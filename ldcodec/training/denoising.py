"""Stage 2: denoiser and synthesis, for symbols that no longer change.

What quantisation destroyed is u = (y − μ − m)/d, in units of the posterior's deviation. The denoiser first learns its
velocity at all times. Then denoiser and synthesis learn the picture together, through the single step of decoding.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ldcodec.bitstream import quality
from ldcodec.diffusion.posterior import Condition, moments_of
from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.encoder.interface import Floats
from ldcodec.encoder.masking import Weights, even
from ldcodec.encoder.viterbi import chosen
from ldcodec.entropy.integer import LATENT_BITS
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.trellis import reconstructed
from ldcodec.nets.denoiser import Prepared
from ldcodec.nets.networks import Networks
from ldcodec.nets.quantise import centroid, deviation, information, nearest_scale, scale_of
from ldcodec.nets.rate import by_step, from_steps
from ldcodec.pictures.picture import Pixels
from ldcodec.training.settings import DenoiserSettings
from ldcodec.training.stages import Stage, StageLoss, balance, batch_errors

VELOCITY, PICTURE = 0, 1  # the phases

Weigh = Callable[[Pixels, Floats], Weights]  # picture and basis of the shortcut → weights of squared errors
Parts = tuple[Tensor, ...]  # centre, deviation and scale of each latent, and the bits of each picture


class DenoiserStage(Stage):
    """Encoder and rate model stay bit for bit what they are, and so does the parse id."""

    name = "denoiser"

    def __init__(
        self, networks: Networks, settings: DenoiserSettings, coder: Coder | None = None, weigh: Weigh = even
    ) -> None:
        """coder: that of a model with a trellis, which then quantises; None for the scalar quantiser.

        weigh: the weights of errors in the choice of its symbols, as of a tuning of the encoder; with
        any but `even` a tuned analysis works for the eye.
        """
        super().__init__(networks, (settings.velocity, settings.picture), settings.shortcut_rate)
        self.settings, self.coder, self.weigh = settings, coder, weigh
        self.steady = coder is None  # the trellis is searched by the CPU

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
        tuning = torch.full_like(t, float(self.weigh is not even))
        y = networks.analysis(x, t, networks.std, tuning) * networks.scales(t).gain
        if self.coder is None:
            parts = self._scalar(y, t)
        else:  # one synthesis draws the files of both quantisers, so half a batch goes through each
            shuffled = torch.randperm(len(t), device=t.device)
            some, others = shuffled[::2], shuffled[1::2]
            weights = self._weights(x[some], t[some]).to(y)
            found = self._through_trellis(y[some], t[some], weights, self.coder), self._scalar(y[others], t[others])
            order = torch.cat([some, others]).argsort()
            parts = tuple(torch.cat(pair)[order] for pair in zip(*found, strict=True))
        centre, width, scale, bits = parts
        return Condition(centre, width, scale, t), (y - centre) / width, bits

    def _scalar(self, y: Tensor, t: Tensor) -> Parts:
        """Centre, deviation and scale [B, M, h, w] and bits [B] of the scalar quantiser, for a scaled latent."""
        rated = self.networks.rate(y, t, self.networks.scales(t).expected)
        index = nearest_scale(rated.scale.log())
        centre, width = rated.mean + centroid(rated.symbols, index), deviation(rated.symbols, index)
        return centre, width, rated.scale, rated.bits

    def _weights(self, x: Tensor, t: Tensor) -> Tensor:
        """Weights of squared errors, [B, M, h, w]."""
        pictures, basis = (255 * x).round().byte().movedim(1, -1).cpu().numpy(), self.networks.basis()
        found = []
        for picture, fraction in zip(pictures, t.tolist(), strict=True):
            weights = self.weigh(picture, basis)
            places = np.arange(len(basis) * weights.position.size)
            found.append(weights.of(places, quality.nearest_index(fraction)).reshape(-1, *weights.position.shape))
        return torch.from_numpy(np.stack(found))

    def _through_trellis(self, y: Tensor, t: Tensor, weights: Tensor, coder: Coder) -> Parts:
        """The same for the symbols of a trellis, whose lanes here run through the whole batch."""
        rate, parts, weighed = self.networks.rate, by_step(y), by_step(weights)
        expected = self.networks.scales(t).expected
        z = torch.round(rate.hyper_latent(y, t))
        found: list[Tensor] = []  # of each step: centre, deviation, scale and bits

        def decode(k: int, mean: Tensor, log_scale: Tensor) -> Tensor:
            index = nearest_scale(log_scale)
            offset, width, bits, said = _quantised(parts[k] - mean, index, weighed[k], coder)
            found.append(torch.stack([mean + offset, width, scale_of(index), bits]))
            decoded: Tensor = mean + said
            return decoded

        rate.walk(rate.features(z, t), expected, parts[0], decode)
        centre, width, scale, bits = (from_steps(part, y.shape[2:]) for part in torch.stack(found, 1))
        hyper = information(z, scale_of(nearest_scale(rate.hyper_scale(t).log())).expand_as(z))
        total: Tensor = bits.sum((1, 2, 3)) + hyper.sum((1, 2, 3))
        return centre, width, scale, total

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


def _quantised(values: Tensor, index: Tensor, weights: Tensor, coder: Coder) -> Tensor:
    """Quantise values in steps from their means by a trellis, [4, B, n, M/4], given scale index and weight of each.

    Returns four such tensors: the offset of the centroid from the mean, its deviation, the bits, and what the context
    steps see.
    """
    order = values.movedim(-1, 2)  # the elements of a channel together, as in files
    listed = index.movedim(-1, 2).cpu().numpy().astype(np.uint8).ravel()
    quantised = chosen(
        order.double().cpu().numpy().ravel(), listed, coder, weights.movedim(-1, 2).cpu().numpy().ravel()
    )
    arrays = *moments_of(quantised, listed, coder.trellis), coder.latent_bits(quantised, listed)
    said = reconstructed(*quantised) * 2.0**-LATENT_BITS
    stacked: Tensor = torch.from_numpy(np.stack([*arrays, said])).to(values)
    return stacked.view(4, *order.shape).movedim(3, -1)
