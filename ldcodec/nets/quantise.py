"""Which symbol stands for a value: rounding, but towards zero where the bits saved are worth the error.

A value between two symbols may take the inner one if that costs less in all, bits + λ·error². In the unit of the step
λ·error² is 26/3·Δ² (see `quality`; the error is a mean over three colours), so by its own cost the inner edge of the
cell of |s| = k would move outwards from k − ½ by (bits(k) − bits(k − 1))·3/52. This is the rate-distortion optimised
quantisation of the block codecs (Sullivan and Wiegand 1998, section on quantisation), in closed form. It moves by
`cells.STRENGTH` thirds of that, which measured best: neighbours are predicted from what is left of a latent. The tables
that a model stores are those of these cells. Only encoders choose; but a decoder that knows the edges knows the
posterior better (`cells`). What it saves, and how much of that by the decoder's knowledge, is in docs/architecture.md.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ldcodec.entropy.cells import REACH, SPREAD, shifts
from ldcodec.entropy.tables import spread_scales
from ldcodec.nets.gaussian import lower_bound, nearest_scale


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
    return Cell(inner_edge(magnitude, index).clamp_(min=0), inner_edge(magnitude + 1, index))


def inner_edge(magnitude: Tensor, index: Tensor) -> Tensor:
    """From which |value| on a symbol is at least |s| ≥ 1, under scale indices 0..63, of one shape."""
    return magnitude - 0.5 + _shift(magnitude, index)


def cell_information(symbols: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the mass of N(0, scale²), or rather of what `cells.SPREAD` makes of it, on the cell of each symbol,
    elementwise, in bits, at most 30: what the tables charge. symbols: whole numbers, float32, of the shape of scale,
    whose entries are of the 64.
    """
    cell = cells(symbols, scale)
    mass = torch.zeros_like(scale)
    for share, factor in spread_scales(SPREAD):
        width = scale * (factor * math.sqrt(2))
        outer = torch.erfc(cell.outer / width)
        mass += share * torch.where(symbols == 0, 1 - outer, 0.5 * (torch.erfc(cell.inner / width) - outer))
    return -torch.log2(lower_bound(mass, 1e-9))


def _shift(magnitude: Tensor, index: Tensor) -> Tensor:
    """How far the inner edge of a symbol lies beyond that of rounding."""
    table = _shifts().to(magnitude.device)
    return table[(index.long() * (REACH + 1)).add_(magnitude.long().clamp_(max=REACH))]


@lru_cache
def _shifts() -> Tensor:
    """The table of `cells.shifts`, flattened: [64·17] float32."""
    return torch.from_numpy(shifts()).flatten()
