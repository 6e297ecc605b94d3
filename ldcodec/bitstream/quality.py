"""The quality index and what follows from it: t, the Lagrange multiplier λ and the nominal quantisation step.

The index, 0 to 4095, is stored in 12 bits; the networks see t = index / 4095. λ(t) weighs the squared error (in 0..255
units) against bits and grows exponentially with t. High-rate theory ties the quantisation step to λ: the error of a
uniform quantiser is step²/12, and each further bit halves the step (Gersho and Gray 1992, section 5.6). For an
orthonormal transform and an error that is averaged over three colours, that gives step² = 18 / (λ·ln 2) = 26 / λ.
"""

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor  # for annotations only: `info` and lossless files must not load torch

Number = TypeVar("Number", float, "Tensor")

TOP_INDEX = 4095  # 12 bits
LOG_MULTIPLIER = math.log(2.4656e-4), math.log(0.32849)  # log λ at t = 0 and t = 1
STEP_CONSTANT = 26.0


def fraction(index: int) -> float:
    """t, in 0..1, of a quality index."""
    return index / TOP_INDEX


def psnr(squared_error: float) -> float:
    """PSNR in dB for a mean squared error in 0..255 units; capped at 148 dB, so that equal pictures stay finite."""
    return 10 * math.log10(255**2 / max(squared_error, 1e-10))


def error_of_psnr(psnr: float) -> float:
    """The mean squared error in 0..255 units that a PSNR in dB stands for."""
    return float(255**2 / 10 ** (psnr / 10))


def nearest_index(t: float) -> int:
    """The quality index nearest to t, which is clamped to 0..1."""
    return min(TOP_INDEX, max(0, round(t * TOP_INDEX)))


def multiplier(t: Number) -> Number:
    """λ(t), elementwise: about 2.5e-4 at t = 0 and 0.33 at t = 1."""
    low, high = LOG_MULTIPLIER
    scaled: Number = math.e ** (low + (high - low) * t)
    return scaled


def base_gain(t: Number) -> Number:
    """The inverse of the nominal quantisation step, √(λ(t)/26), elementwise."""
    gain: Number = (multiplier(t) / STEP_CONSTANT) ** 0.5
    return gain


def to_middle(t: Number) -> Number:
    """What brings a latent from the nominal steps of quality t to those of t = ½, elementwise."""
    factor: Number = (multiplier(0.5) / multiplier(t)) ** 0.5
    return factor
