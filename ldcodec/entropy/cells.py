"""Where the cells of the symbols lie, without torch: how far their inner edges are from those of rounding.

See `quantiser` for why they are. Edges are multiples of 1/1024, so that every machine makes the same table.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.quality import STEP_CONSTANT
from ldcodec.entropy.tables import SCALES

STRENGTH = 2.2  # thirds of the shift by which a symbol's own cost would be least (see `quantiser`)
SPREAD = 0.2  # of log σ in the tables (`tables.spread_scales`): saves most of what counted tables would
REACH = 16  # from this |s| on, edges are those of rounding
GRID = 1024
LARGEST_SHIFT = 0.498


def edges(magnitude: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inner and outer edge of the cells of |s| ≥ 0 under scale indices 0..63, of one shape: inner ≤ |value| < outer."""
    inner = np.maximum(magnitude - 0.5 + _shift(magnitude, index), 0)
    return inner, magnitude + 0.5 + _shift(magnitude + 1, index)


def _shift(magnitude: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = shifts()[index, np.minimum(magnitude, REACH)].astype(np.float64)
    return found


@lru_cache
def shifts() -> NDArray[np.float32]:
    """How far the inner edge of |s| = 0 … 16 lies beyond that of rounding, under each scale: [64, 17], multiples of
    1/1024 in 0 … 0.498.
    """
    return np.array([[_shift_of(k, scale) for k in range(REACH + 1)] for scale in SCALES], np.float32)


def _shift_of(magnitude: int, scale: float) -> float:
    if magnitude in (0, REACH):
        return 0.0
    saved = _bits(magnitude, scale) - _bits(magnitude - 1, scale)
    return math.floor(min(LARGEST_SHIFT, STRENGTH * saved / (2 * STEP_CONSTANT)) * GRID) / GRID


def _bits(magnitude: int, scale: float) -> float:
    """−log2 of the mass of N(0, scale²) on [magnitude − ½, magnitude + ½]; at most 30, as escapes cost about that."""
    low, high = (math.erfc((magnitude + side) / scale / math.sqrt(2)) for side in (-0.5, 0.5))
    return -math.log2(max(0.5 * (low - high), 2.0**-30))
