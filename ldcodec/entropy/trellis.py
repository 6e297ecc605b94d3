"""Trellis-coded quantisation: two quantisers, the state that chooses between them, and their frequency tables.

With a step Δ, quantiser 0 reproduces the even multiples of Δ, and quantiser 1 the odd ones and zero:

    symbol k means 2k·Δ (quantiser 0) or (2k − sgn k)·Δ (quantiser 1)

Which one an element uses depends on the parities of the symbols before it, through a state of 6 bits. An encoder that
compares all paths through the states (encoder.viterbi) gets most of the accuracy of steps of Δ for the bits of steps of
2Δ (Marcellin and Fischer 1990, "Trellis coded quantization"; Fischer and Wang 1992 with entropy coding; Schwarz et al.
2021, "Quantization and entropy coding in the Versatile Video Coding standard", section IV).

The elements of a list are cut into lanes, each of which begins in state 0. The state follows from parities alone, so
the parities are coded first, one position of all lanes after the other, and then the rest of all symbols at once.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.tables import PRECISION, SCALE_COUNT, Tables
from ldcodec.errors import ModelError

STATES = 64
# Ungerboeck's code of 64 states for one dimension (1982, "Channel coding with multilevel/phase signals", table I), as a
# shift register: its parity-check polynomials 103 and 24 (octal) say which bits the quantiser's and the parity flip.
QUANTISER_TAPS, PARITY_TAPS = 0o103 >> 1, 0o24 >> 1
STEP = 282  # Δ in units of 2⁻⁹ quantisation step, which is 0.55; measured in docs/experiments.md
LANE = 512  # most elements in a lane: twice as many gained 0.1 % (docs/experiments.md) for twice the calls
FIRST_SCALE = 7  # smaller scales have the scalar quantiser: nearly all of their symbols are zero
ROWS = SCALE_COUNT - FIRST_SCALE
SCALAR, EVEN, ODD = 0, 1, 2  # how an element is quantised: as a whole number, by quantiser 0 or by quantiser 1
KINDS = 3
LARGEST_MOMENT = 63  # |k| from which on the moments are those of this |k|
MOMENT_BITS = 14  # fractional bits of stored moments
UNIT_BITS = 9  # fractional bits of reconstructed values, as of the means

Ints = NDArray[Any]


def following(state: Ints, parity: Ints) -> Ints:
    """The state 0..63 after a symbol of this parity, elementwise."""
    flipped: Ints = ((state & 1) * QUANTISER_TAPS) ^ (parity * PARITY_TAPS)
    moved: Ints = flipped ^ (state >> 1)
    return moved


def quantiser_of(state: Ints) -> Ints:
    """The quantiser, 0 or 1, that a state 0..63 chooses, elementwise."""
    return state & 1


class Quantised(NamedTuple):
    """Symbols k, int32, and how each is quantised: SCALAR, EVEN or ODD, uint8; both of one shape."""

    symbols: NDArray[np.int32]
    kind: NDArray[np.uint8]


def reconstructed(symbols: NDArray[np.int32], kind: NDArray[np.uint8]) -> NDArray[np.int32]:
    """What symbols mean, in units of 2⁻⁹ quantisation step from the mean. Arguments: as in `Quantised`."""
    doubled = 2 * symbols - (kind == ODD) * np.sign(symbols)
    return np.asarray(np.where(kind == SCALAR, symbols << UNIT_BITS, doubled * STEP), np.int32)


class Lanes:
    """The lanes of a list of elements: runs of equal length, the last of which may be shorter.

    number, length: of the lanes; both are 0 for an empty list.
    """

    def __init__(self, count: int) -> None:
        # No lane is empty: of L lanes the last lacks less than L elements, and up to LANE of them are at least L long,
        # while more than LANE of them are LANE long.
        self.count, self.number = count, -(-count // LANE)
        self.length = -(-count // self.number) if count else 0

    def alive(self, position: int) -> int:
        """How many lanes, from the first on, have an element at a position."""
        return -(-(self.count - position) // self.length)

    def split(self, values: Ints) -> Ints:
        """A list [..., count] by position and lane, [length, ..., number]; what lies beyond the list is 0."""
        padding = self.number * self.length - self.count
        padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])
        rows = padded.reshape(*values.shape[:-1], self.number, self.length)
        return np.ascontiguousarray(np.moveaxis(rows, -1, 0))

    def joined(self, rows: Ints) -> Ints:
        """The inverse of `split` for [length, number]: the list [count]."""
        return rows.T.reshape(-1)[: self.count]

    def order(self) -> NDArray[np.intp]:
        """The places of the list in the order in which their parities are coded: position by position."""
        places = self.split(np.arange(1, self.count + 1)).ravel()
        return places[places > 0] - 1


@dataclass(frozen=True)
class TrellisTables:
    """Frequency tables of the trellis quantisers. Raises ModelError unless the coder can use every one.

    odd: int64 [ROWS, 2], how many of 2²⁴ symbols are odd under scale FIRST_SCALE + row and each quantiser.
    halves: a table for each row, quantiser and parity, in this order, of the symbol (|k| + parity) / 2 with the sign
    of k.
    inwards, deviation: float32 [ROWS, 2, 64], how far the mean of the values that become |k| lies inwards of what |k|
    means, and their deviation, in quantisation steps.
    """

    odd: NDArray[np.int64]
    halves: Tables
    inwards: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.odd.shape != (ROWS, 2) or self.odd.min() < 1 or self.odd.max() >= 1 << PRECISION:
            raise ModelError("tables of the trellis: wrong number, or a parity without probability")
        if len(self.halves.reach) != 4 * ROWS:
            raise ModelError("tables of the trellis: wrong number")
        shape = (ROWS, 2, LARGEST_MOMENT + 1)
        if self.inwards.shape != shape or self.deviation.shape != shape or self.deviation.min() <= 0:
            raise ModelError("moments of the trellis: wrong shape, or a deviation that is not positive")

    def moments(self, magnitude: Ints, index: Ints, kind: Ints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of the values that become ±|k| under scale indices FIRST_SCALE..63, in steps.

        kind: EVEN or ODD; all of one shape. For |k| = 0 the mean is 0.
        """
        place = index - FIRST_SCALE, kind - EVEN, np.minimum(magnitude, LARGEST_MOMENT)
        meaning = reconstructed(magnitude, kind) * np.float32(2.0**-UNIT_BITS)
        return np.where(magnitude, meaning - self.inwards[place], 0), self.deviation[place]


def half_of(symbols: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Parities, and what is left of symbols when these are known: (|k| + parity) / 2 with the sign of k."""
    parity = symbols & 1
    return parity, np.sign(symbols) * ((np.abs(symbols) + parity) >> 1)


def whole_of(parity: NDArray[np.int32], half: NDArray[np.int32]) -> NDArray[np.int32]:
    """The inverse of `half_of`."""
    return 2 * half - parity * np.sign(half)


def table_of(scale: NDArray[np.uint8], quantiser: Ints, parity: Ints) -> NDArray[np.int64]:
    """The number of the table in `TrellisTables.halves` under scale indices FIRST_SCALE..63, elementwise."""
    return ((scale.astype(np.int64) - FIRST_SCALE) * 2 + quantiser) * 2 + parity
