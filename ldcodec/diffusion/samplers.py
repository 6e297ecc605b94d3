"""The reverse process, from noise at time 1 to a latent at time 0: four samplers of one signature.

All know no network: `denoise(u, time)` gives v = α·ε − σ·u0, from which u0 = α·u − σ·v and ε = σ·u + α·v. In the angle
φ = time·π/2 the probability flow is du/dφ = v, and with u0 and ε held it turns by the angle: nothing is divided by
α = cos φ, so the start, where α = 0, needs no special care. A single step gives u0 = −v(u, 1) with each of them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ldcodec.diffusion.schedule import alpha_sigma

Denoise = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[int], Tensor]


class Sampler(Protocol):
    """A reverse process.

    denoise: (u, time as a float32 scalar) → v, the shape of u. u: the start, noise of index 0 scaled by the realism.
    times: [n + 1] falling from 1 to 0, as schedule.times() gives them. noise: the noise, scaled likewise, that is added
    in reaching times[k], k = 1 … n − 1. on_step: called with k = 1 … n after each step. Returns u0, the shape of u.
    """

    def __call__(
        self, denoise: Denoise, u: Tensor, times: Tensor, noise: Noise, on_step: Callable[[int], None] | None = None
    ) -> Tensor: ...


class Step(NamedTuple):
    """One step: its number from 1, the times it leaves and reaches, α and σ at both, the turn between them."""

    number: int
    leave: Tensor
    reach: Tensor
    alpha: float
    sigma: float
    next_alpha: float
    next_sigma: float
    turn_cos: float
    turn_sin: float


def _steps(times: Tensor, device: torch.device) -> list[Step]:
    exact = times.double().cpu()
    shown = times.to(device, torch.float32)
    ends = torch.stack(alpha_sigma(exact), 1).tolist()
    turns = torch.stack(alpha_sigma(exact[:-1] - exact[1:]), 1).tolist()
    return [Step(k + 1, shown[k], shown[k + 1], *ends[k], *ends[k + 1], *turns[k]) for k in range(len(turns))]


def sample_ddim(
    denoise: Denoise, u: Tensor, times: Tensor, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Tensor:
    """DDIM (Song, Meng and Ermon 2021, equation 12 with σ = 0): a turn by the angle; adds no noise."""
    for step in _steps(times, u.device):
        u = step.turn_cos * u - step.turn_sin * denoise(u, step.leave)
        _report(on_step, step)
    return u


def sample_ddpm(
    denoise: Denoise, u: Tensor, times: Tensor, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Tensor:
    """Ancestral sampling with the posterior's variance (Ho, Jain and Abbeel 2020, equations 6 and 7)."""
    for step in _steps(times, u.device):
        u0, rest = _split(u, denoise(u, step.leave), step)
        share = _renewed(step)
        u = step.next_alpha * u0 + step.next_sigma * math.sqrt(1 - share) * rest
        u = _stir(u, step, share, noise)
        _report(on_step, step)
    return u


def sample_heun(
    denoise: Denoise, u: Tensor, times: Tensor, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Tensor:
    """Second-order probability flow, two evaluations a step and one in the last (as Karras et al. 2022, algorithm 1).

    The predictor is the turn of DDIM; the corrector adds half of what v at the other end differs from the turned v, so
    that a step with u0 and ε constant stays exact. Adds no noise.
    """
    for step in _steps(times, u.device):
        v = denoise(u, step.leave)
        turned, turned_v = step.turn_cos * u - step.turn_sin * v, step.turn_cos * v + step.turn_sin * u
        if step.next_sigma > 0:
            angle = math.atan2(step.turn_sin, step.turn_cos)
            turned = turned - 0.5 * angle * (denoise(turned, step.reach) - turned_v)
        u = turned
        _report(on_step, step)
    return u


def sample_sde(
    denoise: Denoise, u: Tensor, times: Tensor, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Tensor:
    """Reverse SDE, second-order exponential integrator, one evaluation a step (SDE-DPM-Solver++ 2M, Lu et al. 2022b).

    The linear part and the noise are integrated exactly in λ = log(α/σ); u0 is extrapolated from the step before over
    half the step, except next to an infinite λ: in the first two steps and the last.
    """
    before: tuple[Tensor, float] | None = None
    for step in _steps(times, u.device):
        u0, _ = _split(u, denoise(u, step.leave), step)
        length = _log_snr(step.next_alpha, step.next_sigma) - _log_snr(step.alpha, step.sigma)
        target = u0
        if before is not None and math.isfinite(length):
            target = u0 + 0.5 * length / before[1] * (u0 - before[0])
        before = u0, length
        share = _renewed(step)
        kept = math.sqrt(1 - share) * step.next_sigma / step.sigma
        u = _stir(kept * u + (step.next_alpha - kept * step.alpha) * target, step, share, noise)
        _report(on_step, step)
    return u


SAMPLERS: dict[str, Sampler] = {"ddim": sample_ddim, "ddpm": sample_ddpm, "heun": sample_heun, "sde": sample_sde}


def evaluations(sampler: str, steps: int) -> int:
    """How many times a sampler asks the network in a number of steps."""
    return 2 * steps - 1 if sampler == "heun" else steps


def _split(u: Tensor, v: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """The estimates of u0 and ε in u_t = α·u0 + σ·ε."""
    return step.alpha * u - step.sigma * v, step.sigma * u + step.alpha * v


def _renewed(step: Step) -> float:
    """The share of the noise's variance that a stochastic step draws anew, 1 − e^(−2h) with h the step in λ."""
    return 1 - (step.alpha * step.next_sigma / (step.sigma * step.next_alpha)) ** 2


def _stir(u: Tensor, step: Step, share: float, noise: Noise) -> Tensor:
    """Adds the new noise of a step; the last step, which reaches σ = 0, has none."""
    return u + step.next_sigma * math.sqrt(share) * noise(step.number) if step.next_sigma > 0 else u


def _log_snr(alpha: float, sigma: float) -> float:
    """λ = log(α/σ), infinite at both ends."""
    if alpha == 0 or sigma == 0:
        return math.copysign(math.inf, alpha - sigma)
    return math.log(alpha / sigma)


def _report(on_step: Callable[[int], None] | None, step: Step) -> None:
    if on_step is not None:
        on_step(step.number)
