"""The 64 Gaussian scales, the quantiser's cells, and the frequency tables made from both.

A symbol s is coded with the probability of its cell, [s − ½, s + ½] apart from the quantiser's dead zone, under
N(0, σ²), where σ is one of 64 values in geometric progression. The tables hold integers. They are made once, when a
model is exported, and stored with it: a CDF computed in floats may differ between two machines, and then files would
not decode.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.quality import STEP_CONSTANT
from ldcodec.errors import ModelError

SCALE_COUNT = 64
SCALE_MIN, SCALE_MAX = 0.11, 256.0
LOG_RATIO = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
SCALES = tuple(SCALE_MIN * math.exp(LOG_RATIO * i) for i in range(SCALE_COUNT))
PRECISION = 24  # bits: the counts of one table sum to 2²⁴
TABLE_REACH = 5.5  # a table covers |s| up to this many σ; larger symbols are escaped
SKIPPED_SCALES = 2  # elements with a scale index below this are zero and not coded: there 1 − P(0) < 2⁻¹² (tested)
SYMBOL_LIMIT = 32767  # largest |s| in any file: the CRC is taken over 16-bit symbols
MEAN_LIMIT = 16  # largest |prediction| of a symbol of the hyper-latent; its difference from that is what is coded
HYPER_LIMIT = SYMBOL_LIMIT - MEAN_LIMIT  # largest |s| that an encoder gives to the hyper-latent
SHIFT_STRENGTH = 2.2  # thirds of the shift that minimises a symbol's own cost; measured in docs/experiments.md
SCALE_SPREAD = 0.2  # deviation of log σ in the tables (`spread_scales`), measured in docs/experiments.md
SHIFT_REACH = 16  # from this |s| on, cells are those of rounding
SHIFT_GRID = 1024  # edges are multiples of 1/1024, so that every machine computes the same ones
LARGEST_SHIFT = 0.498


@dataclass(frozen=True)
class Tables:
    """Symmetric frequency tables: the counts of 0, 1 … K and of the escape symbol. −s has the count of s.

    counts: int64, all tables concatenated; reach: int64, the K of each table. Both are stored with the weights.
    Raises ModelError unless the coder can use every table.
    """

    counts: NDArray[np.int64]
    reach: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.reach.ndim != 1 or self.reach.min(initial=1) < 1 or self.reach.max(initial=1) > SYMBOL_LIMIT:
            raise ModelError("frequency tables: wrong number or reach")
        if self.counts.shape != (int((self.reach + 2).sum()),) or self.counts.min(initial=1) < 1:
            raise ModelError("frequency tables: wrong length, or a symbol without probability")
        if any(int(self.full(i).sum()) != 1 << PRECISION for i in range(len(self.reach))):
            raise ModelError(f"frequency tables: counts do not sum to 2^{PRECISION}")

    def half(self, index: int) -> NDArray[np.int64]:
        """The counts of 0 … K and of the escape symbol, as stored."""
        start = int((self.reach[:index] + 2).sum())
        return self.counts[start : start + int(self.reach[index]) + 2]

    def full(self, index: int) -> NDArray[np.int64]:
        """The counts of −K … K and of the escape symbol: 2K + 2 entries that sum to 2²⁴."""
        half = self.half(index)
        return np.concatenate([half[-2:0:-1], half])


def cell_edges(
    magnitude: NDArray[np.int64], index: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges of the cells of |s| ≥ 0 under scale indices 0..63, both of one shape: inner ≤ |value| < outer."""
    inner = np.maximum(magnitude - 0.5 + _shift(magnitude, index), 0)
    return inner, magnitude + 0.5 + _shift(magnitude + 1, index)


def _shift(magnitude: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    shifts: NDArray[np.float64] = edge_shifts()[index, np.minimum(magnitude, SHIFT_REACH)].astype(np.float64)
    return shifts


@lru_cache
def edge_shifts() -> NDArray[np.float32]:
    """How far the inner edge of |s| = 0 … 16 is moved outwards from |s| − ½, by scale: [64, 17], in 0 … 0.498.

    This is the quantiser's dead zone; `nets.quantise` derives it.
    """
    return np.array([[_shift_of(k, scale) for k in range(SHIFT_REACH + 1)] for scale in SCALES], np.float32)


def _shift_of(magnitude: int, scale: float) -> float:
    if magnitude in (0, SHIFT_REACH):
        return 0.0
    saved = _rounded_bits(magnitude, scale) - _rounded_bits(magnitude - 1, scale)
    return math.floor(min(LARGEST_SHIFT, SHIFT_STRENGTH * saved / (2 * STEP_CONSTANT)) * SHIFT_GRID) / SHIFT_GRID


def _rounded_bits(magnitude: int, scale: float) -> float:
    """−log2 of the mass of N(0, scale²) on [magnitude − ½, magnitude + ½]; at most 30, about what an escape costs."""
    low, high = (math.erfc((magnitude + side) / scale / math.sqrt(2)) for side in (-0.5, 0.5))
    return -math.log2(max(0.5 * (low - high), 2.0**-30))


def make_tables(shifts: NDArray[np.float32] | None = None, spread: float = 0.0) -> Tables:
    """Make the frequency tables of the 64 scales. Run this at export only: the result depends on the machine's erfc.

    shifts: [64, n], the dead zone of the quantiser as in `edge_shifts`; None for plain rounding.
    spread: the deviation of log σ, see `spread_scales`.
    """
    moved = np.zeros((SCALE_COUNT, 1), np.float32) if shifts is None else shifts
    halves = [_half_table(scale, row, spread) for scale, row in zip(SCALES, moved.tolist(), strict=True)]
    return Tables(np.concatenate(halves), np.array([len(h) - 2 for h in halves]))


def spread_scales(spread: float) -> tuple[tuple[float, float], ...]:
    """The mixture that replaces a Gaussian whose σ is uncertain: (share, factor of σ) of each component.

    spread: deviation of log σ. The components are the three nodes of the Gauss–Hermite rule. The network that predicts
    a scale is never sure of it, and symbols farther out than expected cost most.
    """
    if not spread:
        return ((1.0, 1.0),)
    factor = math.exp(math.sqrt(3) * spread)
    return (1 / 6, 1 / factor), (2 / 3, 1.0), (1 / 6, factor)


def _half_table(scale: float, shifts: list[float], spread: float) -> NDArray[np.int64]:
    reach = max(1, math.ceil(TABLE_REACH * scale))
    edges = [k - 0.5 + (shifts[k] if k < len(shifts) else 0.0) for k in range(1, reach + 2)]
    mixed = [(share, factor * scale * math.sqrt(2)) for share, factor in spread_scales(spread)]
    tails = [sum(0.5 * share * math.erfc(edge / width) for share, width in mixed) for edge in edges]  # P(s ≥ k)
    free = (1 << PRECISION) - 2 * reach - 2  # every entry gets a count of 1, so that no symbol is impossible
    outer = [1 + int(free * (a - b)) for a, b in itertools.pairwise(tails)]
    escape = 1 + int(free * 2 * tails[-1])
    return np.array([(1 << PRECISION) - escape - 2 * sum(outer), *outer, escape])  # zero takes what rounding left
