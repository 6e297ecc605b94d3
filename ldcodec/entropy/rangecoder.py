"""Symbols ⇄ bytes with the range coder of the constriction library (Bamler 2022, arXiv 2201.01741).

The library takes any model and any words, reports neither damage nor truncation, and ends some wrong calls with a
panic. So everything is checked before it is called: tables come from `Tables`, which proves them, symbols are inside
their table, and lengths are given from outside.

Order: symbols are grouped by table index, lowest first, each group in the order of its elements; then the escaped
values, in the same order, each as Exp-Golomb code (order 0) of |s| − K − 1 and a sign bit.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.hyperprior import REACH, HyperPrior, channelwise
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT, SYMBOL_LIMIT, Tables
from ldcodec.errors import DamagedError

STATE_BITS = 64  # of the coder, which need not be written in full
GOLOMB_LIMIT = SYMBOL_LIMIT.bit_length()  # zero bits that may precede an escaped value


def _no_hyper_prior() -> HyperPrior:
    return channelwise(np.zeros(0, np.uint8))


@dataclass(frozen=True)
class Coder:
    """Frequency tables in the coder's own form; one for each model.

    Table indices below 64 are scale indices of the latent, those from 64 on tables of the hyper-latent alone.
    """

    tables: Tables
    hyper: HyperPrior = field(default_factory=_no_hyper_prior)

    @cached_property
    def models(self) -> list[Any]:
        """One categorical model a table.

        With perfect=False the library gives each symbol one count and shares the rest in proportion: counts − 1
        returns the very counts, because their sum is then what is left to share (tests/test_rangecoder.py feeds it
        every boundary).
        """
        return [
            constriction.stream.model.Categorical((c - 1).astype(np.float64), perfect=False) for c in self._all_counts
        ]

    @cached_property
    def reach(self) -> NDArray[np.int64]:
        """The largest |symbol| in each table."""
        return np.concatenate([self.tables.reach, np.full(len(self.hyper.counts), REACH)])

    @cached_property
    def _all_counts(self) -> list[NDArray[np.int64]]:
        """Those of −K … K and of the escape symbol in each table."""
        return [*(self.tables.full(i) for i in range(SCALE_COUNT)), *self.hyper.counts]

    @cached_property
    def bit(self) -> Any:
        """One bit with probability ½."""
        return constriction.stream.model.Uniform(2)

    @cached_property
    def least_bits(self) -> NDArray[np.float64]:
        """What the likeliest symbol of each table costs."""
        return np.array([PRECISION - np.log2(counts.max()) for counts in self._all_counts])

    def bits(self, symbols: NDArray[np.int32], indices: NDArray[np.uint8]) -> NDArray[np.float64]:
        """−log2 p of each symbol, coded with the table of an index, both arrays of one shape: what a file spends on it.

        The coder itself adds less than 64 bits a payload.
        """
        reach, wide = self.reach[indices], symbols.astype(np.int64)
        outside = np.maximum(np.abs(wide) - reach, 0)
        entry = self._starts[indices] + np.where(outside > 0, 2 * reach + 1, wide + reach)
        escaped = 2 * np.ceil(np.log2(outside + 1))  # the bits of `_golomb`, each coded at ½; none where 0 is outside
        found: NDArray[np.float64] = self._costs[entry] + escaped
        return found

    def hyper_bits(self, symbols: NDArray[np.int32], quality: int) -> NDArray[np.float64]:
        """The same of each symbol of a hyper-latent, [hyper, h/4, w/4], at a quality index."""
        bits = np.zeros(symbols.size)

        def weigh(indices: NDArray[np.uint8], places: NDArray[np.intp]) -> NDArray[np.int32]:
            found = symbols.ravel()[places]
            bits[places] = self.bits(found, indices)
            return found

        self.hyper.fill((symbols.shape[1], symbols.shape[2]), quality, weigh)
        return bits.reshape(symbols.shape)

    @cached_property
    def _costs(self) -> NDArray[np.float64]:
        """Bits of every entry of every table, one after the other."""
        costs: NDArray[np.float64] = PRECISION - np.log2(np.concatenate(self._all_counts))
        return costs

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each table's entries begin in those of all."""
        return np.concatenate([[0], np.cumsum(2 * self.reach + 2)[:-1]])

    def is_too_small(self, payload_bytes: int, hyper_positions: int) -> bool:
        """Whether a payload of so many bytes cannot hold the symbols of so many hyper-latent positions.

        Latent elements may cost nothing, but every symbol of the hyper-latent is coded with one of a few tables, so it
        takes at least the bits of the likeliest symbol of the cheapest of them, whatever wrote the file.
        """
        least = hyper_positions * self.hyper.least(self.least_bits) * (1 - 1e-3)
        return 8 * payload_bytes + STATE_BITS < least

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
        """symbols: [n] in ±32767; indices: [n], of the table of each. Raises ValueError outside these ranges."""
        if symbols.size and (int(np.abs(symbols).max()) > SYMBOL_LIMIT or int(indices.max()) >= len(self._coder.reach)):
            raise ValueError("symbol or table index out of range")
        escaped: list[int] = []
        for index, places in _groups(indices):
            reach = int(self._coder.reach[index])
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
        """indices: [n], of the table of each symbol → symbols [n]; raises DamagedError where no encoder wrote
        this.
        """
        symbols = np.empty(indices.shape, np.int32)
        outside: list[tuple[int, NDArray[np.intp]]] = []
        for index, places in _groups(indices):
            reach = int(self._coder.reach[index])
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
    """(table index, places of its symbols in order) for each index that occurs, lowest first."""
    order = np.argsort(indices, kind="stable")
    counts = np.bincount(indices)
    ends = np.cumsum(counts)
    return [(i, order[ends[i] - counts[i] : ends[i]]) for i in range(len(counts)) if counts[i]]


def _golomb(value: int) -> list[int]:
    """Bits of |value| ≥ 1, Elias gamma (that is Exp-Golomb of |value| − 1), then the sign."""
    bits = [int(b) for b in f"{abs(value):b}"]
    return [0] * (len(bits) - 1) + bits + [int(value < 0)]
