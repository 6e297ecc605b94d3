"""Symbols ⇄ bytes with the range coder of the constriction library (Bamler 2022, arXiv 2201.01741).

The library takes any model and any words, reports neither damage nor truncation, and ends some wrong calls with a
panic. So everything is checked before it is called: tables come from `Tables`, which proves them, symbols are inside
their table, and lengths are given from outside.

Order: symbols are grouped by scale index, lowest first, each group in the order of its elements; then the escaped
values, in the same order, each as Exp-Golomb code (order 0) of |s| − K − 1 and a sign bit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ldcodec.errors import DamagedError
from ldcodec.ratemodel.tables import PRECISION, SCALE_COUNT, SYMBOL_LIMIT, Tables

GOLOMB_LIMIT = SYMBOL_LIMIT.bit_length()  # zero bits that may precede an escaped value


@dataclass(frozen=True)
class Coder:
    """Frequency tables in the coder's own form; one for each model."""

    tables: Tables

    @cached_property
    def models(self) -> list[Any]:
        """One categorical model a scale.

        With perfect=False the library gives each symbol one count and shares the rest in proportion: counts − 1
        returns the very counts, because their sum is then what is left to share (tests/test_rangecoder.py feeds it
        every boundary).
        """
        full = (self.tables.full(i) for i in range(SCALE_COUNT))
        return [constriction.stream.model.Categorical((c - 1).astype(np.float64), perfect=False) for c in full]

    @cached_property
    def bit(self) -> Any:
        """One bit with probability ½."""
        return constriction.stream.model.Uniform(2)

    @cached_property
    def least_bits(self) -> NDArray[np.float64]:
        """[64]: what the likeliest symbol of each scale costs."""
        return np.array([PRECISION - np.log2(self.tables.half(i).max()) for i in range(SCALE_COUNT)])

    def bits(self, symbols: NDArray[np.int32], indices: NDArray[np.uint8]) -> NDArray[np.float64]:
        """−log2 p of each symbol, coded at a scale index in 0..63, both arrays of one shape: what a file spends on it.

        The coder itself adds less than 64 bits a payload.
        """
        reach = self.tables.reach[indices]
        magnitude = np.abs(symbols.astype(np.int64))
        entry = self._starts[indices] + np.minimum(magnitude, reach + 1)
        outside = np.maximum(magnitude - reach, 0)
        escaped = 2 * np.ceil(np.log2(outside + 1))  # the bits of `_golomb`, each coded at ½; none where 0 is outside
        found: NDArray[np.float64] = PRECISION - np.log2(self.tables.counts)[entry] + escaped
        return found

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """[64]: where each scale's counts begin in those of all."""
        return np.concatenate([[0], np.cumsum(self.tables.reach + 2)[:-1]])

    def encoder(self) -> "SymbolEncoder":
        """A new, empty encoder."""
        return SymbolEncoder(self)

    def decoder(self, data: bytes) -> "SymbolDecoder":
        """A decoder of what an encoder returned; raises DamagedError if that cannot be."""
        return SymbolDecoder(self, data)


class SymbolEncoder:
    """Collects symbols, then gives the bytes."""

    def __init__(self, coder: Coder) -> None:
        self._coder, self._encoder = coder, constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: NDArray[np.int32], indices: NDArray[np.uint8]) -> None:
        """symbols: [n] in ±32767; indices: [n], the scale index of each in 0..63. Raises ValueError outside these
        ranges.
        """
        if symbols.size and (int(np.abs(symbols).max()) > SYMBOL_LIMIT or int(indices.max()) >= SCALE_COUNT):
            raise ValueError("symbol or scale index out of range")
        escaped: list[int] = []
        for index, places in _groups(indices):
            reach = int(self._coder.tables.reach[index])
            group = symbols[places]
            outside = np.abs(group) > reach
            entries = np.where(outside, 2 * reach + 1, group + reach).astype(np.int32)
            self._encoder.encode(entries, self._coder.models[index])
            escaped += [int(s) - int(np.sign(s)) * reach for s in group[outside]]
        for value in escaped:
            self._encoder.encode(np.array(_golomb(value), np.int32), self._coder.bit)

    def finish(self) -> bytes:
        """Everything encoded so far: 32-bit words, little-endian."""
        return self._encoder.get_compressed().astype("<u4").tobytes()  # type: ignore[no-any-return]


class SymbolDecoder:
    """Gives symbols back in the order in which they were encoded."""

    def __init__(self, coder: Coder, data: bytes) -> None:
        if len(data) % 4:
            raise DamagedError("the coded symbols are not whole 32-bit words")
        self._coder = coder
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def decode(self, indices: NDArray[np.uint8]) -> NDArray[np.int32]:
        """indices: [n], the scale index of each symbol → symbols [n]; raises DamagedError where no encoder wrote
        this.
        """
        symbols = np.empty(indices.shape, np.int32)
        outside: list[tuple[int, NDArray[np.intp]]] = []
        for index, places in _groups(indices):
            reach = int(self._coder.tables.reach[index])
            group = self._entries(self._coder.models[index], len(places)) - reach
            symbols[places] = group
            outside += [(reach, places[group > reach])] if (group > reach).any() else []
        for reach, places in outside:
            for place in places:
                symbols[place] = self._escaped(reach)
        return symbols

    def finish(self) -> None:
        """Raises DamagedError unless all data was used."""
        if not self._decoder.maybe_exhausted():
            raise DamagedError("there is more coded data than symbols")

    def _entries(self, model: Any, count: int) -> NDArray[np.int32]:
        try:
            return self._decoder.decode(model, count)  # type: ignore[no-any-return]
        except Exception as error:  # the library has no error class of its own
            raise DamagedError("the coded symbols do not fit the rate model") from error

    def _escaped(self, reach: int) -> int:
        zeros = 0
        while not self._entries(self._coder.bit, 1)[0]:
            zeros += 1
            if zeros > GOLOMB_LIMIT:
                raise DamagedError("an escaped symbol is too large")
        value = 1
        for bit in self._entries(self._coder.bit, zeros + 1).tolist():
            value = 2 * value + bit
        magnitude, negative = (value >> 1) + reach, value & 1
        if magnitude > SYMBOL_LIMIT:
            raise DamagedError("an escaped symbol is too large")
        return -magnitude if negative else magnitude


def _groups(indices: NDArray[np.uint8]) -> list[tuple[int, NDArray[np.intp]]]:
    """(scale index, places of its symbols in order) for each index that occurs, lowest first."""
    order = np.argsort(indices, kind="stable")
    counts = np.bincount(indices, minlength=SCALE_COUNT)
    ends = np.cumsum(counts)
    return [(i, order[ends[i] - counts[i] : ends[i]]) for i in range(SCALE_COUNT) if counts[i]]


def _golomb(value: int) -> list[int]:
    """Bits of |value| ≥ 1, Elias gamma (that is Exp-Golomb of |value| − 1), then the sign."""
    bits = [int(b) for b in f"{abs(value):b}"]
    return [0] * (len(bits) - 1) + bits + [int(value < 0)]
