"""Training of one setting: first the bound, then the conditional decoder on the frozen codec.

Time is the processor time of this process, so that a run gets the same amount of work on a busy machine.
"""

import math
import time as clocks
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.study.datasets import Dataset
from ldcodec.study.losses import denoising, deviation_of, reconstruction, spread, uniform_times
from ldcodec.study.priors import cross_entropy_closed, entropy, entropy_at_start, prior_losses
from ldcodec.study.runs import StudySettings
from ldcodec.study.toycodec import StudyCodec
from ldcodec.study.toynets import fold, layout

DESCENT = 0.5  # the last part of a phase, in which the learning rate falls to zero
CLIP = 1.0  # norm of the gradient; the loss is divided by the numbers in a picture
START_SHARE = 0.25  # of a batch of the conditional decoder that is at time 1 with u = 0: the estimate of least error
REPORTS = 5  # progress lines in a phase

Say = Callable[[str], None]


@dataclass(frozen=True)
class Terms:
    """The terms of the bound, means over a batch in nats per picture."""

    distortion: float
    entropy: float
    cross_entropy: float
    denoising: float

    @property
    def rate(self) -> float:
        """Cross-entropy − entropy, in nats per picture."""
        return self.cross_entropy - self.entropy

    def line(self) -> str:
        """The terms as a line of the log."""
        return (
            f"distortion {self.distortion:9.1f}  entropy {self.entropy:8.1f}  cross-entropy {self.cross_entropy:8.1f}  "
            f"rate {self.rate:7.1f}  denoising {self.denoising:8.2f} nats"
        )


def bound(codec: StudyCodec, pictures: Tensor) -> tuple[Tensor, Terms]:
    """The loss [B] of pictures [B, C, n, n] in 0..1 and its terms, by one draw of z, time and noise for each."""
    settings, model = codec.settings, codec.autoencoder
    mean, width = model.mean(pictures), model.width()
    z = codec.drawn(mean)
    distortion = reconstruction(pictures, model.decode(z), deviation_of(settings.multiplier, codec.layout.colours))
    extra = torch.zeros(len(pictures))
    if settings.prior == "normal":
        own, cross = entropy(settings.latent, width), cross_entropy_closed(settings.latent, mean, z, width)
        if codec.prior is not None:  # fitted to the latents but no part of the bound (Rombach et al. 2022)
            extra = denoising(z.detach(), codec.prior, settings.weighting)
    elif codec.prior is not None:
        own = entropy_at_start(settings.latent, width)
        cross, extra = prior_losses(codec.prior, z, settings.weighting)
    means = [float(part.detach().mean()) for part in (distortion, own, cross, extra)]
    return distortion + cross - own + extra, Terms(*means)


def restoration(codec: StudyCodec, pictures: Tensor, z: Tensor) -> Tensor:
    """Mean of (v − v_θ)² of the conditional decoder, [B], for z [B, L, h, w] as it will be decoded; the codec is fixed.

    Part of the batch is at time 1 with u = 0, where the loss is the squared error of the one-step estimate.
    """
    with torch.no_grad():
        decoded = codec.autoencoder.decode(z)
        known = codec.known(decoded, z)
        u = fold((pictures - decoded) / codec.remainder, codec.layout)  # type: ignore[operator]
    time, noise = uniform_times(len(u)), torch.randn_like(u)
    first = math.ceil(START_SHARE * len(u))
    time[:first], noise[:first] = 1.0, 0.0
    alpha, sigma = (spread(part, u) for part in alpha_sigma(time))
    miss = codec.restorer(alpha * u + sigma * noise, time, known) - (alpha * noise - sigma * u)  # type: ignore[misc]
    each: Tensor = miss.square().flatten(1).mean(1)
    return each


def train(settings: StudySettings, data: Dataset, say: Say) -> StudyCodec:
    """A trained codec in evaluation mode. All randomness follows from settings.seed."""
    torch.manual_seed(settings.seed)
    codec = StudyCodec(settings, layout(settings, data.colours, data.side))
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    share = settings.share if settings.conditional else 1.0
    _fit_bound(codec, data, share, say)
    if codec.restorer is not None:
        _fit_restorer(codec, data, 1 - share, say)
    return codec.eval()


def _fit_bound(codec: StudyCodec, data: Dataset, share: float, say: Say) -> None:
    parts = [codec.autoencoder, *([codec.prior] if codec.prior is not None else [])]
    numbers = data.train.pixels[0].numel()

    def loss(pictures: Tensor) -> tuple[Tensor, str]:
        loss, terms = bound(codec, pictures)
        return loss.mean() / numbers, terms.line()

    _fit(codec, parts, loss, data, share, say)


def _fit_restorer(codec: StudyCodec, data: Dataset, share: float, say: Say) -> None:
    with torch.no_grad():
        sample = data.train.part(slice(0, 1000)).floats()
        left = sample - codec.autoencoder.decode(codec.drawn(codec.autoencoder.mean(sample)))
        codec.remainder.fill_(float(left.square().mean().sqrt().clamp(min=1e-3)))  # type: ignore[operator]

    def loss(pictures: Tensor) -> tuple[Tensor, str]:
        with torch.no_grad():
            z = codec.drawn(codec.autoencoder.mean(pictures))
        miss = restoration(codec, pictures, z).mean()
        return miss, f"conditional decoder {float(miss.detach()):.4f}, 1 without knowledge"

    _fit(codec, [codec.restorer], loss, data, share, say)  # type: ignore[list-item]


def _fit(
    codec: StudyCodec,
    parts: list[nn.Module],
    loss_of: Callable[[Tensor], tuple[Tensor, str]],
    data: Dataset,
    share: float,
    say: Say,
) -> None:
    settings = codec.settings
    parameters = [parameter for part in parts for parameter in part.parameters()]
    optimiser = torch.optim.Adam(parameters, settings.rate, betas=(0.9, 0.99))
    reported = 0
    batches = _batches(data, settings.batch)
    step = -1
    for step, done in enumerate(_progress(settings, share)):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * min(1.0, (step + 1) / 50, (1 - done) / DESCENT)
        loss, line = loss_of(next(batches))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        if done * REPORTS >= reported:
            reported = math.floor(done * REPORTS) + 1
            say(f"step {step + 1:5d}  {line}")
    say(f"{step + 1} steps of {settings.batch} pictures")


def _progress(settings: StudySettings, share: float) -> Iterator[float]:
    """The share of a phase that is over, before each of its steps: by number of steps, or by processor time."""
    if settings.steps:
        count = max(1, round(settings.steps * share))
        yield from (k / count for k in range(count))
        return
    start, budget = clocks.process_time(), 60 * settings.minutes * share
    while (spent := clocks.process_time() - start) < budget:
        yield spent / budget


def _batches(data: Dataset, size: int) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(len(data.train))
        for start in range(0, max(1, len(order) - size + 1), size):
            yield data.train.part(order[start : start + size]).floats()
