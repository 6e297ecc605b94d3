"""The reverse process, from noise at time 1 to a latent at time 0: four samplers of one signature.

All know no network: `denoise(u, time)` gives v = α·ε − σ·u0, from which u0 = α·u − σ·v and ε = σ·u + α·v. In the angle
φ = time·π/2 the probability flow is du/dφ = v, and with u0 and ε held it turns by the angle: nothing is divided by
α = cos φ, so the start, where α = 0, needs no special care. A single step gives u0 = −v(u, 1) with each of them.
Arrays may be NumPy's or PyTorch's: nothing but + − and × by numbers touches them.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from ldcodec.diffusion.condition import Array
from ldcodec.diffusion.schedule import alpha_sigma_at

Denoise = Callable[[Array, float], Array]
Noise = Callable[[int], Array]
Times = Sequence[float]


class Sampler(Protocol):
    """A reverse process.

    denoise: (u, time) → v, the shape of u. u: the start, noise of index 0 scaled by the realism.
    times: [n + 1] falling from 1 to 0, as schedule.times() gives them. noise: the noise, scaled likewise, that is added
    in reaching times[k], k = 1 … n − 1. on_step: called with k = 1 … n after each step. Returns u0, the shape of u.
    """

    def __call__(
        self, denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: Callable[[int], None] | None = None
    ) -> Array: ...


class Step(NamedTuple):
    """One step: its number from 1, the times it leaves and reaches, α and σ at both, the turn between them."""

    number: int
    leave: float
    reach: float
    alpha: float
    sigma: float
    next_alpha: float
    next_sigma: float
    turn_cos: float
    turn_sin: float


def _steps(times: Times) -> list[Step]:
    return [
        Step(k, leave, reach, *alpha_sigma_at(leave), *alpha_sigma_at(reach), *alpha_sigma_at(leave - reach))
        for k, (leave, reach) in enumerate(pairwise(times), start=1)
    ]


def sample_ddim(
    denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Array:
    """DDIM (Song, Meng and Ermon 2021, equation 12 with σ = 0): a turn by the angle; adds no noise."""
    for step in _steps(times):
        u = step.turn_cos * u - step.turn_sin * denoise(u, step.leave)
        _report(on_step, step)
    return u


def sample_ddpm(
    denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Array:
    """Ancestral sampling with the posterior's variance (Ho, Jain and Abbeel 2020, equations 6 and 7)."""
    for step in _steps(times):
        u0, rest = _split(u, denoise(u, step.leave), step)
        share = _renewed(step)
        u = step.next_alpha * u0 + step.next_sigma * math.sqrt(1 - share) * rest
        u = _stir(u, step, share, noise)
        _report(on_step, step)
    return u


def sample_heun(
    denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Array:
    """Second-order probability flow, two evaluations a step and one in the last (as Karras et al. 2022, algorithm 1).

    The predictor is the turn of DDIM; the corrector adds half of what v at the other end differs from the turned v, so
    that a step with u0 and ε constant stays exact. Adds no noise.
    """
    for step in _steps(times):
        v = denoise(u, step.leave)
        turned, turned_v = step.turn_cos * u - step.turn_sin * v, step.turn_cos * v + step.turn_sin * u
        if step.next_sigma > 0:
            angle = math.atan2(step.turn_sin, step.turn_cos)
            turned = turned - 0.5 * angle * (denoise(turned, step.reach) - turned_v)
        u = turned
        _report(on_step, step)
    return u


def sample_sde(
    denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: Callable[[int], None] | None = None
) -> Array:
    """Reverse SDE, second-order exponential integrator, one evaluation a step (SDE-DPM-Solver++ 2M, Lu et al. 2022b).

    The linear part and the noise are integrated exactly in λ = log(α/σ); u0 is extrapolated from the step before over
    half the step, except next to an infinite λ: in the first two steps and the last.
    """
    before: tuple[Array, float] | None = None
    for step in _steps(times):
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


def _split(u: Array, v: Array, step: Step) -> tuple[Array, Array]:
    """The estimates of u0 and ε in u_t = α·u0 + σ·ε."""
    return step.alpha * u - step.sigma * v, step.sigma * u + step.alpha * v


def _renewed(step: Step) -> float:
    """The share of the noise's variance that a stochastic step draws anew, 1 − e^(−2h) with h the step in λ."""
    return 1 - (step.alpha * step.next_sigma / (step.sigma * step.next_alpha)) ** 2


def _stir(u: Array, step: Step, share: float, noise: Noise) -> Array:
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
