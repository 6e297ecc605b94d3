"""The network that predicts the hyper-latent from its neighbours: its order, what it saves, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ldcodec.entropy.modelfiles import FILE_NAME
from ldcodec.entropy.neighbours import WIDTHS, NeighbourPrior, groups_of
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import HYPER_LIMIT, MEAN_LIMIT, SCALE_COUNT, SYMBOL_LIMIT, make_tables
from ldcodec.entropy.weights import read_coder
from ldcodec.errors import DamagedError, ModelError
from ldcodec.nets.model import Model
from ldcodec.training.fitting import FIRST_WIDTH, WIDTHS_PER_E, fitted, information, logistic_tables

Symbols = NDArray[np.int32]
CHANNELS = 6


def related(seed: int, number: int = 40, size: tuple[int, int] = (16, 16)) -> list[tuple[float, Symbols]]:
    """Hyper-latents in which channel 1 repeats channel 0 to its left, and the last one is channel 0 again."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        t = rng.random()
        symbols = np.rint(rng.normal(0, 0.3 + 2 * t, (CHANNELS, *size))).astype(np.int32)
        symbols[1, :, 1:] = symbols[0, :, :-1]
        symbols[-1] = symbols[0]
        found.append((float(t), symbols))
    return found


@pytest.fixture(scope="module")
def prior() -> NeighbourPrior:
    return fitted(related(0), hidden=32)


@pytest.fixture(scope="module")
def coder(prior: NeighbourPrior) -> Coder:
    return Coder(make_tables(), prior)


def asked(prior: NeighbourPrior, symbols: Symbols, quality: int) -> tuple[Symbols, Symbols]:
    """The table index of each symbol and what is predicted for it."""
    tables, means = np.full(symbols.shape, -1, np.int32), np.zeros(symbols.shape, np.int32)

    def note(indices: NDArray[np.uint8], predicted: Symbols, places: NDArray[np.intp]) -> Symbols:
        assert (tables.ravel()[places] == -1).all()
        tables.ravel()[places], means.ravel()[places] = indices, predicted
        return symbols.ravel()[places]

    assert np.array_equal(prior.fill(symbols.shape[1:], quality, note), symbols)
    return tables, means


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 7), (5, 1)])
def test_symbols_come_back(coder: Coder, size: tuple[int, int]) -> None:
    symbols = np.rint(np.random.default_rng(3).normal(0, 2, (CHANNELS, *size))).astype(np.int32)
    symbols[0, 0, 0], symbols[-1, -1, -1], symbols[2, -1, 0] = -40, HYPER_LIMIT, -HYPER_LIMIT
    for quality in (0, 777, 4095):
        encoder = coder.encoder()

        def write(
            indices: NDArray[np.uint8], predicted: Symbols, places: NDArray[np.intp], encoder: Any = encoder
        ) -> Symbols:
            encoder.encode(symbols.ravel()[places] - predicted, indices)
            return symbols.ravel()[places]

        coder.hyper.fill(size, quality, write)
        decoder = coder.decoder(encoder.finish())

        def read(
            indices: NDArray[np.uint8], predicted: Symbols, places: NDArray[np.intp], decoder: Any = decoder
        ) -> Symbols:
            found: Symbols = decoder.decode_hyper(indices, predicted)
            return found

        found = coder.hyper.fill(size, quality, read)
        decoder.finish()
        assert np.array_equal(found, symbols)


def test_a_symbol_is_predicted_from_what_is_known_before_it(prior: NeighbourPrior) -> None:
    """A change at one position reaches those to its right and below, and at itself the later groups alone."""
    symbols, place = related(5, 1, (4, 5))[0][1], (3, 1, 2)
    other = symbols.copy()
    other[place] += 3
    before, after = (np.stack(asked(prior, values, 2000)) for values in (symbols, other))
    changed = (before != after).any(0)
    group = next(group for group in groups_of(CHANNELS) if place[0] in range(CHANNELS)[group])
    reached = np.zeros_like(changed)
    reached[:, 1, 3], reached[:, 2, 2], reached[group.stop :, 1, 2] = True, True, True
    assert changed.any() and not (changed & ~reached).any()


def test_groups_are_those_of_the_document() -> None:
    for channels in (1, 2, 4, 6, 96):
        for number, group in enumerate(groups_of(channels)):
            found = {4 * channel // channels for channel in range(channels)[group]}
            assert len(found) == 1 and sorted({4 * c // channels for c in range(channels)})[number] in found


def test_what_is_known_costs_next_to_nothing(coder: Coder) -> None:
    """On hyper-latents that it was not fitted to. Without neighbours and groups, all channels would cost the same."""
    spent = np.zeros(CHANNELS)
    for t, symbols in related(1):
        spent += coder.hyper_bits(symbols, round(4095 * t)).sum((1, 2))
    free, copies = spent[[0, 2, 3, 4]].mean(), spent[[1, 5]]
    assert (copies < 0.5 * free).all(), spent


def test_integers_cost_what_floats_promise() -> None:
    """Bits of the tables against those of the distributions, at every table's own mean and scale."""
    tables = logistic_tables()
    scale = FIRST_WIDTH + torch.arange(WIDTHS).repeat(8) / WIDTHS_PER_E
    mean = (torch.arange(8).repeat_interleave(WIDTHS) - 4) / 8
    for symbol in (-2, 0, 1, 5):
        expected = information(torch.full(mean.shape, float(symbol)), mean, scale)
        likely = expected < 20
        assert np.allclose(-np.log2(tables[:, 15 + symbol])[likely], expected[likely], atol=1e-3)


def test_the_least_cost_of_a_position(coder: Coder, prior: NeighbourPrior) -> None:
    least = coder.hyper.least(coder.least_bits)
    assert least > 0
    for t, symbols in related(2, 5):
        tables, _ = asked(prior, symbols, round(4095 * t))
        assert (coder.least_bits[tables].sum(0) >= least - 1e-9).all()
        assert (tables - SCALE_COUNT >= 0).all() and (
            (tables - SCALE_COUNT) % WIDTHS >= prior.floor[:, None, None]
        ).all()


def test_what_no_encoder_writes_is_refused(coder: Coder) -> None:
    """A difference may lead beyond the largest symbol."""
    for difference in (SYMBOL_LIMIT, -SYMBOL_LIMIT):
        encoder = coder.encoder()
        encoder.encode(np.array([difference], np.int32), np.array([SCALE_COUNT]))
        payload = encoder.finish()
        mean = np.array([np.sign(difference) * MEAN_LIMIT], np.int32)
        assert coder.decoder(payload).decode_hyper(np.array([SCALE_COUNT]), -mean) == difference - mean
        with pytest.raises(DamagedError, match="too large"):
            coder.decoder(payload).decode_hyper(np.array([SCALE_COUNT]), mean)


def test_impossible_numbers_are_refused(prior: NeighbourPrior) -> None:
    counts = prior.counts.copy()
    counts[3, 15] += 1
    large = prior.weight.copy()
    large[0, 0] = 1 << 16
    changes: list[dict[str, Any]] = [{"counts": counts}, {"weight": large}, {"shift": 31}, {"shift": -1}]
    changes += [
        {"floor": np.full(CHANNELS, WIDTHS, np.uint8)},
        {"floor": prior.floor[:-1]},
        {"counts": prior.counts[1:]},
    ]
    for name in ("near", "here", "quality", "weight", "bias"):
        changes += [{name: getattr(prior, name)[:-1]}, {name: getattr(prior, name)[:0]}, {name: np.array(1)}]
    for change in changes:
        with pytest.raises(ModelError, match="neighbours"):
            replace(prior, **change)


def test_a_model_with_a_part_of_it_is_refused(tiny_model_folder: Path, model: Model, tmp_path: Path) -> None:
    source = tiny_model_folder / "tiny" / FILE_NAME
    assert isinstance(model.coder.hyper, NeighbourPrior)
    for name in ("near", "shift", "floor", "counts"):
        tensors = load_file(source)
        del tensors[f"neighbours.{name}"]
        save_file(tensors, tmp_path / FILE_NAME, {"config": "{}"})
        with pytest.raises(ModelError, match=f"neighbours.{name} is missing"):
            read_coder(tmp_path / FILE_NAME)


def test_coders_of_older_files_know_no_neighbours(model: Model, tiny_model_folder: Path) -> None:
    path = tiny_model_folder / "tiny" / FILE_NAME
    for identity, known in model.coders.items():
        found = read_coder(path, identity)
        assert isinstance(found.hyper, NeighbourPrior) == (identity == model.parse_id)
        assert (found.trellis is None) == (known.trellis is None)
    with pytest.raises(ModelError):
        read_coder(path, bytes(8))
