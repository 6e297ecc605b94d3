"""Frequency tables and range coder: the library uses exactly the counts of the tables, and no input makes it panic."""

import hashlib
import itertools
import math

import constriction
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import (
    PRECISION,
    SCALE_COUNT,
    SCALE_SPREAD,
    SCALES,
    SKIPPED_SCALES,
    SYMBOL_LIMIT,
    Tables,
    cell_edges,
    edge_shifts,
    make_tables,
)
from ldcodec.errors import DamagedError, ModelError
from ldcodec.nets.quantise import cell_information, nearest_scale, quantise
from ldcodec.training.release import cheapest_scale

TOTAL = 1 << PRECISION
CHECKSUM = "cee1f21340d6f0085f949a2a15adf1e82feb83109040089d983e3ec3d76e464c"

Symbols = tuple[NDArray[np.int32], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return make_tables()


@pytest.fixture(scope="module")
def coder(tables: Tables) -> Coder:
    return Coder(tables)


def random_symbols(seed: int, count: int = 4000, spread: float = 1.0) -> Symbols:
    """Rounded draws from Gaussians of random scales; with spread > 1, some lie far outside their tables."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, SCALE_COUNT, count).astype(np.uint8)
    values = rng.normal(size=count) * np.array(SCALES)[indices] * spread
    return np.clip(np.rint(values), -SYMBOL_LIMIT, SYMBOL_LIMIT).astype(np.int32), indices


def encoded(coder: Coder, *parts: Symbols) -> bytes:
    encoder = coder.encoder()
    for symbols, indices in parts:
        encoder.encode(symbols, indices)
    return encoder.finish()


def symbol_at(model: object, quantile: int) -> int:
    """The table entry that the library decodes at a quantile in 0..2^24 − 1.

    A fresh decoder has the range 2^64 − 1, and its quantile is its point divided by range / 2^24.
    """
    point = quantile * (((1 << 64) - 1) >> PRECISION) + 1
    words = np.array([point >> 32, point & 0xFFFFFFFF], np.uint32)
    return int(constriction.stream.queue.RangeDecoder(words).decode(model, 1)[0])


def test_tables_are_the_frozen_ones(tables: Tables) -> None:
    digest = hashlib.sha256(tables.counts.astype("<i4").tobytes() + tables.reach.astype("<i4").tobytes())
    assert digest.hexdigest() == CHECKSUM


def test_counts_sum_to_the_whole(tables: Tables) -> None:
    for index in range(SCALE_COUNT):
        full = tables.full(index)
        assert len(full) == 2 * tables.reach[index] + 2 and full.sum() == TOTAL and full.min() >= 1
        assert np.array_equal(full[:-1], full[-2::-1])


def test_counts_follow_the_gaussian(tables: Tables) -> None:
    for index in range(SCALE_COUNT):
        scale, reach = SCALES[index], int(tables.reach[index])
        upper = [0.5 * math.erfc((k - 0.5) / scale / math.sqrt(2)) for k in range(1, reach + 2)]  # P(s ≥ k)
        exact = np.array([1 - 2 * upper[0], *(2 * (a - b) for a, b in itertools.pairwise(upper)), 2 * upper[-1]])
        used = tables.half(index) * np.array([1, *[2] * reach, 1]) / TOTAL
        assert np.abs(used - exact).max() < 1e-4, index
        excess = float(np.sum(exact * np.log2(np.maximum(exact, 1e-300) / used)))  # bits per symbol
        assert -1e-9 < excess < 1e-4, index


MIXTURE = ((1 / 6, -1), (2 / 3, 0), (1 / 6, 1))  # shares of the Gauss–Hermite rule, and its nodes in √3 deviations


def one_side(inner: float, outer: float, scale: float) -> float:
    root = scale * math.sqrt(2)
    return 0.5 * (math.erfc(inner / root) - math.erfc(outer / root))


def test_tables_of_a_quantiser_hold_the_mass_of_its_cells() -> None:
    """The float rate model counts the same mass."""
    moved = make_tables(edge_shifts(), SCALE_SPREAD)
    for index in range(0, SCALE_COUNT, 5):
        check_mass(moved, index)


def check_mass(moved: Tables, index: int) -> None:
    magnitude = np.arange(min(int(moved.reach[index]), 12) + 1)
    inner, outer = cell_edges(magnitude, np.full_like(magnitude, index))
    mixed = [(share, SCALES[index] * math.exp(k * math.sqrt(3) * SCALE_SPREAD)) for share, k in MIXTURE]
    mass = [sum(share * one_side(a, b, scale) for share, scale in mixed) for a, b in zip(inner, outer, strict=True)]
    mass[0] *= 2  # of both signs
    found = moved.half(index)[: len(mass)] / 2**PRECISION
    assert found[1:] == pytest.approx(mass[1:], rel=1e-3, abs=2e-6)
    assert found[0] == pytest.approx(mass[0], rel=0.03)  # the remainder of rounding all others is added to it
    counted = cell_information(torch.from_numpy(magnitude).float(), torch.full((len(mass),), SCALES[index]))
    likely = np.array(mass) > 1e-6
    assert counted.numpy()[likely] == pytest.approx(-np.log2(np.array(mass)[likely]), abs=0.01)


def test_tables_of_the_quantiser_cost_less_than_those_of_rounding(tables: Tables) -> None:
    values, index = 0.3 * np.random.default_rng(0).normal(size=20000), np.full(20000, 8, np.uint8)
    values *= SCALES[8] / 0.3
    symbols = quantise(torch.from_numpy(values), torch.from_numpy(index)).numpy().astype(np.int32)
    plain, moved = (Coder(t).bits(symbols, index).sum() for t in (tables, make_tables(edge_shifts())))
    assert moved < 0.97 * plain


@pytest.mark.parametrize(("scale", "same"), [(0.16, False), (0.5, False), (30.0, True)])
def test_rounded_symbols_get_the_table_that_costs_least(scale: float, same: bool) -> None:
    """Where the quantiser rounds, that is the table of the nearest scale; elsewhere it is a better one."""
    coder, nearest = Coder(make_tables(edge_shifts())), int(nearest_scale(torch.tensor(scale).log()))
    chosen = cheapest_scale(scale, coder)
    symbols = np.rint(scale * np.random.default_rng(0).normal(size=100_000)).astype(np.int32)
    costs = [coder.bits(symbols, np.full(len(symbols), i, np.uint8)).sum() for i in (chosen, nearest)]
    assert (chosen == nearest) == same
    assert costs[0] <= costs[1] and (costs[0] < costs[1]) != same


def test_the_library_uses_every_boundary_of_the_tables(coder: Coder) -> None:
    for index, model in enumerate(coder.models):
        ends = np.cumsum(coder.tables.full(index)).tolist()
        for entry, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            assert symbol_at(model, start) == entry, index
            assert symbol_at(model, end - 1) == entry, index
    assert len(coder.models) == SCALE_COUNT


def test_symbols_that_are_not_coded_are_nearly_always_zero(tables: Tables) -> None:
    other = [1 - int(tables.half(index)[0]) / 2**PRECISION for index in range(SCALE_COUNT)]
    assert [chance < 2**-12 for chance in other] == [index < SKIPPED_SCALES for index in range(SCALE_COUNT)]


def test_tables_that_no_coder_can_use_are_refused(tables: Tables) -> None:
    more, none, short = tables.counts.copy(), tables.counts.copy(), tables.reach.copy()
    more[0] += 1
    none[1] = 0
    short[5] += 1
    for counts, reach in [(more, tables.reach), (none, tables.reach), (tables.counts, short)]:
        with pytest.raises(ModelError):
            Tables(counts, reach)
    with pytest.raises(ModelError):
        Tables(tables.counts, tables.reach[:-1])


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_symbols_come_back(coder: Coder, spread: float) -> None:
    first, second = random_symbols(1, spread=spread), random_symbols(2, 777, spread)
    decoder = coder.decoder(encoded(coder, first, second))
    assert np.array_equal(decoder.decode(first[1]), first[0])
    assert np.array_equal(decoder.decode(second[1]), second[0])
    decoder.finish()


def test_the_largest_symbols_come_back_under_every_scale(coder: Coder) -> None:
    reach = coder.tables.reach.astype(np.int32)
    ends = np.stack([reach, -reach, reach + 1, -reach - 1, np.full_like(reach, SYMBOL_LIMIT)], 1)
    symbols = np.concatenate([ends, -ends[:, -1:]], 1).astype(np.int32)
    indices = np.repeat(np.arange(SCALE_COUNT, dtype=np.uint8), symbols.shape[1])
    decoder = coder.decoder(encoded(coder, (symbols.ravel(), indices)))
    assert np.array_equal(decoder.decode(indices), symbols.ravel())
    decoder.finish()


def test_symbols_out_of_range_are_refused_before_the_library(coder: Coder) -> None:
    for symbol, index in [(SYMBOL_LIMIT + 1, 0), (-SYMBOL_LIMIT - 1, 63), (0, SCALE_COUNT)]:
        with pytest.raises(ValueError):
            encoded(coder, (np.array([symbol], np.int32), np.array([index], np.uint8)))


def test_nothing_encodes_to_nothing(coder: Coder) -> None:
    empty = np.empty(0, np.int32), np.empty(0, np.uint8)
    assert encoded(coder) == encoded(coder, empty) == b""
    decoder = coder.decoder(b"")
    assert decoder.decode(empty[1]).shape == (0,)
    decoder.finish()


def test_lengths_that_are_no_words_are_refused(coder: Coder) -> None:
    for extra in (1, 2, 3):
        with pytest.raises(DamagedError):
            coder.decoder(encoded(coder, random_symbols(3, 50)) + bytes(extra))


def test_surplus_data_is_refused(coder: Coder) -> None:
    part = random_symbols(3, 200)
    decoder = coder.decoder(encoded(coder, part) + b"\x12\x34\x56\x78" * 4)
    decoder.decode(part[1])
    with pytest.raises(DamagedError):
        decoder.finish()


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_size_is_the_information_of_the_tables(coder: Coder, spread: float) -> None:
    symbols, indices = random_symbols(4, 20000, spread)
    bits = 0.0
    for symbol, index in zip(symbols.tolist(), indices.tolist(), strict=True):
        half, reach = coder.tables.half(index), int(coder.tables.reach[index])
        bits -= math.log2(int(half[min(abs(symbol), reach + 1)]) / TOTAL)
        if abs(symbol) > reach:
            bits += 2 * (abs(symbol) - reach).bit_length()
    assert abs(len(encoded(coder, (symbols, indices))) - bits / 8) <= 0.001 * bits / 8 + 8


@pytest.mark.parametrize("bits", [[0] * 15 + [1] * 16 + [0], [0] * 16 + [1] + [0] * 17, [0] * 3000], ids=len)
def test_escapes_beyond_every_symbol_are_refused(coder: Coder, bits: list[int]) -> None:
    """Escapes that say 65535 and 65536, and one that never ends."""
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(np.array([2 * int(coder.tables.reach[9]) + 1], np.int32), coder.models[9])
    encoder.encode(np.array(bits, np.int32), coder.bit)
    with pytest.raises(DamagedError, match="too large"):
        coder.decoder(encoder.get_compressed().astype("<u4").tobytes()).decode(np.array([9], np.uint8))


def survives(coder: Coder, data: bytes, indices: NDArray[np.uint8]) -> NDArray[np.int32] | None:
    """Symbols in range, or None for a DamagedError. Anything else, even a panic of the library, fails the test."""
    try:
        decoder = coder.decoder(data)
        symbols = decoder.decode(indices)
        decoder.finish()
    except DamagedError:
        return None
    except BaseException as error:  # a panic is not an Exception
        pytest.fail(f"{type(error).__name__} from {data[:16].hex()}…: {error}")
    assert np.abs(symbols).max(initial=0) <= SYMBOL_LIMIT
    return symbols


def test_data_cut_short_never_panics(coder: Coder) -> None:
    symbols, indices = random_symbols(5, 600, 4.0)
    data = encoded(coder, (symbols, indices))
    for length in range(0, len(data) - 4, 4):
        found = survives(coder, data[:length], indices)
        assert found is None or not np.array_equal(found, symbols)


def test_altered_data_never_panics(coder: Coder) -> None:
    symbols, indices = random_symbols(6, 600, 4.0)
    data = bytearray(encoded(coder, (symbols, indices)))
    for position in range(0, len(data) - 8, 3):
        altered = data.copy()
        altered[position] ^= 1 << position % 8
        found = survives(coder, bytes(altered), indices)
        assert found is None or not np.array_equal(found, symbols)


def test_garbage_never_panics(coder: Coder) -> None:
    rng = np.random.default_rng(7)
    _, indices = random_symbols(7, 500)
    for length in range(0, 400, 4):
        survives(coder, rng.bytes(length), indices)
    for fill in (b"\x00", b"\xff", b"\x80\x00\x00\x00"):
        for words in range(60):
            survives(coder, fill * words * (4 // len(fill)), indices)
    survives(coder, rng.bytes(40), np.full(2000, 63, np.uint8))
    survives(coder, rng.bytes(40), np.zeros(2000, np.uint8))
