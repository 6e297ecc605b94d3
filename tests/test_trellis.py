"""Trellis-coded quantisation: states, lanes, tables, coding, the choice of the best path, and the design of tables."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ldcodec.bitstream import container, layout
from ldcodec.codec import decode_array, encode
from ldcodec.decoder.parse import coder_of, parse
from ldcodec.diffusion.posterior import known_of, moments_of
from ldcodec.encoder.viterbi import WEIGHT, best_path, chosen, prices
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.integer import Parsed
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT, SCALES, SKIPPED_SCALES, SYMBOL_LIMIT, Tables, make_tables
from ldcodec.entropy.trellis import (
    EVEN,
    FIRST_SCALE,
    LANE,
    LARGEST_MOMENT,
    ODD,
    ROWS,
    SCALAR,
    STATES,
    STEP,
    UNIT_BITS,
    Lanes,
    Quantised,
    TrellisTables,
    following,
    half_of,
    quantiser_of,
    reconstructed,
    table_of,
    whole_of,
)
from ldcodec.errors import DamagedError, FormatError, ModelError
from ldcodec.nets.model import Model
from ldcodec.training.codebook import designed, first_tables
from tests.conftest import patterns
from tests.pictures import texture
from tests.reference import lanes_of, state_after, value_of
from tests.test_properties import examples
from tests.test_rangecoder import symbol_at

COFFEE = Path(__file__).parent.parent / "docs" / "coffee.jpg"
TOTAL = 1 << PRECISION
DELTA = STEP / 2**UNIT_BITS  # in quantisation steps
EVERY_SYMBOL = np.arange(-SYMBOL_LIMIT, SYMBOL_LIMIT + 1, dtype=np.int32)


@pytest.fixture(scope="module")
def coder() -> Coder:
    return Coder(make_tables(), trellis=first_tables())


def kinds_of(symbols: NDArray[np.int32], index: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How each symbol of a list is quantised, element by element."""
    kind = np.full(symbols.shape, SCALAR, np.uint8)
    chosen = np.flatnonzero(index >= FIRST_SCALE)
    for lane in lanes_of(len(chosen)):
        state = 0
        for place in chosen[lane.start : lane.stop]:
            kind[place] = EVEN + (state & 1)
            state = state_after(state, int(symbols[place]))
    return kind


# states and values


def test_paths_part_and_meet_like_those_of_a_trellis() -> None:
    """Every state has two successors, of one quantiser, and two predecessors, of one quantiser and both parities."""
    states, parities = np.divmod(np.arange(2 * STATES), 2)
    after = following(states, parities)
    assert np.bincount(after, minlength=STATES).tolist() == [2] * STATES
    assert (after[::2] != after[1::2]).all() and (quantiser_of(after[::2]) == quantiser_of(after[1::2])).all()
    for state in range(STATES):
        before, parity = states[after == state], parities[after == state]
        assert len(set(quantiser_of(before))) == 1 and sorted(parity) == [0, 1]
    assert quantiser_of(np.arange(STATES)).sum() == STATES // 2


def test_every_state_is_reached() -> None:
    reached = np.zeros(1, np.int64)
    for _ in range(STATES.bit_length() - 1):
        reached = np.concatenate([following(reached, np.full_like(reached, parity)) for parity in (0, 1)])
    assert sorted(reached.tolist()) == list(range(STATES))


def test_the_state_moves_as_documented() -> None:
    states, parities = np.divmod(np.arange(2 * STATES), 2)
    found = following(states, parities).tolist()
    assert found == [state_after(*pair) for pair in zip(states.tolist(), parities.tolist(), strict=True)]


def test_values_are_the_documented_ones() -> None:
    for kind, quantiser in ((SCALAR, None), (EVEN, 0), (ODD, 1)):
        found = reconstructed(EVERY_SYMBOL, np.full(EVERY_SYMBOL.shape, kind, np.uint8))
        assert found.dtype == np.int32
        assert found.tolist() == [value_of(symbol, quantiser) for symbol in EVERY_SYMBOL.tolist()]


def test_the_values_of_both_quantisers_are_every_multiple_of_the_step() -> None:
    """No value but zero belongs to both."""
    symbols = np.arange(-50, 51, dtype=np.int32)
    even, odd = (set((reconstructed(symbols, np.full(101, kind, np.uint8)) // STEP).tolist()) for kind in (EVEN, ODD))
    assert even & odd == {0} and even | odd >= set(range(-99, 100))


def test_symbols_are_their_parity_and_their_half() -> None:
    parity, half = half_of(EVERY_SYMBOL)
    assert set(parity.tolist()) == {0, 1} and (parity == EVERY_SYMBOL % 2).all()
    assert (np.abs(half) == (np.abs(EVERY_SYMBOL) + parity) // 2).all() and (half * EVERY_SYMBOL >= 0).all()
    assert ((half == 0) == (EVERY_SYMBOL == 0)).all()
    assert np.array_equal(whole_of(parity, half), EVERY_SYMBOL)


# lanes


@pytest.mark.parametrize("counts", [range(2 * LANE), range(2 * LANE, 3 * LANE + 6), (200 * LANE + 1, LANE**2 + 1)])
def test_lanes_have_every_place_once_in_the_documented_order(counts: range | tuple[int, ...]) -> None:
    for count in counts:
        lanes, expected = Lanes(count), lanes_of(count)
        assert lanes.number == len(expected) and lanes.length == max(map(len, expected), default=0) <= LANE
        assert all(len(lane) == lanes.length for lane in expected[:-1]) and all(expected)
        order = lanes.order()
        assert np.array_equal(np.sort(order), np.arange(count))
        starts = np.array([lane.start for lane in expected], int)
        lane = np.searchsorted(starts, order, side="right") - 1
        assert np.array_equal(np.lexsort((lane, order - starts[lane] if count else lane)), np.arange(count))


@pytest.mark.parametrize("count", [0, 1, 2, LANE - 1, LANE, LANE + 1, 2 * LANE + 1, 3 * LANE + 5])
def test_lanes_are_split_and_joined(count: int) -> None:
    lanes, values = Lanes(count), np.random.default_rng(count).integers(1, 9, (3, count))
    rows = lanes.split(values)
    assert rows.shape == (lanes.length, 3, lanes.number)
    for number in range(3):
        assert np.array_equal(lanes.joined(rows[:, number]), values[number])
    for position in range(lanes.length):
        alive = lanes.alive(position)
        assert (rows[position, :, :alive] > 0).all() and (rows[position, :, alive:] == 0).all() and alive > 0


# tables


def test_the_first_tables_are_sound() -> None:
    tables = first_tables()
    assert len(tables.halves.reach) == 4 * ROWS and tables.odd.shape == (ROWS, 2)
    assert (tables.odd > TOTAL / 1000).all() and (tables.odd < 0.9 * TOTAL).all()
    assert (np.diff(tables.odd[:, 0]) >= 0).all()  # the wider the scale, the more symbols are not zero


def spoilt(change: Callable[[dict[str, NDArray[Any]]], None]) -> None:
    """Make tables with a change."""
    sound = first_tables()
    parts: dict[str, NDArray[Any]] = {
        "odd": sound.odd.copy(),
        "counts": sound.halves.counts.copy(),
        "reach": sound.halves.reach.copy(),
        "inwards": sound.inwards.copy(),
        "deviation": sound.deviation.copy(),
    }
    change(parts)
    TrellisTables(parts["odd"], Tables(parts["counts"], parts["reach"]), parts["inwards"], parts["deviation"])


def put(name: str, place: int, value: int) -> Callable[[dict[str, NDArray[Any]]], None]:
    def change(parts: dict[str, NDArray[Any]]) -> None:
        parts[name].flat[place] = value

    return change


def cut(name: str) -> Callable[[dict[str, NDArray[Any]]], None]:
    def change(parts: dict[str, NDArray[Any]]) -> None:
        parts[name] = parts[name][:-1]

    return change


WRONG = {
    "odd without probability": put("odd", 3, 0),
    "even without probability": put("odd", -1, TOTAL),
    "negative": put("odd", 0, -5),
    "a half without probability": put("counts", 1, 0),
    "counts that are too many": put("counts", 0, TOTAL),
    "a reach of zero": put("reach", 7, 0),
    "no deviation": put("deviation", 100, 0),
    "negative deviation": put("deviation", 5, -1),
    **{f"{name} cut": cut(name) for name in ("odd", "counts", "reach", "inwards", "deviation")},
}


@pytest.mark.parametrize("name", WRONG)
def test_tables_that_no_coder_can_use_are_refused(name: str) -> None:
    spoilt(lambda parts: None)
    with pytest.raises(ModelError):
        spoilt(WRONG[name])


def test_moments_lie_inwards_of_what_symbols_mean() -> None:
    """For |k| beyond the last one as for the last one."""
    tables = first_tables()
    magnitude = np.array([0, 1, 2, 3, LARGEST_MOMENT, LARGEST_MOMENT + 1, 3000])
    for kind, index in ((EVEN, FIRST_SCALE), (ODD, FIRST_SCALE + 9), (EVEN, SCALE_COUNT - 1)):
        kinds = np.full(magnitude.shape, kind, np.uint8)
        mean, deviation = tables.moments(magnitude, np.full(magnitude.shape, index), kinds)
        meaning = reconstructed(magnitude.astype(np.int32), kinds) / 2**UNIT_BITS
        inwards = meaning - mean
        assert mean[0] == 0 and (inwards[1:] >= 0).all() and (inwards <= 1).all() and (deviation > 0).all()
        assert inwards[-1] == pytest.approx(inwards[-3], abs=1e-3) and deviation[-1] == deviation[-3]


def test_the_decoder_knows_the_moments_of_every_kind() -> None:
    """Those of the trellis have the sign of the symbol; those of the scalar quantiser stay as they are."""
    tables, rng = first_tables(), np.random.default_rng(0)
    symbols = rng.integers(-90, 91, (1, 40, 50)).astype(np.int32)
    index = rng.integers(0, SCALE_COUNT, symbols.shape).astype(np.uint8)
    kind = np.where(index < FIRST_SCALE, SCALAR, rng.integers(EVEN, ODD + 1, symbols.shape)).astype(np.uint8)
    mean = rng.integers(-3000, 3000, symbols.shape).astype(np.int32)
    known = known_of(Parsed(symbols, mean, index, kind), tables)
    plain = known_of(Parsed(symbols, mean, index, np.full_like(kind, SCALAR)))
    scalar = kind == SCALAR
    for field in ("centre", "deviation", "scale"):
        assert np.array_equal(getattr(known, field)[scalar], getattr(plain, field)[scalar])
    path = ~scalar
    inwards, deviation = tables.moments(np.abs(symbols[path]), index[path], kind[path])
    assert np.allclose(known.centre[path], mean[path] / 512 + np.sign(symbols[path]) * inwards, atol=1e-5)
    assert np.array_equal(known.deviation[path], deviation)


# coding

SAMPLES = [1, 2, 3, 4, 5, 1000, TOTAL // 3, TOTAL // 2 - 1, TOTAL // 2, TOTAL // 2 + 1, TOTAL - 3, TOTAL - 2, TOTAL - 1]
SAMPLES += [2**k + d for k in range(3, PRECISION) for d in (-1, 0, 1)]


def with_counts(odd: NDArray[np.int64]) -> Coder:
    """A coder whose parities have up to 2·ROWS counts."""
    padded = np.resize(odd, (ROWS, 2))
    return Coder(make_tables(), trellis=replace(first_tables(), odd=padded))


def test_parities_have_exactly_their_counts() -> None:
    """At both sides of the border between even and odd, for counts of every size."""
    counts = np.array([*SAMPLES, *np.random.default_rng(0).integers(1, TOTAL, 3000)], np.int64)
    for part in np.array_split(counts, len(counts) // (2 * ROWS) + 1):
        for count, chance in zip(part.tolist(), with_counts(part).odd.ravel(), strict=False):
            model = constriction.stream.model.Bernoulli(float(chance), perfect=False)
            ends = [symbol_at(model, quantile) for quantile in (0, TOTAL - count - 1, TOTAL - count, TOTAL - 1)]
            assert ends == [0, 0, 1, 1], count


def test_parities_are_coded_like_symbols_of_a_table_of_two() -> None:
    for count in SAMPLES:
        coder = with_counts(np.array([count], np.int64))
        rare = min(count, TOTAL - count) / TOTAL
        bits = (np.random.default_rng(count).random(300) < max(count / TOTAL, 0.01)).astype(np.int32)
        first, second = (constriction.stream.queue.RangeEncoder() for _ in range(2))
        first.encode(bits, coder.parity, np.full(300, coder.odd[0, 0]))
        weights = np.array([TOTAL - count, count]) - 1.0
        second.encode(bits, constriction.stream.model.Categorical(weights, perfect=False))
        assert np.array_equal(first.get_compressed(), second.get_compressed()), (count, rare)


@st.composite
def lists(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Symbols and their scale indices: a few of any kind, repeated to up to four lanes."""
    symbol = st.integers(-3, 3) | st.integers(-200, 200) | st.integers(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    pairs = draw(st.lists(st.tuples(symbol, st.integers(0, SCALE_COUNT - 1)), max_size=60))
    symbols, index = (np.array([pair[k] for pair in pairs], np.int32) for k in (0, 1))
    symbols[index < SKIPPED_SCALES] = 0
    count = draw(st.sampled_from([1, 1, 7, 30]))
    return np.tile(symbols, count), np.tile(index, count).astype(np.uint8)


@examples(100)
@given(st.lists(lists(), max_size=3))
def test_any_latent_comes_back(steps: list[tuple[NDArray[np.int32], NDArray[np.uint8]]]) -> None:
    coder, kinds = CODER, [kinds_of(*step) for step in steps]
    encoder = coder.encoder()
    for (symbols, index), kind in zip(steps, kinds, strict=True):
        encoder.encode_latent(Quantised(symbols, kind), index)
    decoder = coder.decoder(encoder.finish())
    for (symbols, index), kind in zip(steps, kinds, strict=True):
        found = decoder.decode_latent(index, trellis=True)
        assert np.array_equal(found.symbols, symbols) and np.array_equal(found.kind, kind)
    decoder.finish()


CODER = Coder(make_tables(), trellis=first_tables())  # Hypothesis wants no fixtures that live on


@examples(60)
@given(lists())
def test_without_a_trellis_all_is_scalar(step: tuple[NDArray[np.int32], NDArray[np.uint8]]) -> None:
    symbols, index = step
    encoder, plain = CODER.encoder(), CODER.encoder()
    encoder.encode_latent(Quantised(symbols, np.full(symbols.shape, SCALAR, np.uint8)), index)
    plain.encode(symbols[index >= SKIPPED_SCALES], index[index >= SKIPPED_SCALES])
    data = encoder.finish()
    assert data == plain.finish()
    found = CODER.decoder(data).decode_latent(index, trellis=False)
    assert np.array_equal(found.symbols, symbols) and (found.kind == SCALAR).all()


@examples(60)
@given(lists())
def test_a_latent_takes_the_bits_of_its_tables(step: tuple[NDArray[np.int32], NDArray[np.uint8]]) -> None:
    symbols, index = step
    quantised = Quantised(symbols, kinds_of(*step))
    encoder = CODER.encoder()
    encoder.encode_latent(quantised, index)
    bits = CODER.latent_bits(quantised, index)
    assert (bits[index < SKIPPED_SCALES] == 0).all()
    assert bits.sum() / 8 - 1 <= len(encoder.finish()) <= 1.001 * bits.sum() / 8 + 8


def coded_half(coder: Coder, parity: int, half: int) -> bytes:
    """A payload of one element under FIRST_SCALE, which begins with quantiser 0."""
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(np.array([parity], np.int32), coder.parity, coder.odd[0, :1])
    number = coder.first_half + int(table_of(np.array([FIRST_SCALE], np.uint8), np.array([0]), np.array([parity]))[0])
    reach = int(coder.reach[number])
    encoder.encode(np.array([min(half, reach + 1) + reach], np.int32), coder.models[number])
    if half > reach:
        text = f"{half - reach:b}"
        encoder.encode(np.array([0] * (len(text) - 1) + [int(b) for b in text] + [0], np.int32), coder.bit)
    return encoder.get_compressed().astype("<u4").tobytes()


@pytest.mark.parametrize(
    ("parity", "half", "symbol"),
    [(0, 0, 0), (1, 1, 1), (1, 2, 3), (0, 16383, 32766), (1, 16384, 32767), (1, 0, None), (0, 16384, None)],
)
def test_only_halves_of_symbols_are_read(coder: Coder, parity: int, half: int, symbol: int | None) -> None:
    """An odd symbol that is zero, and one beyond the limit, are damage."""
    decoder, index = coder.decoder(coded_half(coder, parity, half)), np.array([FIRST_SCALE], np.uint8)
    if symbol is None:
        with pytest.raises(DamagedError, match=r"^an odd symbol is zero$|^a symbol is too large$"):
            decoder.decode_latent(index, trellis=True)
    else:
        assert decoder.decode_latent(index, trellis=True).symbols.tolist() == [symbol]


def test_garbage_never_panics(coder: Coder) -> None:
    """Symbols in range, or a DamagedError."""
    rng = np.random.default_rng(7)
    index = rng.integers(0, SCALE_COUNT, 3 * LANE).astype(np.uint8)
    fills = [fill * words * (4 // len(fill)) for fill in (b"\x00", b"\xff", b"\x80\x00\x00\x00") for words in range(40)]
    for data in [*(rng.bytes(length) for length in range(0, 400, 4)), *fills]:
        try:
            found = coder.decoder(data).decode_latent(index, trellis=True)
        except DamagedError:
            continue
        assert np.abs(found.symbols).max() <= SYMBOL_LIMIT
        assert np.array_equal(found.kind, kinds_of(found.symbols, index))


# the best path


def cost_of(coder: Coder, values: NDArray[np.float64], scale: NDArray[np.uint8], quantised: Quantised) -> float:
    """Bits and weighted errors, as the encoder counts them."""
    table, place = prices(coder), (scale - FIRST_SCALE, quantised.kind - EVEN, np.abs(quantised.symbols))
    signed = np.where(values < 0, -1, 1) * np.sign(quantised.symbols)
    error = np.abs(values) - table.centre[place].astype(np.float64) * np.where(quantised.symbols, signed, 1)
    return float((table.bits[place] + WEIGHT * error**2).sum())


def least_cost(coder: Coder, values: NDArray[np.float64], scale: NDArray[np.uint8], largest: int = 60) -> float:
    """The cost of the best of all paths, each with the best of all symbols up to a largest one."""
    table, magnitude = prices(coder), np.arange(largest)
    rows = scale.astype(int) - FIRST_SCALE
    error = np.abs(values)[:, None, None] - table.centre[rows, :, :largest].astype(np.float64)
    each = table.bits[rows, :, :largest] + WEIGHT * error**2  # [n, quantiser, |k|]
    classes = np.stack([each[:, :, magnitude % 2 == parity].min(2) for parity in (0, 1)], 2)
    best = np.inf
    for path in np.ndindex(*[2] * len(values)):
        state, total = 0, 0.0
        for place, parity in enumerate(path):
            total += classes[place, state & 1, parity]
            state = state_after(state, parity)
        best = min(best, total)
    return float(best)


@pytest.mark.parametrize("seed", range(12))
def test_no_path_costs_less(coder: Coder, seed: int) -> None:
    """Of all the paths through a short list."""
    rng = np.random.default_rng(seed)
    for count in (1, 2, 5, 9):
        scale = rng.integers(FIRST_SCALE, 45, count).astype(np.uint8)
        values = rng.normal(size=count) * np.minimum(np.array(SCALES)[scale] * rng.choice([0.5, 1, 2]), 15)
        quantised = best_path(values, scale, coder)
        assert np.array_equal(quantised.kind, kinds_of(quantised.symbols, scale))
        assert cost_of(coder, values, scale, quantised) == pytest.approx(least_cost(coder, values, scale), rel=1e-5)


@examples(60)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6) | st.floats(-3, 3), st.integers(0, SCALE_COUNT - 1)), max_size=40),
    st.sampled_from([1, 40]),
)
def test_every_choice_is_a_path(pairs: list[tuple[float, int]], count: int) -> None:
    """Values beyond every symbol too."""
    values, index = (np.tile([float(pair[k]) for pair in pairs], count) for k in (0, 1))
    index = index.astype(np.uint8)
    quantised = chosen(values, index, CODER)
    assert np.abs(quantised.symbols).max(initial=0) <= SYMBOL_LIMIT
    assert (quantised.symbols * values >= 0).all() and (quantised.symbols[index < SKIPPED_SCALES] == 0).all()
    assert np.array_equal(quantised.kind, kinds_of(quantised.symbols, index))


def test_symbols_mean_values_that_are_near(coder: Coder) -> None:
    """Within a step of the trellis' quantisers of twice Δ, and in the mean far closer."""
    rng = np.random.default_rng(1)
    index = rng.integers(20, SCALE_COUNT, 20_000).astype(np.uint8)
    values = rng.normal(size=index.size) * np.array(SCALES)[index]
    quantised = chosen(values, index, coder)
    error = values - reconstructed(*quantised) / 2**UNIT_BITS
    assert np.abs(error).max() <= 2 * DELTA and np.sqrt((error**2).mean()) < 0.6 * DELTA


def test_longer_lists_are_chosen_lane_by_lane(coder: Coder) -> None:
    rng = np.random.default_rng(2)
    index = rng.integers(FIRST_SCALE, 40, 2 * LANE + 5).astype(np.uint8)
    values = rng.normal(size=index.size) * np.array(SCALES)[index]
    whole = best_path(values, index, coder)
    for lane in lanes_of(index.size):
        part = np.s_[lane.start : lane.stop]
        found = best_path(values[part], index[part], coder)
        assert np.array_equal(found.symbols, whole.symbols[part]) and np.array_equal(found.kind, whole.kind[part])


# files


def test_a_trellis_without_tables_is_one_clear_error(model: Model, scalar_model: Model) -> None:
    source = container.read(encode(texture(40, 50), quality=50, fallback=False, model=model))
    named = replace(source, header=replace(source.header, parse_id=scalar_model.parse_id))
    with pytest.raises(ModelError, match=r"written with a trellis, which model .* does not have"):
        parse(named, scalar_model)
    with pytest.raises(ModelError, match=r"written without a trellis, which model .* has"):
        parse(replace(source, header=replace(source.header, trellis=False)), model)


def test_a_file_names_the_id_of_its_coder(model: Model, older_model: Model, scalar_model: Model) -> None:
    """An id that does not go with its quantiser is refused, and one of another model."""
    for writer in (model, older_model, scalar_model):
        header = container.read(encode(texture(40, 50), quality=50, fallback=False, model=writer)).header
        assert header.parse_id == writer.parse_id and header.trellis == (writer is not scalar_model)
        assert coder_of(header, model) is model.coders[header.parse_id]
        with pytest.raises(ModelError, match="trellis, which model"):
            coder_of(replace(header, trellis=not header.trellis), model)
        with pytest.raises(ModelError, match="written with model 0000000000000000"):
            coder_of(replace(header, parse_id=bytes(8)), model)


def test_a_model_with_a_trellis_decodes_scalar_files_as_before(model: Model, scalar_model: Model) -> None:
    data = encode(texture(70, 90), quality=50, fallback=False, model=scalar_model)
    assert np.array_equal(decode_array(data, model=model), decode_array(data, model=scalar_model))


def test_a_lossless_picture_has_no_trellis() -> None:
    data = encode(texture(9, 14), lossless=True)
    source, end = container.read(data), layout.read_layout(data, len(data)).start
    with pytest.raises(FormatError, match="trellis although its picture is lossless"):
        container.write(replace(source, header=replace(source.header, trellis=True)))
    lying = data[:6] + bytes([data[6] | layout.FLAG_TRELLIS >> 8]) + data[7 : end - 4]
    with pytest.raises(FormatError, match="trellis although its picture is lossless"):
        container.read(lying + struct.pack("<I", zlib.crc32(lying)) + data[end:])


# design of tables


def spent(model: Model, pixels: NDArray[np.uint8], index: int) -> float:
    """Bits of the latent, and weighted errors of the values that the decoder starts from."""
    encoder = PictureEncoder(pixels, model)
    parsed = encoder.code(index).parsed
    inside = np.s_[:, : encoder.rows, : encoder.columns]
    quantised, scale = Quantised(parsed.symbols[inside], parsed.kind[inside]), parsed.index[inside]
    offset, _ = moments_of(quantised, scale, model.coder.trellis)
    error = (encoder.latents(index).scaled - parsed.mean / 512)[inside] - offset
    return float(model.coder.latent_bits(quantised, scale).sum() + WEIGHT * np.square(error).sum())


def test_designed_tables_cost_less_than_the_first(model: Model) -> None:
    """On other pictures of the same kind too."""
    tables = designed(model, patterns(0, 2))
    other = replace(model, coders={model.parse_id: replace(model.coder, trellis=tables)})
    for seed in (0, 5):
        for pixels in patterns(seed, 2):
            for index in (500, 2000, 3500):
                assert spent(other, pixels, index) < spent(model, pixels, index), (seed, index)


def test_what_the_reverse_process_restores_is_centred_and_of_unit_variance(shipped_model: Model) -> None:
    """u = (y − centre) / deviation on a photograph that the tables were not counted on: the samplers expect N(0, 1)."""
    encoder = PictureEncoder(np.asarray(Image.open(COFFEE).convert("RGB"))[:256, :384], shipped_model)
    for index in (1000, 3000):
        latents = encoder.latents(index)
        parsed = encoder.write(latents).parsed
        known = known_of(parsed, shipped_model.coder.trellis)
        path = parsed.kind != SCALAR
        u = ((latents.scaled - known.centre) / known.deviation)[path]
        assert abs(float((u * np.sign(parsed.symbols[path])).mean())) < 0.05
        assert float(np.square(u).mean()) == pytest.approx(1, abs=0.15)
