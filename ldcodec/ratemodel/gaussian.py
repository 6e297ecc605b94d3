"""Gaussian scales and their frequency tables.

A symbol s is coded as the cell [s − ½, s + ½] of N(0, σ²), σ being one of 64 values in geometric progression. The
tables are integers, made once when a model is exported and stored with it: a float CDF that is computed anew may
differ between two machines, and then no file decodes.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec.errors import ModelError

SCALE_COUNT = 64
SCALE_MIN, SCALE_MAX = 0.11, 256.0
LOG_RATIO = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
SCALES = tuple(SCALE_MIN * math.exp(LOG_RATIO * i) for i in range(SCALE_COUNT))
PRECISION = 24  # bits: the counts of one table sum to 2²⁴
TABLE_REACH = 5.5  # a table covers |s| up to this many σ, the escape symbol the rest
SKIP_PROBABILITY = 1 - 2.0**-12  # scales that give zero a higher probability are not coded: zero by definition
SYMBOL_LIMIT = 32767  # |s| in any file


@dataclass(frozen=True)
class Tables:
    """One frequency table a scale: counts of 0, 1 … K and of the escape symbol; negative symbols share the counts of
    the positive ones.

    `counts`: int64, all tables one after the other; `reach`: int64 [64], K of each table. Both are stored with the
    weights.
    """

    counts: NDArray[np.int64]
    reach: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Raises ModelError unless every table is one that the coder can use."""
        if self.reach.shape != (SCALE_COUNT,) or self.reach.min() < 1 or self.reach.max() > SYMBOL_LIMIT:
            raise ModelError("frequency tables: wrong number or reach")
        if self.counts.shape != (int((self.reach + 2).sum()),) or self.counts.min() < 1:
            raise ModelError("frequency tables: wrong length, or a symbol without probability")
        if any(int(self.full(i).sum()) != 1 << PRECISION for i in range(SCALE_COUNT)):
            raise ModelError(f"frequency tables: counts do not sum to 2^{PRECISION}")

    def half(self, index: int) -> NDArray[np.int64]:
        """Counts of 0 … K and of the escape symbol."""
        start = int((self.reach[:index] + 2).sum())
        return self.counts[start : start + int(self.reach[index]) + 2]

    def full(self, index: int) -> NDArray[np.int64]:
        """Counts of −K … K and, last, of the escape symbol: 2K + 2 entries that sum to 2²⁴."""
        half = self.half(index)
        return np.concatenate([half[-2:0:-1], half])

    @property
    def skipped(self) -> int:
        """Scale indices below this one are never coded."""
        zero = [int(self.half(i)[0]) / (1 << PRECISION) for i in range(SCALE_COUNT)]
        return sum(p > SKIP_PROBABILITY for p in zero)


def make_tables() -> Tables:
    """The frequency tables of the 64 scales. Run at export only: the result depends on this machine's erfc."""
    halves = [_half_table(scale) for scale in SCALES]
    return Tables(np.concatenate(halves), np.array([len(h) - 2 for h in halves]))


def _half_table(scale: float) -> NDArray[np.int64]:
    reach = max(1, math.ceil(TABLE_REACH * scale))
    tails = [0.5 * math.erfc((k - 0.5) / scale / math.sqrt(2)) for k in range(1, reach + 2)]  # P(s ≥ k)
    free = (1 << PRECISION) - 2 * reach - 2
    outer = [1 + int(free * (a - b)) for a, b in itertools.pairwise(tails)]
    escape = 1 + int(free * 2 * tails[-1])
    return np.array([(1 << PRECISION) - escape - 2 * sum(outer), *outer, escape])


class LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still lifts x from below the bound; a plain clamp would leave such channels dead."""

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
