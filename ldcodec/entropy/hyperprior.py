"""The context model of the hyper-latent in older models: which frequency table codes each of its symbols.

Neighbouring symbols are alike, and their spread depends on the quality. So the table is chosen by channel, quality and
a context: the sum of the same channel's symbols to the left and above. The contexts of an anti-diagonal lie on the one
before it, so its symbols are coded together.

The tables were counted on training pictures and clustered (training.counting). A model without them codes each channel
with one of the latent's 64 tables, at any quality and in any context.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT
from ldcodec.errors import ModelError

NEAR, FAR = 3, 4  # clamps of one neighbour and of the sum of both
CONTEXTS = 2 * FAR + 1
REACH = 15  # counted tables cover |symbol| up to this; larger symbols are escaped
ENTRIES = 2 * REACH + 2
MOST_TABLES = 256 - SCALE_COUNT  # a table index is one byte, and the first 64 are the latent's

Symbols = NDArray[np.int32]
CodeSymbols = Callable[[NDArray[np.uint8], Symbols, NDArray[np.intp]], Symbols]


@dataclass(frozen=True)
class HyperPrior:
    """Frequency tables of the hyper-latent, and the choice among them. Raises ModelError for an unusable table.

    counts: int64 [n, 32], the counts of −15 … 15 and of the escape symbol in each table; table indices 0 … 63 mean the
    tables of the latent, 64 … 63 + n these.
    choice: uint8 table indices [bands, hyper, contexts]; the quality range is divided into equal bands, and the last
    dimension is 1 in a model that ignores the context.
    """

    counts: NDArray[np.int64]
    choice: NDArray[np.uint8]

    def __post_init__(self) -> None:
        n = len(self.counts)
        if self.counts.shape != (n, ENTRIES) or n > MOST_TABLES or (n and self.counts.min() < 1):
            raise ModelError("tables of the hyper-latent: wrong number or length, or a symbol without probability")
        if (self.counts.sum(1) != 1 << PRECISION).any():
            raise ModelError(f"tables of the hyper-latent: counts do not sum to 2^{PRECISION}")
        if self.choice.ndim != 3 or self.choice.shape[0] < 1 or self.choice.shape[2] not in (1, CONTEXTS):
            raise ModelError("choice of the hyper-latent's tables: wrong shape")
        if self.choice.size and int(self.choice.max()) >= SCALE_COUNT + n:
            raise ModelError("choice of the hyper-latent's tables: no such table")

    def fill(self, size: tuple[int, int], quality: int, code: CodeSymbols) -> Symbols:
        """Code the symbols [hyper, *size] at a quality index in bitstream order, and return them.

        `code` takes the table indices of a list of symbols, whole numbers that were predicted for them, here zeros, and
        their positions in the flattened array, and returns the symbols: an encoder writes their differences from the
        predictions, a decoder reads these.
        """
        bands, channels, contexts = self.choice.shape
        tables = self.choice[quality * bands // (TOP_INDEX + 1)]
        if contexts == 1:
            indices = np.repeat(tables[:, 0], size[0] * size[1])
            return code(indices, np.zeros(len(indices), np.int32), np.arange(len(indices))).reshape(channels, *size)
        padded = np.zeros((channels, size[0] + 1, size[1] + 1), np.int32)  # a zero row above and column to the left
        planes = np.arange(channels)[:, None]
        for row, column in diagonals(*size):
            context = context_of(padded[:, row + 1, column], padded[:, row, column + 1])
            places = (planes * size[0] + row) * size[1] + column
            symbols = code(tables[planes, context].ravel(), np.zeros(places.size, np.int32), places.ravel())
            padded[:, row + 1, column + 1] = symbols.reshape(places.shape)
        return np.ascontiguousarray(padded[:, 1:, 1:])

    def least(self, bits: NDArray[np.float64]) -> float:
        """The fewest bits that one position can take, all channels, given those of each table's likeliest symbol."""
        return float(bits[self.choice].min((0, 2)).sum())


def context_of(left: Symbols, above: Symbols) -> NDArray[np.intp]:
    """The contexts, 0..8, of symbols with these neighbours."""
    near = np.clip(left, -NEAR, NEAR) + np.clip(above, -NEAR, NEAR)
    return (np.clip(near, -FAR, FAR) + FAR).astype(np.intp)


def channelwise(index: NDArray[np.uint8]) -> HyperPrior:
    """A prior that codes each channel with one of the latent's tables, given by its index: [hyper]."""
    return HyperPrior(np.zeros((0, ENTRIES), np.int64), index[None, :, None])


def diagonals(rows: int, columns: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows and columns of the positions on each anti-diagonal, from the upper left corner."""
    diagonals = []
    for number in range(rows + columns - 1):
        row = np.arange(max(0, number - columns + 1), min(rows, number + 1))
        diagonals.append((row, number - row))
    return diagonals
