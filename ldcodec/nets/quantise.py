"""Quantisation with a dead zone, and what symbols cost under the 64 Gaussian scales, in tensors.

A value between two symbols may take the inner one if that costs less in all, bits + λ·error². In units of the step,
λ·error² is 26/3·Δ² (see bitstream.quality; the error is a mean over three colours), so by its own cost the inner edge
of the cell of |s| = k would move outwards from k − ½ by (bits(k) − bits(k − 1))·3/52. This is the rate-distortion
optimised quantisation of block codecs (Sullivan and Wiegand 1998, section on quantisation) in closed form. The edge
moves by `SHIFT_STRENGTH` thirds of that, which measured best, since neighbours are predicted from what is left of a
latent. The tables stored with a model are made for these cells. Only encoders choose symbols, but a decoder that knows
the edges knows the posterior better.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ldcodec.diffusion.posterior import moment_table
from ldcodec.entropy.tables import LOG_RATIO, SCALE_COUNT, SCALE_MIN, SCALE_SPREAD, edge_shifts, spread_scales


class LowerBound(torch.autograd.Function):
    """max(x, bound) with a gradient that lifts x from below the bound; a plain clamp would leave a channel dead."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), elementwise, with the gradient of `LowerBound`."""
    return LowerBound.apply(x, bound)  # type: ignore[no-any-return, no-untyped-call]


def information(symbol: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the mass of N(0, scale²) on [symbol − ½, symbol + ½], elementwise, in bits; at most 30."""
    magnitude = symbol.abs()
    upper = torch.erfc((magnitude - 0.5) / (scale * math.sqrt(2)))
    lower = torch.erfc((magnitude + 0.5) / (scale * math.sqrt(2)))
    return -torch.log2(lower_bound(0.5 * (upper - lower), 1e-9))


def nearest_scale(log_scale: Tensor) -> Tensor:
    """The index in 0..63 of the scale nearest to exp(log_scale), elementwise, as floats."""
    return torch.clamp(torch.round((log_scale - math.log(SCALE_MIN)) / LOG_RATIO), 0, SCALE_COUNT - 1)


def scale_of(index: Tensor) -> Tensor:
    """σ of each scale index in 0..63, elementwise, float32."""
    return torch.exp(index.float() * LOG_RATIO + math.log(SCALE_MIN))


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
    """The cell of each symbol under its scale σ (one of the 64); arguments and edges of one shape, float32."""
    magnitude, index = symbols.abs(), nearest_scale(scale.log())
    return Cell(inner_edge(magnitude, index).clamp_(min=0), inner_edge(magnitude + 1, index))


def inner_edge(magnitude: Tensor, index: Tensor) -> Tensor:
    """The least |value| that becomes a symbol of magnitude ≥ 1, under scale indices 0..63, all of one shape."""
    return magnitude - 0.5 + _shift(magnitude, index)


def cell_information(symbols: Tensor, scale: Tensor) -> Tensor:
    """What the tables charge for each symbol, in bits, at most 30: −log2 of the mass on its cell, elementwise.

    The mass is that of N(0, scale²) with its scale spread as in the tables (`spread_scales`). symbols: whole numbers,
    float32; scale: of the same shape, each one of the 64.
    """
    cell = cells(symbols, scale)
    mass = torch.zeros_like(scale)
    for share, factor in spread_scales(SCALE_SPREAD):
        width = scale * (factor * math.sqrt(2))
        outer = torch.erfc(cell.outer / width)
        mass += share * torch.where(symbols == 0, 1 - outer, 0.5 * (torch.erfc(cell.inner / width) - outer))
    return -torch.log2(lower_bound(mass, 1e-9))


def centroid(symbols: Tensor, index: Tensor) -> Tensor:
    """Mean of the values that became a symbol, from the mean of its Gaussian; whole numbers and scale indices 0..63."""
    magnitude = symbols.abs()
    return symbols.sign() * (magnitude - _looked_up("inwards", magnitude, index))


def deviation(symbols: Tensor, index: Tensor) -> Tensor:
    """Standard deviation > 0 of those values, float32."""
    return _looked_up("deviation", symbols.abs(), index)


def _shift(magnitude: Tensor, index: Tensor) -> Tensor:
    """How far the inner edge of a symbol lies beyond that of rounding."""
    return _looked_up("shift", magnitude, index)


def _looked_up(name: str, magnitude: Tensor, index: Tensor) -> Tensor:
    """The entry of a table at scale index and magnitude; what lies beyond the last column takes that."""
    table = _tables(magnitude.device)[name]
    width = table.shape[1]
    return table.flatten()[(index.long() * width).add_(magnitude.clamp(max=width - 1).long())]


_TABLES: dict[torch.device, dict[str, Tensor]] = {}  # torch.compile reads a dictionary but ignores lru_cache


def _tables(device: torch.device) -> dict[str, Tensor]:
    """`cells.shifts` [64, 17] and `posterior.moment_table` [64, FARTHEST + 1] on a device, float32."""
    if device not in _TABLES:
        arrays = dict(zip(("shift", "inwards", "deviation"), (edge_shifts(), *moment_table()), strict=True))
        _TABLES[device] = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return _TABLES[device]
