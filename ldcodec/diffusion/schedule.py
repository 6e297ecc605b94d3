"""Variance-preserving cosine schedule, written by the angle φ = t·π/2: u_t = cos φ · u + sin φ · ε.

In the angle, v = α·ε − σ·u is the derivative du/dφ, and a step with everything known is a rotation
(Nichol and Dhariwal 2021; Salimans and Ho 2022, appendix D).
"""

import math
from typing import TYPE_CHECKING

from ldcodec.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

MAX_STEPS = 1000


def alpha_sigma(t: "Tensor") -> "tuple[Tensor, Tensor]":
    """α = cos φ and σ = sin φ at times t in 0..1, of t's shape and type; exactly (1, 0) at 0 and (0, 1) at 1."""
    return ((1 - t) * (math.pi / 2)).sin(), (t * (math.pi / 2)).sin()


def alpha_sigma_at(time: float) -> tuple[float, float]:
    """α and σ at one time in 0..1."""
    return math.sin((1 - time) * (math.pi / 2)), math.sin(time * (math.pi / 2))


def times(steps: int) -> list[float]:
    """The times between which a sampler steps, steps + 1 of them, evenly from 1 down to 0.

    Raises UsageError where steps is not in 1..1000.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"the number of diffusion steps must be from 1 to {MAX_STEPS}, not {steps}")
    return [1 - step / steps for step in range(steps + 1)]
