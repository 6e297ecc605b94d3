"""Quality: one number for one model, stored as a 12-bit index.

The index runs from 0 to 4095, t = index / 4095 is what the networks see, and λ(t), the weight of the squared error
(in 0..255 units) against bits, grows exponentially with t. High-rate theory ties the step of the quantiser to λ:
step² = 18 / (λ·ln 2) = 26 / λ for an orthonormal transform (Gersho & Gray 1992, section 5.6: the error of a uniform
quantiser is step²/12, and a bit more halves the step).
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TOP_INDEX = 4095
LOG_MULTIPLIER = math.log(2.4656e-4), math.log(0.32849)  # log λ at t = 0 and t = 1
STEP_CONSTANT = 26.0


def fraction(index: int) -> float:
    """t in 0..1 of an index in 0..4095."""
    return index / TOP_INDEX


def psnr(squared_error: float) -> float:
    """PSNR in dB of a mean squared error in 0..255 units; 148 dB at most, where nothing differs."""
    return 10 * math.log10(255**2 / max(squared_error, 1e-10))


def nearest_index(t: float) -> int:
    """The index in 0..4095 nearest to any number; numbers outside 0..1 give the ends."""
    return min(TOP_INDEX, max(0, round(t * TOP_INDEX)))


def multiplier(t: "Tensor") -> "Tensor":
    """λ(t), elementwise: about 2.5e-4 at t = 0 and 0.33 at t = 1."""
    low, high = LOG_MULTIPLIER
    return (low + (high - low) * t).exp()


def base_gain(t: "Tensor") -> "Tensor":
    """√(λ/26), the inverse of the nominal step, elementwise."""
    return (multiplier(t) / STEP_CONSTANT).sqrt()
