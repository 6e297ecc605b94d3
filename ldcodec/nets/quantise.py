"""Quantisation with a dead zone, and the bits and moments of symbols under the 64 Gaussian scales, in PyTorch.

A value between two symbols takes the inner one if that has the smaller cost bits + λ·error². With the error Δ in
quantisation steps, λ·error² is 26/3·Δ² bits (see bitstream.quality; the error is a mean over three colours). So the
cost of a symbol alone moves the inner edge of the cell of |s| = k outwards from k − ½ by (bits(k) − bits(k − 1))·3/52.
This is the rate-distortion optimised quantisation of block codecs (Sullivan and Wiegand 1998, section on quantisation)
in closed form. The edge is moved by `SHIFT_STRENGTH` thirds of that, which measured best: other elements are predicted
from what remains of a latent.

The frequency tables of a model are made for these cells. Only encoders choose symbols, but the posterior of a decoder
is sharper if it knows the cells.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ldcodec.diffusion.posterior import moment_table
from ldcodec.entropy.tables import LOG_RATIO, SCALE_COUNT, SCALE_MIN, SCALE_SPREAD, edge_shifts, spread_scales


class LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient can lift x from below the bound, where a plain clamp would leave a channel dead."""

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
    return LowerBound.apply(x, bound)  # type: ignore[no-any-return, no-untyped-call]


def information(symbol: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the mass of N(0, scale²) on [symbol − ½, symbol + ½], elementwise, in bits; at most 30."""
    magnitude = symbol.abs()  # in the upper tail, where erfc does not cancel
    upper = torch.erfc((magnitude - 0.5) / (scale * math.sqrt(2)))
    lower = torch.erfc((magnitude + 0.5) / (scale * math.sqrt(2)))
    return -torch.log2(lower_bound(0.5 * (upper - lower), 1e-9))


def nearest_scale(log_scale: Tensor) -> Tensor:
    """The index, 0..63, of the scale nearest to exp(log_scale) in the logarithm, elementwise; a float tensor."""
    return torch.clamp(torch.round((log_scale - math.log(SCALE_MIN)) / LOG_RATIO), 0, SCALE_COUNT - 1)


def scale_of(index: Tensor) -> Tensor:
    """σ of scale indices 0..63, elementwise, float32."""
    return torch.exp(index.float() * LOG_RATIO + math.log(SCALE_MIN))


class Cell(NamedTuple):
    """The interval of |value| that becomes a symbol: inner ≤ |value| < outer; inner is 0 for the symbol 0."""

    inner: Tensor
    outer: Tensor


def quantise(values: Tensor, index: Tensor) -> Tensor:
    """Quantise values in steps, measured from the mean, under scale indices 0..63: whole numbers in float32."""
    nearest = torch.round(values)
    magnitude = nearest.abs()
    return nearest - nearest.sign() * (values.abs() < magnitude - 0.5 + _shift(magnitude, index))


def cells(symbols: Tensor, scale: Tensor) -> Cell:
    """The cell of each symbol under its scale σ, one of the 64; all of one shape, float32."""
    magnitude, index = symbols.abs(), nearest_scale(scale.log())
    return Cell(inner_edge(magnitude, index).clamp_(min=0), inner_edge(magnitude + 1, index))


def inner_edge(magnitude: Tensor, index: Tensor) -> Tensor:
    """The smallest |value| that becomes a symbol of magnitude ≥ 1 under scale indices 0..63, elementwise."""
    return magnitude - 0.5 + _shift(magnitude, index)


def cell_information(symbols: Tensor, scale: Tensor) -> Tensor:
    """Bits that the frequency tables charge for each symbol, elementwise; at most 30.

    −log2 of the mass on the symbol's cell under N(0, scale²) with the uncertainty of the tables (`spread_scales`).
    symbols: whole numbers, float32; scale: one of the 64 for each.
    """
    cell = cells(symbols, scale)
    mass = torch.zeros_like(scale)
    for share, factor in spread_scales(SCALE_SPREAD):
        width = scale * (factor * math.sqrt(2))
        outer = torch.erfc(cell.outer / width)
        mass += share * torch.where(symbols == 0, 1 - outer, 0.5 * (torch.erfc(cell.inner / width) - outer))
    return -torch.log2(lower_bound(mass, 1e-9))


def centroid(symbols: Tensor, index: Tensor) -> Tensor:
    """Mean of the values that become each symbol, measured from the Gaussian's mean, under scale indices 0..63."""
    magnitude = symbols.abs()
    return symbols.sign() * (magnitude - _looked_up("inwards", magnitude, index))


def deviation(symbols: Tensor, index: Tensor) -> Tensor:
    """Standard deviation > 0 of the values that become each symbol under scale indices 0..63, float32."""
    return _looked_up("deviation", symbols.abs(), index)


def _shift(magnitude: Tensor, index: Tensor) -> Tensor:
    return _looked_up("shift", magnitude, index)


def _looked_up(name: str, magnitude: Tensor, index: Tensor) -> Tensor:
    """The entries of a table at scale index and magnitude; magnitudes beyond the last column use that column."""
    table = _tables(magnitude.device)[name]
    width = table.shape[1]
    return table.flatten()[(index.long() * width).add_(magnitude.clamp(max=width - 1).long())]


_TABLES: dict[torch.device, dict[str, Tensor]] = {}  # not lru_cache, which torch.compile ignores


def _tables(device: torch.device) -> dict[str, Tensor]:
    """`edge_shifts` [64, 17] and the two rows of `moment_table` [64, FARTHEST + 1] on a device, float32."""
    if device not in _TABLES:
        arrays = dict(zip(("shift", "inwards", "deviation"), (edge_shifts(), *moment_table()), strict=True))
        _TABLES[device] = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return _TABLES[device]
