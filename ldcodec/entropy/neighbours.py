"""A rate model of the hyper-latent: a small network predicts every symbol from its neighbours.

The symbols of one position are coded in four groups of channels. The network sees all channels to the left and above,
and at the position itself the groups that are known by then, and gives each symbol a mean and a scale. Coded is the
difference to the nearest whole number, with the table for the rest of the mean and the scale: those of a logistic
distribution. Everything is integer arithmetic (docs/parsing.md), so that no machine chooses another table.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.hyperprior import ENTRIES, CodeSymbols, Symbols, diagonals
from ldcodec.entropy.integer import KNOTS, LIMIT, at_quality
from ldcodec.entropy.tables import MEAN_LIMIT, PRECISION, SCALE_COUNT
from ldcodec.errors import ModelError

GROUPS = 4  # of channels at a position; channel c of n belongs to group ⌊4c / n⌋
CLIP = 8  # of the symbols that the network sees
FRACTION_BITS = 3  # of a mean
FRACTIONS = 1 << FRACTION_BITS
WIDTHS = 24  # scales that have tables
WEIGHT_LIMIT = 1 << 15
MOST_HIDDEN = 1 << 12

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class NeighbourPrior:
    """The network and its tables. Raises ModelError for shapes that do not fit and for numbers that are not exact.

    counts: [192, 32], of −15 … 15 and of the escape symbol, by rest of the mean and scale. near: weights [hidden,
    4·hyper] of the symbols to the left and above, and of their magnitudes. here: weights [hidden, 2·hyper] of the
    position's own symbols and magnitudes. quality: what the quality adds to the hidden units, [65, hidden]. weight
    [2·hyper, hidden], bias [2·hyper] and shift give means in eighths and then scales. floor: the least scale of each
    channel, uint8 [hyper], which bounds what a position can cost from below.
    """

    counts: Numbers
    near: Numbers
    here: Numbers
    quality: Numbers
    weight: Numbers
    bias: Numbers
    shift: int
    floor: NDArray[np.uint8]

    def __post_init__(self) -> None:
        n, hidden = len(self.floor), self.quality.size // KNOTS
        shapes = {
            "counts": (FRACTIONS * WIDTHS, ENTRIES),
            "near": (hidden, 4 * n),
            "here": (hidden, 2 * n),
            "quality": (KNOTS, hidden),
            "weight": (2 * n, hidden),
            "bias": (2 * n,),
            "floor": (n,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape or not 0 < hidden <= MOST_HIDDEN:
                raise ModelError(f"neighbours.{name} has the wrong shape")
        if self.counts.min() < 1 or (self.counts.sum(1) != 1 << PRECISION).any() or self.floor.max() >= WIDTHS:
            raise ModelError("neighbours: impossible tables")
        # So float64 is exact: biases have 32 bits, and no sum of the first layer reaches 2³⁴, none of the second 2⁴⁷.
        weights = max(int(np.abs(array).max()) for array in (self.near, self.here, self.weight))
        if weights > WEIGHT_LIMIT or not 0 <= self.shift <= 30:
            raise ModelError("neighbours: weights beyond 16 bits, or an impossible shift")

    def fill(self, size: tuple[int, int], quality: int, code: CodeSymbols) -> Symbols:
        """Code the symbols [hyper, *size] at a quality index in bitstream order, and return them.

        `code` is that of `HyperPrior.fill`.
        """
        n, numbers = len(self.floor), np.arange(len(self.floor))
        near, here, weight = (array.astype(np.float64) for array in (self.near, self.here, self.weight))
        at_this = at_quality(self.quality, quality)[:, None]
        padded = np.zeros((n, size[0] + 1, size[1] + 1), np.int32)  # a zero row above and column to the left
        for row, column in diagonals(*size):
            around = np.concatenate([padded[:, row + 1, column], padded[:, row, column + 1]])
            hidden = near @ _seen(around) + at_this
            for group in groups_of(n):
                both = np.concatenate([numbers[group], n + numbers[group]])  # rows of means and scales
                mean, table = self._predicted(weight[both] @ _activated(hidden), both)
                places = (numbers[group][:, None] * size[0] + row) * size[1] + column
                symbols = code(table.ravel(), mean.ravel(), places.ravel()).reshape(places.shape)
                padded[group, row + 1, column + 1] = symbols
                hidden += here[:, both] @ _seen(symbols)
        return np.ascontiguousarray(padded[:, 1:, 1:])

    def _predicted(self, sums: NDArray[np.float64], rows: NDArray[np.intp]) -> tuple[Symbols, NDArray[np.uint8]]:
        """The means rounded to whole numbers and the table indices of a group, from the sums of its outputs."""
        levels = (sums.astype(np.int64) + self.bias[rows][:, None]) >> self.shift
        mean, scale = np.split(levels, 2)
        mean = np.clip(mean, -MEAN_LIMIT * FRACTIONS, MEAN_LIMIT * FRACTIONS)
        whole = (mean + FRACTIONS // 2) >> FRACTION_BITS
        rest = mean + FRACTIONS // 2 - whole * FRACTIONS
        scale = np.clip(scale, self.floor[rows[: len(mean)]][:, None], WIDTHS - 1)
        return whole.astype(np.int32), (SCALE_COUNT + WIDTHS * rest + scale).astype(np.uint8)

    def least(self, bits: NDArray[np.float64]) -> float:
        """The fewest bits that one position can take, all channels, given those of each table's likeliest symbol."""
        own = bits[SCALE_COUNT : SCALE_COUNT + len(self.counts)].reshape(FRACTIONS, WIDTHS).min(0)
        return float(sum(own[floor:].min() for floor in self.floor.tolist()))


def groups_of(channels: int) -> list[slice]:
    """The channels of each group that has any."""
    edges = [-(-k * channels // GROUPS) for k in range(GROUPS + 1)]
    return [slice(low, high) for low, high in itertools.pairwise(edges) if high > low]


def _seen(symbols: Symbols) -> NDArray[np.float64]:
    """What the network sees of symbols [m, n]: clipped, and then their magnitudes, [2m, n]."""
    clipped = np.clip(symbols, -CLIP, CLIP)
    return np.concatenate([clipped, np.abs(clipped)]).astype(np.float64)


def _activated(hidden: NDArray[np.float64]) -> NDArray[np.float64]:
    """LeakyReLU with slope 1/8, rounded down, then clamped."""
    return np.clip(np.maximum(hidden, np.floor(hidden / 8)), -LIMIT, LIMIT)
