"""Gaussian scales and their frequency tables, without torch.

A symbol s is coded with the mass of its cell, [s − ½, s + ½] but for what the quantiser moves, under N(0, σ²), σ being
one of 64 values in geometric progression. The tables are integers, made once when a model is exported and stored with
it: a float CDF that is computed anew may differ between two machines, and then no file decodes.
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
TABLE_REACH = 5.5  # a table covers |s| up to this many σ, the escape symbol the rest
SKIPPED_SCALES = 2  # scale indices below this are never coded: there 1 − P(0) < 2⁻¹² where values are rounded (tested)
SYMBOL_LIMIT = 32767  # |s| in any file
SHIFT_STRENGTH = 2.2  # thirds of the shift by which a symbol's own cost would be least (see nets.quantise)
SCALE_SPREAD = 0.2  # of log σ in the tables (`spread_scales`): saves most of what counted tables would
SHIFT_REACH = 16  # from this |s| on, edges are those of rounding
SHIFT_GRID = 1024
LARGEST_SHIFT = 0.498


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


def cell_edges(
    magnitude: NDArray[np.int64], index: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inner and outer edge of the cells of |s| ≥ 0 under scale indices 0..63, of one shape: inner ≤ |value| < outer."""
    inner = np.maximum(magnitude - 0.5 + _shift(magnitude, index), 0)
    return inner, magnitude + 0.5 + _shift(magnitude + 1, index)


def _shift(magnitude: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = edge_shifts()[index, np.minimum(magnitude, SHIFT_REACH)].astype(np.float64)
    return found


@lru_cache
def edge_shifts() -> NDArray[np.float32]:
    """How far the inner edge of |s| = 0 … 16 lies beyond that of rounding, under each scale: [64, 17], multiples of
    1/1024 in 0 … 0.498.
    """
    return np.array([[_shift_of(k, scale) for k in range(SHIFT_REACH + 1)] for scale in SCALES], np.float32)


def _shift_of(magnitude: int, scale: float) -> float:
    if magnitude in (0, SHIFT_REACH):
        return 0.0
    saved = _rounded_bits(magnitude, scale) - _rounded_bits(magnitude - 1, scale)
    return math.floor(min(LARGEST_SHIFT, SHIFT_STRENGTH * saved / (2 * STEP_CONSTANT)) * SHIFT_GRID) / SHIFT_GRID


def _rounded_bits(magnitude: int, scale: float) -> float:
    """−log2 of the mass of N(0, scale²) on [magnitude − ½, magnitude + ½]; at most 30, as escapes cost about that."""
    low, high = (math.erfc((magnitude + side) / scale / math.sqrt(2)) for side in (-0.5, 0.5))
    return -math.log2(max(0.5 * (low - high), 2.0**-30))


def make_tables(shifts: NDArray[np.float32] | None = None, spread: float = 0.0) -> Tables:
    """The frequency tables of the 64 scales. Run at export only: the result depends on this machine's erfc.

    shifts: how far the inner edge of |s| = 0 … lies beyond that of rounding under each scale, [64, n] in 0..½, of a
    quantiser that does not round (`edge_shifts`); None for one that does. spread: as `spread_scales` takes it.
    """
    moved = np.zeros((SCALE_COUNT, 1), np.float32) if shifts is None else shifts
    halves = [_half_table(scale, row, spread) for scale, row in zip(SCALES, moved.tolist(), strict=True)]
    return Tables(np.concatenate(halves), np.array([len(h) - 2 for h in halves]))


def spread_scales(spread: float) -> tuple[tuple[float, float], ...]:
    """(share, factor of σ) of the Gaussians that stand for one whose σ is itself uncertain.

    spread: deviation of log σ; three nodes of the Gauss–Hermite rule. A network that names a scale cannot be sure of
    it, and symbols farther out than its Gaussian expects are what surprises cost most.
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
    free = (1 << PRECISION) - 2 * reach - 2
    outer = [1 + int(free * (a - b)) for a, b in itertools.pairwise(tails)]
    escape = 1 + int(free * 2 * tails[-1])
    return np.array([(1 << PRECISION) - escape - 2 * sum(outer), *outer, escape])
