"""Which symbol stands for a value: rounding, but towards zero where the bits saved are worth the error.

A value between two symbols may take the inner one if that costs less in all, bits + λ·error². In the unit of the step
λ·error² is 26·Δ² (see `quality`), so the inner edge of the cell of |s| = k moves outwards from k − ½ by (bits(k) −
bits(k − 1)) / 52. This is the rate-distortion optimised quantisation of the block codecs (Sullivan and Wiegand 1998,
section on quantisation), in closed form. Only encoders choose; but a decoder that knows the edges knows the posterior
better. What it saves, and how much of that by the decoder's knowledge, is in docs/architecture.md.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ldcodec.quality import STEP_CONSTANT
from ldcodec.ratemodel.gaussian import SCALES, nearest_scale

STRENGTH = 1.0  # share of the shift that theory gives; chosen on the validation pictures
REACH = 16  # from this |s| on, edges are those of rounding
GRID = 1024  # edges are multiples of 1/1024, so that every machine makes the same table
LARGEST_SHIFT = 0.498


class Cell(NamedTuple):
    """The magnitudes between which a value lies that became a symbol: inner (0 for the symbol 0) ≤ |value| < outer."""

    inner: Tensor
    outer: Tensor


def quantise(values: Tensor, index: Tensor) -> Tensor:
    """Values in steps, measured from the mean, and scale indices 0..63, of one shape → whole numbers, float32."""
    nearest = torch.round(values)
    magnitude = nearest.abs()
    return nearest - nearest.sign() * (values.abs() < magnitude - 0.5 + _shift(magnitude, index))


def cells(symbols: Tensor, scale: Tensor) -> Cell:
    """The cell of each symbol under its scale σ (one of the 64), of one shape, float32."""
    magnitude, index = symbols.abs(), nearest_scale(scale.log())
    inner = (magnitude - 0.5 + _shift(magnitude, index)).clamp_(min=0)
    return Cell(inner, magnitude + 0.5 + _shift(magnitude + 1, index))


def _shift(magnitude: Tensor, index: Tensor) -> Tensor:
    """How far the inner edge of a symbol lies beyond that of rounding."""
    table = _shifts().to(magnitude.device)
    return table[(index.long() * (REACH + 1)).add_(magnitude.long().clamp_(max=REACH))]


@lru_cache
def _shifts() -> Tensor:
    """For each scale index the shifts of |s| = 0 … 16, flattened: [64·17] float32, multiples of 1/1024 in 0 … 0.498."""
    return torch.tensor([_shift_of(k, scale) for scale in SCALES for k in range(REACH + 1)])


def _shift_of(magnitude: int, scale: float) -> float:
    if magnitude in (0, REACH):
        return 0.0
    saved = _bits(magnitude, scale) - _bits(magnitude - 1, scale)
    return math.floor(min(LARGEST_SHIFT, STRENGTH * saved / (2 * STEP_CONSTANT)) * GRID) / GRID


def _bits(magnitude: int, scale: float) -> float:
    """−log2 of the mass of N(0, scale²) on [magnitude − ½, magnitude + ½]; at most 30, as escapes cost about that."""
    low, high = (math.erfc((magnitude + side) / scale / math.sqrt(2)) for side in (-0.5, 0.5))
    return -math.log2(max(0.5 * (low - high), 2.0**-30))
