"""Symbols ⇄ bytes with the range coder of the constriction library (Bamler 2022, arXiv 2201.01741).

The library accepts any model and any words, reports neither damage nor truncation, and panics on some invalid calls.
So everything is checked before it is called: `Tables` validates the counts, symbols lie within their table, and the
caller knows how many there are.

Order: the symbols of a list are grouped by table index, lowest first, and keep their order within a group; one call
then codes a whole group. The escaped values follow in the same order, each as the Exp-Golomb code (order 0) of
|s| − K − 1 and a sign bit. Of a list with a trellis, those of small scales come first, then the parities of the others,
and then the rest of these as a list of its own.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.hyperprior import REACH, HyperPrior, channelwise
from ldcodec.entropy.neighbours import NeighbourPrior
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT, SKIPPED_SCALES, SYMBOL_LIMIT, Tables
from ldcodec.entropy.trellis import (
    EVEN,
    FIRST_SCALE,
    SCALAR,
    Lanes,
    Quantised,
    TrellisTables,
    following,
    half_of,
    quantiser_of,
    table_of,
    whole_of,
)
from ldcodec.errors import DamagedError

STATE_BITS = 64  # of the coder; at the end of a payload they need not be written in full
TableIndices = NDArray[np.uint8] | NDArray[np.int64]
GOLOMB_LIMIT = SYMBOL_LIMIT.bit_length()  # most zero bits before an escaped value


def _no_hyper_prior() -> HyperPrior:
    return channelwise(np.zeros(0, np.uint8))


@dataclass(frozen=True, eq=False)  # hashed by identity: what is derived from a model's tables is cached
class Coder:
    """The frequency tables of one model, and encoders and decoders that use them.

    Table indices below 64 are scale indices of the latent; then follow the tables of the hyper-latent, and then those
    of the trellis.
    """

    tables: Tables
    hyper: HyperPrior | NeighbourPrior = field(default_factory=_no_hyper_prior)
    trellis: TrellisTables | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold the tables alone: the library's objects, which are cached, allow neither."""
        return Coder, (self.tables, self.hyper, self.trellis)

    @cached_property
    def models(self) -> list[Any]:
        """One categorical model of the library per table."""
        # With perfect=False the library gives every symbol one count and divides the rest in proportion. Given
        # counts − 1 it arrives at the counts exactly, since their sum is what it has left to divide (every boundary is
        # tested in tests/test_rangecoder.py).
        return [
            constriction.stream.model.Categorical((c - 1).astype(np.float64), perfect=False) for c in self._all_counts
        ]

    @cached_property
    def reach(self) -> NDArray[np.int64]:
        """The largest |symbol| in each table; larger ones are escaped."""
        halves = np.zeros(0, np.int64) if self.trellis is None else self.trellis.halves.reach
        return np.concatenate([self.tables.reach, np.full(len(self.hyper.counts), REACH), halves])

    @cached_property
    def _all_counts(self) -> list[NDArray[np.int64]]:
        """The counts of −K … K and of the escape symbol in each table."""
        halves = (
            [] if self.trellis is None else [self.trellis.halves.full(i) for i in range(len(self.trellis.halves.reach))]
        )
        return [*(self.tables.full(i) for i in range(SCALE_COUNT)), *self.hyper.counts, *halves]

    @property
    def first_half(self) -> int:
        """The index of the first table of the trellis."""
        return SCALE_COUNT + len(self.hyper.counts)

    @cached_property
    def bit(self) -> Any:
        """The library's model of a bit with probability ½."""
        return constriction.stream.model.Uniform(2)

    @cached_property
    def parity(self) -> Any:
        """The library's model of bits with probabilities of their own."""
        return constriction.stream.model.Bernoulli(perfect=False)

    @cached_property
    def odd(self) -> NDArray[np.float64]:
        """The probabilities that make the library give odd symbols their counts of 2²⁴, [ROWS, 2]."""
        # It gives a one 2²⁴ − 1 − ⌊(1 − p)·(2²⁴ − 2)⌋ counts. This p lies in the middle of those that round to the
        # count, so no rounding of the product matters (counts of every size are tested in tests/test_trellis.py).
        odd = np.zeros((0, 2)) if self.trellis is None else self.trellis.odd
        return np.maximum((odd - 1.5) / ((1 << PRECISION) - 2), 0)

    @cached_property
    def least_bits(self) -> NDArray[np.float64]:
        """Bits that the likeliest symbol of each table takes."""
        return np.array([PRECISION - np.log2(counts.max()) for counts in self._all_counts])

    def bits(self, symbols: NDArray[np.int32], indices: TableIndices) -> NDArray[np.float64]:
        """Bits that each symbol takes, −log2 p under the table of its index; all arrays of one shape.

        The coder adds less than 64 bits to a payload.
        """
        reach, wide = self.reach[indices], symbols.astype(np.int64)
        outside = np.maximum(np.abs(wide) - reach, 0)
        entry = self._starts[indices] + np.where(outside > 0, 2 * reach + 1, wide + reach)
        escaped = 2 * np.ceil(np.log2(outside + 1))  # the bits of `_golomb`; none where `outside` is 0
        bits: NDArray[np.float64] = self._costs[entry] + escaped
        return bits

    def hyper_bits(self, symbols: NDArray[np.int32], quality: int) -> NDArray[np.float64]:
        """Bits that each symbol of a hyper-latent [hyper, h/4, w/4] takes at a quality index."""
        bits = np.zeros(symbols.size)

        def weigh(
            indices: NDArray[np.uint8], predicted: NDArray[np.int32], places: NDArray[np.intp]
        ) -> NDArray[np.int32]:
            listed = symbols.ravel()[places]
            bits[places] = self.bits(listed - predicted, indices)
            return listed

        self.hyper.fill((symbols.shape[1], symbols.shape[2]), quality, weigh)
        return bits.reshape(symbols.shape)

    def latent_bits(self, quantised: Quantised, index: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Bits that each symbol of a latent takes, given the scale index of each; all arrays of one shape.

        Elements of scales that are not coded take none.
        """
        bits = np.zeros(index.shape)
        plain = (quantised.kind == SCALAR) & (index >= SKIPPED_SCALES)
        bits[plain] = self.bits(quantised.symbols[plain], index[plain])
        chosen = quantised.kind != SCALAR
        if self.trellis is not None and chosen.any():
            scale, quantiser = index[chosen], quantised.kind[chosen] - EVEN
            parity, half = half_of(quantised.symbols[chosen])
            odd = self.trellis.odd[scale.astype(np.intp) - FIRST_SCALE, quantiser]
            bits[chosen] = PRECISION - np.log2(np.where(parity, odd, (1 << PRECISION) - odd))
            bits[chosen] += self.bits(half, self.first_half + table_of(scale, quantiser, parity))
        return bits

    @cached_property
    def _costs(self) -> NDArray[np.float64]:
        """Bits of every table entry, all tables concatenated."""
        costs: NDArray[np.float64] = PRECISION - np.log2(np.concatenate(self._all_counts))
        return costs

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where the entries of each table begin in `_costs`."""
        return np.concatenate([[0], np.cumsum(2 * self.reach + 2)[:-1]])

    def is_too_small(self, payload_bytes: int, hyper_positions: int) -> bool:
        """Whether a payload is too short for the symbols of that many hyper-latent positions, whoever wrote it.

        Bounds the work that a hostile file can cause. Latent elements may cost nothing, but each symbol of the
        hyper-latent takes at least the bits of the likeliest symbol in the cheapest of its channel's tables.
        """
        least = hyper_positions * self.hyper.least(self.least_bits) * (1 - 1e-3)
        return 8 * payload_bytes + STATE_BITS < least

    def encoder(self) -> "SymbolEncoder":
        return SymbolEncoder(self)

    def decoder(self, data: bytes) -> "SymbolDecoder":
        """A decoder of the bytes of a payload. Raises DamagedError if no encoder can have returned them."""
        return SymbolDecoder(self, data)


class SymbolEncoder:
    """Encodes lists of symbols to the bytes of one payload."""

    def __init__(self, coder: Coder) -> None:
        self._coder, self._encoder = coder, constriction.stream.queue.RangeEncoder()

    def encode_latent(self, quantised: Quantised, index: NDArray[np.uint8]) -> None:
        """Append the symbols of a latent's elements [n], given the scale index of each."""
        plain = (quantised.kind == SCALAR) & (index >= SKIPPED_SCALES)
        self.encode(quantised.symbols[plain], index[plain])
        chosen = quantised.kind != SCALAR
        if chosen.any():
            scale, quantiser = index[chosen], quantised.kind[chosen] - EVEN
            parity, half = half_of(quantised.symbols[chosen])
            odd = self._coder.odd[scale.astype(np.intp) - FIRST_SCALE, quantiser]
            order = Lanes(len(parity)).order()
            self._encoder.encode(parity[order], self._coder.parity, odd[order])
            self.encode(half, self._coder.first_half + table_of(scale, quantiser, parity))

    def encode(self, symbols: NDArray[np.int32], indices: TableIndices) -> None:
        """Append a list of symbols [n] in ±32767, with the table index of each [n]. Raises ValueError out of range."""
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
        """Return the payload: 32-bit words, little-endian."""
        return self._encoder.get_compressed().astype("<u4").tobytes()  # type: ignore[no-any-return]


class SymbolDecoder:
    """Decodes the lists of symbols in a payload, in the order in which they were encoded."""

    def __init__(self, coder: Coder, data: bytes) -> None:
        if len(data) % 4:
            raise DamagedError("the coded symbols are not whole 32-bit words")
        self._coder = coder
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def decode_latent(self, index: NDArray[np.uint8], trellis: bool) -> Quantised:
        """Read the symbols of a latent's elements [n], given the scale index of each. trellis: whether there is one.

        Raises DamagedError for data that no encoder writes.
        """
        symbols, kind = np.zeros(index.shape, np.int32), np.zeros(index.shape, np.uint8)
        plain = (index >= SKIPPED_SCALES) & ((index < FIRST_SCALE) | (not trellis))
        symbols[plain] = self.decode(index[plain])
        if trellis:
            chosen = index >= FIRST_SCALE
            symbols[chosen], kind[chosen] = self._decode_trellis(index[chosen])
        return Quantised(symbols, kind)

    def _decode_trellis(self, scale: NDArray[np.uint8]) -> Quantised:
        lanes = Lanes(len(scale))
        odd = lanes.split(self._coder.odd[scale.astype(np.intp) - FIRST_SCALE].T)
        parities, states = np.zeros((2, lanes.length, lanes.number), np.int32)
        state = np.zeros(lanes.number, np.int32)
        for position in range(lanes.length):
            state = states[position, : lanes.alive(position)] = state[: lanes.alive(position)]
            chances = np.where(quantiser_of(state), odd[position, 1, : len(state)], odd[position, 0, : len(state)])
            parities[position, : len(state)] = found = self._entries(self._coder.parity, chances)
            state = following(state, found)
        parity, quantiser = lanes.joined(parities), quantiser_of(lanes.joined(states))
        half = self.decode(self._coder.first_half + table_of(scale, quantiser, parity))
        if (parity > np.abs(half)).any():  # an odd symbol is never zero
            raise DamagedError("an odd symbol is zero")
        symbols = whole_of(parity, half)
        if np.abs(symbols).max(initial=0) > SYMBOL_LIMIT:
            raise DamagedError("a symbol is too large")
        return Quantised(symbols, (EVEN + quantiser).astype(np.uint8))

    def decode(self, indices: TableIndices) -> NDArray[np.int32]:
        """Read a list of symbols [n], given the table index of each [n].

        Raises DamagedError for data that no encoder writes.
        """
        symbols = np.empty(indices.shape, np.int32)
        escaped: list[tuple[int, NDArray[np.intp]]] = []
        for index, places in _groups(indices):
            reach = int(self._coder.reach[index])
            group = self._entries(self._coder.models[index], len(places)) - reach
            symbols[places] = group
            if (outside := group > reach).any():
                escaped.append((reach, places[outside]))
        for reach, places in escaped:  # they follow the groups in the payload
            for place in places:
                symbols[place] = self._escaped(reach)
        return symbols

    def decode_hyper(self, indices: TableIndices, predicted: NDArray[np.int32]) -> NDArray[np.int32]:
        """Read a list of symbols of the hyper-latent, given what was predicted for them. Raises like `decode`."""
        symbols = predicted + self.decode(indices)
        if np.abs(symbols).max(initial=0) > SYMBOL_LIMIT:
            raise DamagedError("a symbol is too large")
        return symbols

    def finish(self) -> None:
        """Raise DamagedError unless the whole payload was read."""
        if not self._decoder.maybe_exhausted():
            raise DamagedError("there is more coded data than symbols")

    def _entries(self, model: Any, count: int | NDArray[np.float64]) -> NDArray[np.int32]:
        """Decode so many symbols by a model, or one for each of its parameters."""
        try:
            return self._decoder.decode(model, count)  # type: ignore[no-any-return]
        except Exception as error:  # the library defines no exception class
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


def _groups(indices: TableIndices) -> list[tuple[int, NDArray[np.intp]]]:
    """(table index, positions of its symbols in order) for each index that occurs, lowest first."""
    order = np.argsort(indices.astype(np.uint16), kind="stable")  # of 16 bits, because those are sorted by radix
    counts = np.bincount(indices)
    ends = np.cumsum(counts)
    return [(i, order[ends[i] - counts[i] : ends[i]]) for i in range(len(counts)) if counts[i]]


def _golomb(value: int) -> list[int]:
    """The Elias gamma code of |value| ≥ 1, which is the Exp-Golomb code of |value| − 1, then a sign bit."""
    bits = [int(b) for b in f"{abs(value):b}"]
    return [0] * (len(bits) - 1) + bits + [int(value < 0)]
