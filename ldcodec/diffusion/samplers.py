"""The noise schedule and four samplers of the reverse diffusion, from time 1 (noise) to time 0 (latent).

The schedule is the variance-preserving cosine schedule (Nichol and Dhariwal 2021) in terms of the angle φ = time·π/2:
u_t = α·u0 + σ·ε with α = cos φ and σ = sin φ. The network is passed in: `denoise(u, time)` returns v = α·ε − σ·u0
(Salimans and Ho 2022, appendix D), from which u0 = α·u − σ·v and ε = σ·u + α·v. In terms of φ, the probability flow is
du/dφ = v, which is a rotation while u0 and ε are constant. Nothing is divided by α, so the start, where α = 0, needs
no special care. With a single step every sampler returns u0 = −v(u, 1).

Arrays may be NumPy's or PyTorch's: samplers only add, subtract and multiply by numbers.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ldcodec.diffusion import MAX_STEPS, SAMPLER_NAMES
from ldcodec.diffusion.posterior import Array
from ldcodec.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Denoise = Callable[[Array, float], Array]
Noise = Callable[[int], Array]
Times = Sequence[float]
OnStep = Callable[[int], None]


def alpha_sigma(t: "Tensor") -> "tuple[Tensor, Tensor]":
    """α and σ at times t in 0..1, elementwise; exactly (1, 0) at 0 and (0, 1) at 1."""
    # cos φ as the sine of the complement: cos(π/2) is not exactly 0 in floats.
    return ((1 - t) * (math.pi / 2)).sin(), (t * (math.pi / 2)).sin()


def alpha_sigma_at(time: float) -> tuple[float, float]:
    """α and σ at one time in 0..1."""
    return math.sin((1 - time) * (math.pi / 2)), math.sin(time * (math.pi / 2))


def times(steps: int) -> list[float]:
    """The steps + 1 times between which a sampler steps, evenly spaced from 1 down to 0.

    Raises UsageError unless steps is in 1..1000.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"the number of diffusion steps must be from 1 to {MAX_STEPS}, not {steps}")
    return [1 - step / steps for step in range(steps + 1)]


class Sampler(Protocol):
    """A reverse process, which returns u0.

    denoise: (u, time) → v, all arrays of one shape.
    u: the starting point, noise number 0 scaled by the realism.
    times: n + 1 times falling from 1 to 0, see `times`.
    noise: k → the noise, scaled likewise, to be added on reaching times[k], k = 1 … n − 1.
    on_step: called with k = 1 … n after each step.
    """

    def __call__(
        self, denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: OnStep | None = None
    ) -> Array: ...


class Step(NamedTuple):
    """One step: its number from 1, the times it leaves and reaches, α and σ at both, and the rotation between them."""

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


def sample_ddim(denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: OnStep | None = None) -> Array:
    """DDIM (Song, Meng and Ermon 2021, equation 12 with σ = 0): each step is a rotation. Adds no noise."""
    for step in _steps(times):
        u = step.turn_cos * u - step.turn_sin * denoise(u, step.leave)
        _report(on_step, step)
    return u


def sample_ddpm(denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: OnStep | None = None) -> Array:
    """Ancestral sampling with the posterior's variance (Ho, Jain and Abbeel 2020, equations 6 and 7)."""
    for step in _steps(times):
        u0, epsilon = _split(u, denoise(u, step.leave), step)
        share = _fresh_share(step)
        u = step.next_alpha * u0 + step.next_sigma * math.sqrt(1 - share) * epsilon
        u = _with_noise(u, step, share, noise)
        _report(on_step, step)
    return u


def sample_heun(denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: OnStep | None = None) -> Array:
    """Heun's method for the probability flow, as in Karras et al. 2022, algorithm 1. Adds no noise.

    Two evaluations per step, one in the last. The predictor is DDIM's rotation. The corrector adds half the difference
    between v at the end of the step and the rotated v, so that a step with constant u0 and ε stays exact.
    """
    for step in _steps(times):
        v = denoise(u, step.leave)
        turned, turned_v = step.turn_cos * u - step.turn_sin * v, step.turn_cos * v + step.turn_sin * u
        if step.next_sigma > 0:  # at time 0 there is nothing to correct with
            angle = math.atan2(step.turn_sin, step.turn_cos)
            turned = turned - 0.5 * angle * (denoise(turned, step.reach) - turned_v)
        u = turned
        _report(on_step, step)
    return u


def sample_sde(denoise: Denoise, u: Array, times: Times, noise: Noise, on_step: OnStep | None = None) -> Array:
    """Reverse SDE by a second-order exponential integrator (SDE-DPM-Solver++ 2M, Lu et al. 2022b).

    One evaluation per step. The linear part and the noise are integrated exactly in λ = log(α/σ). u0 is extrapolated
    from the previous step to the middle of this one, except next to an infinite λ: in the first two steps and the last.
    """
    before: tuple[Array, float] | None = None
    for step in _steps(times):
        u0, _ = _split(u, denoise(u, step.leave), step)
        length = _log_snr(step.next_alpha, step.next_sigma) - _log_snr(step.alpha, step.sigma)
        target = u0
        if before is not None and math.isfinite(length):
            target = u0 + 0.5 * length / before[1] * (u0 - before[0])
        before = u0, length
        share = _fresh_share(step)
        kept = math.sqrt(1 - share) * step.next_sigma / step.sigma
        u = _with_noise(kept * u + (step.next_alpha - kept * step.alpha) * target, step, share, noise)
        _report(on_step, step)
    return u


_FUNCTIONS: tuple[Sampler, ...] = (sample_ddim, sample_ddpm, sample_heun, sample_sde)
SAMPLERS = dict(zip(SAMPLER_NAMES, _FUNCTIONS, strict=True))


def evaluations(sampler: str, steps: int) -> int:
    """How often a sampler evaluates the network in a number of steps."""
    return 2 * steps - 1 if sampler == "heun" else steps


def _split(u: Array, v: Array, step: Step) -> tuple[Array, Array]:
    """The estimates of u0 and ε."""
    return step.alpha * u - step.sigma * v, step.sigma * u + step.alpha * v


def _fresh_share(step: Step) -> float:
    """The share of the noise's variance that a stochastic step draws afresh: 1 − e^(−2h), h being the step in λ."""
    return 1 - (step.alpha * step.next_sigma / (step.sigma * step.next_alpha)) ** 2


def _with_noise(u: Array, step: Step, share: float, noise: Noise) -> Array:
    """Add the fresh noise of a step; the last step, which reaches σ = 0, has none."""
    return u + step.next_sigma * math.sqrt(share) * noise(step.number) if step.next_sigma > 0 else u


def _log_snr(alpha: float, sigma: float) -> float:
    """λ = log(α/σ), half the log signal-to-noise ratio; infinite at both ends of the schedule."""
    if alpha == 0 or sigma == 0:
        return math.copysign(math.inf, alpha - sigma)
    return math.log(alpha / sigma)


def _report(on_step: OnStep | None, step: Step) -> None:
    if on_step is not None:
        on_step(step.number)
