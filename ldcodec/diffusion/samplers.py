"""The reverse process, from noise at time 1 to a latent at time 0: a schedule and four samplers of one signature.

The schedule is the variance-preserving cosine one (Nichol and Dhariwal 2021), written by the angle φ = time·π/2:
u_t = α·u0 + σ·ε with α = cos φ and σ = sin φ. Samplers know no network: `denoise(u, time)` gives v = α·ε − σ·u0
(Salimans and Ho 2022, appendix D), from which u0 = α·u − σ·v and ε = σ·u + α·v. In the angle the probability flow is
du/dφ = v, and with u0 and ε held it is a rotation: nothing is divided by α, so the start, where α = 0, needs no special
care. A single step gives u0 = −v(u, 1) with each sampler. Arrays may be NumPy's or PyTorch's: only +, − and × by
numbers touch them.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ldcodec.diffusion.posterior import Array
from ldcodec.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Denoise = Callable[[Array, float], Array]
Noise = Callable[[int], Array]
Times = Sequence[float]

MAX_STEPS = 1000


def alpha_sigma(t: "Tensor") -> "tuple[Tensor, Tensor]":
    """α = cos φ and σ = sin φ at times t in 0..1, of t's shape and type; exactly (1, 0) at 0 and (0, 1) at 1."""
    return ((1 - t) * (math.pi / 2)).sin(), (t * (math.pi / 2)).sin()


def alpha_sigma_at(time: float) -> tuple[float, float]:
    """α and σ at one time in 0..1."""
    return math.sin((1 - time) * (math.pi / 2)), math.sin(time * (math.pi / 2))


def times(steps: int) -> list[float]:
    """The times between which a sampler steps: steps + 1 of them, evenly spaced from 1 down to 0.

    Raises UsageError where steps is not in 1..1000.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"the number of diffusion steps must be from 1 to {MAX_STEPS}, not {steps}")
    return [1 - step / steps for step in range(steps + 1)]


class Sampler(Protocol):
    """A reverse process.

    denoise: (u, time) → v, the shape of u. u: the start, noise of index 0 scaled by the realism.
    times: [n + 1] falling from 1 to 0, as `times` gives them. noise: the noise, scaled likewise, that is added
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
    """DDIM (Song, Meng and Ermon 2021, equation 12 with σ = 0): a rotation by the angle; adds no noise."""
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

    The predictor is DDIM's rotation; the corrector adds half the difference between v at the other end and the rotated
    v, so that a step with constant u0 and ε stays exact. Adds no noise.
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
    """Evaluations of the network that a sampler needs for a number of steps."""
    return 2 * steps - 1 if sampler == "heun" else steps


def _split(u: Array, v: Array, step: Step) -> tuple[Array, Array]:
    """The estimates of u0 and ε in u_t = α·u0 + σ·ε."""
    return step.alpha * u - step.sigma * v, step.sigma * u + step.alpha * v


def _renewed(step: Step) -> float:
    """The share of the noise's variance that a stochastic step draws anew: 1 − e^(−2h), h being the step in λ."""
    return 1 - (step.alpha * step.next_sigma / (step.sigma * step.next_alpha)) ** 2


def _stir(u: Array, step: Step, share: float, noise: Noise) -> Array:
    """Add the new noise of a step; the last step, which reaches σ = 0, has none."""
    return u + step.next_sigma * math.sqrt(share) * noise(step.number) if step.next_sigma > 0 else u


def _log_snr(alpha: float, sigma: float) -> float:
    """λ = log(α/σ), infinite at both ends."""
    if alpha == 0 or sigma == 0:
        return math.copysign(math.inf, alpha - sigma)
    return math.log(alpha / sigma)


def _report(on_step: Callable[[int], None] | None, step: Step) -> None:
    if on_step is not None:
        on_step(step.number)
