"""Which frequency table codes each symbol of the hyper-latent.

Neighbouring hyper-latents are alike, and coarser where the quality is low. So the table of a symbol depends on its
channel, on the quality, and on a context: the sum of the same channel's symbols to the left and above. Symbols of one
anti-diagonal have all their contexts on those before it and are coded together.

The tables were counted on training pictures, and alike ones made one. A model without them codes each channel with one
of the 64 tables of the latent, whatever is around it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT
from ldcodec.errors import ModelError

NEAR, FAR = 3, 4  # where a neighbour and the sum of two are cut
CONTEXTS = 2 * FAR + 1
REACH = 15  # counted tables cover |symbol| up to this, the escape symbol the rest
ENTRIES = 2 * REACH + 2
MOST_TABLES = 256 - SCALE_COUNT  # table indices are bytes, and the first 64 are the latent's

Symbols = NDArray[np.int32]
CodeSymbols = Callable[[NDArray[np.uint8], NDArray[np.intp]], Symbols]


@dataclass(frozen=True)
class HyperPrior:
    """The choice of tables. Raises ModelError for numbers that no coder can use.

    counts: int64 [n, 32], those of −15 … 15 and of the escape symbol in tables of the hyper-latent alone, whose indices
    begin at 64; choice: uint8 [bands of quality, hyper, contexts], an index of a table each. A choice with one context
    has none.
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
        """Symbols [hyper, *size] at a quality index, in the order in which they are coded.

        `code` gets the table indices of some symbols and their places in the flat array, and returns the symbols: an
        encoder writes them, a decoder reads them.
        """
        bands, channels, contexts = self.choice.shape
        tables = self.choice[quality * bands // (TOP_INDEX + 1)]
        if contexts == 1:
            indices = np.repeat(tables[:, 0], size[0] * size[1])
            return code(indices, np.arange(len(indices))).reshape(channels, *size)
        known = np.zeros((channels, size[0] + 1, size[1] + 1), np.int32)
        planes = np.arange(channels)[:, None]
        for row, column in _diagonals(*size):
            context = context_of(known[:, row + 1, column], known[:, row, column + 1])
            places = (planes * size[0] + row) * size[1] + column
            found = code(tables[planes, context].ravel(), places.ravel())
            known[:, row + 1, column + 1] = found.reshape(places.shape)
        return np.ascontiguousarray(known[:, 1:, 1:])

    def least(self, bits: NDArray[np.float64]) -> float:
        """Bits that the symbols of one position take at least; bits: what each table's likeliest symbol takes."""
        return float(bits[self.choice].min((0, 2)).sum())


def context_of(left: Symbols, above: Symbols) -> NDArray[np.intp]:
    """The context 0..8 of symbols whose neighbours are these."""
    near = np.clip(left, -NEAR, NEAR) + np.clip(above, -NEAR, NEAR)
    return (np.clip(near, -FAR, FAR) + FAR).astype(np.intp)


def channelwise(index: NDArray[np.uint8]) -> HyperPrior:
    """One of the latent's tables a channel, [hyper], at any quality and in any context."""
    return HyperPrior(np.zeros((0, ENTRIES), np.int64), index[None, :, None])


def _diagonals(rows: int, columns: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows and columns of the positions of each anti-diagonal, from the upper left corner."""
    found = []
    for number in range(rows + columns - 1):
        row = np.arange(max(0, number - columns + 1), min(rows, number + 1))
        found.append((row, number - row))
    return found
