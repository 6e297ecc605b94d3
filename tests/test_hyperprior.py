"""The tables of the hyper-latent: contexts, order, what is refused, and that counted tables save bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ldcodec.codec import decode_array, encode
from ldcodec.entropy.hyperprior import CONTEXTS, ENTRIES, REACH, HyperPrior, channelwise, context_of
from ldcodec.entropy.modelfiles import FILE_NAME
from ldcodec.entropy.neighbours import NeighbourPrior
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT, make_tables
from ldcodec.entropy.weights import read_integers
from ldcodec.errors import ModelError
from ldcodec.nets.model import Model, load_model
from ldcodec.training.__main__ import main
from ldcodec.training.checkpoint import Progress, write_weights
from ldcodec.training.counting import clustered, integer_table
from tests.conftest import patterns, tiny_networks

SIZE = (5, 7)


def some_prior(seed: int = 0, channels: int = 6, tables: int = 11, bands: int = 3) -> HyperPrior:
    rng = np.random.default_rng(seed)
    counts = np.stack([integer_table(rng.dirichlet(np.full(ENTRIES, 0.5))) for _ in range(tables)])
    choice = rng.integers(0, SCALE_COUNT + tables, (bands, channels, CONTEXTS)).astype(np.uint8)
    return HyperPrior(counts, choice)


def some_symbols(seed: int, channels: int = 6) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    symbols = np.rint(rng.normal(0, 2, (channels, *SIZE))).astype(np.int32)
    symbols[0, 0, 0], symbols[-1, -1, -1] = -40, 3000  # beyond the reach of any table
    return symbols


@pytest.mark.parametrize("size", [SIZE, (1, 1), (1, 7), (5, 1)])
def test_symbols_come_back(size: tuple[int, int]) -> None:
    coder = Coder(make_tables(), some_prior())
    for quality in (0, 1364, 1365, 1366, 4095):  # at either side of the first border between bands, and at both ends
        check_coding(coder, quality, size)


def check_coding(coder: Coder, quality: int, size: tuple[int, int]) -> None:
    symbols = some_symbols(1)[:, : size[0], : size[1]]
    encoder = coder.encoder()

    def write(indices: NDArray[np.uint8], predicted: NDArray[np.int32], places: NDArray[np.intp]) -> NDArray[np.int32]:
        encoder.encode(symbols.ravel()[places] - predicted, indices)
        return symbols.ravel()[places]

    assert (coder.hyper.fill(size, quality, write) == symbols).all()
    decoder = coder.decoder(encoder.finish())

    def read(indices: NDArray[np.uint8], predicted: NDArray[np.int32], places: NDArray[np.intp]) -> NDArray[np.int32]:
        return decoder.decode_hyper(indices, predicted)

    assert (coder.hyper.fill(size, quality, read) == symbols).all()
    decoder.finish()


def test_each_symbol_has_the_table_of_its_channel_band_and_context() -> None:
    for quality in (0, 2000, 4095):
        check_tables(some_prior(), some_symbols(2), quality)


def check_tables(prior: HyperPrior, symbols: NDArray[np.int32], quality: int) -> None:
    asked = np.full(symbols.size, -1)

    def note(indices: NDArray[np.uint8], predicted: NDArray[np.int32], places: NDArray[np.intp]) -> NDArray[np.int32]:
        assert (asked[places] == -1).all() and not predicted.any()
        asked[places] = indices
        return symbols.ravel()[places]

    prior.fill(SIZE, quality, note)
    band = quality * 3 // 4096
    for channel, row, column in np.ndindex(symbols.shape):
        left = symbols[channel, row, column - 1] if column else 0
        above = symbols[channel, row - 1, column] if row else 0
        near = max(-4, min(4, max(-3, min(3, left)) + max(-3, min(3, above))))
        assert asked.reshape(symbols.shape)[channel, row, column] == prior.choice[band, channel, near + 4]


def test_contexts_are_cut() -> None:
    left, above = np.array([0, -2, 3, 9, -3000, 3], np.int32), np.array([0, 1, 0, 0, -3000, 3000], np.int32)
    assert context_of(left, above).tolist() == [4, 3, 7, 7, 0, 8]


def test_without_contexts_symbols_are_coded_channel_by_channel() -> None:
    index = np.array([9, 4, 30], np.uint8)
    symbols = some_symbols(3, 3)
    calls: list[NDArray[np.uint8]] = []

    def note(indices: NDArray[np.uint8], predicted: NDArray[np.int32], places: NDArray[np.intp]) -> NDArray[np.int32]:
        calls.append(indices)
        assert (places == np.arange(symbols.size)).all()
        return symbols.ravel()

    assert (channelwise(index).fill(SIZE, 77, note) == symbols).all()
    assert [call.tolist() for call in calls] == [np.repeat(index, 35).tolist()]


def test_the_least_cost_of_a_position() -> None:
    coder = Coder(make_tables(), some_prior())
    rng = np.random.default_rng(5)
    least = coder.hyper.least(coder.least_bits)
    for quality in rng.integers(0, 4096, 20):
        costs: list[float] = []

        def dearest(
            indices: NDArray[np.uint8],
            predicted: NDArray[np.int32],
            places: NDArray[np.intp],
            costs: list[float] = costs,
        ) -> NDArray[np.int32]:
            costs.extend(coder.least_bits[indices])
            return rng.integers(-2, 3, len(places)).astype(np.int32)

        coder.hyper.fill(SIZE, int(quality), dearest)
        assert sum(costs) >= least * SIZE[0] * SIZE[1] - 1e-9


def test_impossible_numbers_are_refused() -> None:
    sound = some_prior()
    none, more = sound.counts.copy(), sound.counts.copy()
    none[2, 5], none[2, 6], more[3, 1] = 0, none[2, 6] + none[2, 5], more[3, 1] + 1
    choices = [sound.choice[0], sound.choice[:, :, :4], sound.choice[:0], np.full_like(sound.choice, SCALE_COUNT + 11)]
    for counts in (none, more, sound.counts[:, :-1], np.repeat(sound.counts, 20, 0)):
        with pytest.raises(ModelError):
            HyperPrior(counts, sound.choice)
    for choice in choices:
        with pytest.raises(ModelError):
            HyperPrior(sound.counts, choice)


def test_counted_tables_cost_less_on_other_pictures(older_model: Model) -> None:
    """They save 5 % against one table of the latent per channel; the networks, hence the symbols, are the same."""
    plain = Coder(older_model.coder.tables, channelwise(older_model.integers.z_index))
    spent = {"counted": 0.0, "plain": 0.0}
    for pixels in patterns(7):
        for quality in (10, 40, 70):
            hyper = hyper_symbols(older_model, pixels, quality)
            for name, coder in (("counted", older_model.coder), ("plain", plain)):
                spent[name] += coder.hyper_bits(hyper, round(quality * 40.95)).sum()
    assert spent["counted"] < 0.95 * spent["plain"]


def hyper_symbols(model: Model, pixels: NDArray[np.uint8], quality: float) -> NDArray[np.int32]:
    networks, x = model.networks, torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        t = torch.tensor([quality / 100])
        z = networks.rate.hyper_latent(networks.scaled_latent(networks.analysis.base(x), t), t)
    return torch.round(z)[0].numpy().astype(np.int32)


def test_clusters_are_those_that_are_there() -> None:
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.ones(ENTRIES), 4)
    members = rng.integers(0, 4, 300)
    noisy = true[members] * rng.uniform(0.95, 1.05, (300, ENTRIES))
    found, chosen = clustered(noisy / noisy.sum(1, keepdims=True), np.ones(300), 12, rng)
    assert len(found) <= 12
    assert np.abs(found[chosen] - true[members]).max() < 0.02


def test_integer_tables_sum_and_leave_no_symbol_out() -> None:
    rng = np.random.default_rng(0)
    for chances in (np.eye(ENTRIES)[REACH], np.full(ENTRIES, 1 / ENTRIES), rng.dirichlet(np.full(ENTRIES, 0.1))):
        table = integer_table(chances)
        assert table.sum() == 1 << PRECISION and table.min() >= 1
        assert np.abs(table / 2**PRECISION - chances).max() < 1e-5


def test_a_model_with_half_of_it_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    source = tiny_model_folder / "tiny" / FILE_NAME
    integers, metadata = read_integers(source)
    assert "coder.hyper_choice" in integers
    tensors = load_file(source)
    del tensors["coder.hyper_counts"]
    save_file(tensors, tmp_path / FILE_NAME, metadata)
    with pytest.raises(ModelError):
        load_model(str(tmp_path / FILE_NAME))


def test_export_counts_or_keeps(tmp_path: Path, tiny_model_folder: Path) -> None:
    from PIL import Image

    write_weights(tmp_path / "w.safetensors", tiny_networks(), Progress("autoencoder"))
    for k, pixels in enumerate(patterns(0, 2)):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    said = {}
    for name, options in (("plain", []), ("counted", ["--data", str(tmp_path / "*.png")])):
        arguments = ["export", str(tmp_path / "w.safetensors"), str(tmp_path / name), *options]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        said[name] = result.output.split()[-1]
    assert said["plain"] != said["counted"]
    assert load_model(str(tmp_path / "plain")).coder.trellis is None
    model = load_model(str(tmp_path / "counted"))
    older = list(model.coders.values())[1].hyper
    assert isinstance(older, HyperPrior) and older.choice.shape == (8, 4, CONTEXTS)
    assert isinstance(model.coder.hyper, NeighbourPrior) and model.coder.trellis is not None
    pixels = patterns(3, 1)[0]
    data = encode(pixels, quality=30, model=model, fallback=False)
    assert np.abs(decode_array(data, model=model).astype(int) - pixels).mean() < 40
