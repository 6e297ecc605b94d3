"""The integer rate model, in both of its arithmetics, against the networks of the reference, and what it refuses."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldcodec.bitstream import container
from ldcodec.decoder import parse
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy import integer
from ldcodec.entropy.arithmetic import Arithmetic, NumpyArithmetic
from ldcodec.entropy.config import Config
from ldcodec.entropy.integer import IntegerRateModel, Layer, Prior, at_quality
from ldcodec.entropy.modelfiles import find_file
from ldcodec.entropy.trellis import EVEN, ODD, SCALAR, Quantised
from ldcodec.entropy.weights import integer_shapes
from ldcodec.errors import DamagedError, ModelError
from ldcodec.nets.model import DEFAULT_MODEL, Model, load_model
from ldcodec.nets.networks import Networks as FloatNetworks
from ldcodec.nets.tensors import TorchArithmetic
from tests.reference import POSITIONS, TOP, Entries, Networks, areas, value_of
from tests.test_model import honest as true_ids

TORCH, NUMPY = TorchArithmetic(torch.device("cpu")), NumpyArithmetic()
both = pytest.mark.parametrize("arithmetic", [TORCH, NUMPY], ids=["torch", "numpy"])
WILD = Config(latent=8, context=8, hyper=4)
MEANINGS = {SCALAR: None, EVEN: 0, ODD: 1}  # the quantiser of the reference


def model_entries(folder: Path) -> Entries:
    with safe_open(str(folder / "model.safetensors"), "np") as file:
        return {k.removeprefix("integer."): file.get_tensor(k) for k in file.keys() if k.startswith("integer.")}  # noqa: SIM118


def wild_entries(seed: int) -> Entries:
    """Weights, shifts and tables over their whole ranges, so that every clamp acts."""
    rng = np.random.default_rng(seed)
    entries: Entries = {}
    for full, shape in integer_shapes(WILD).items():
        name = full.removeprefix("integer.")
        if name.endswith(".weight"):
            values = rng.integers(-(2**15), 2**15, shape) >> rng.integers(0, 8)
        elif name.endswith(".shift"):
            values = np.array(rng.integers(8, 21))
        elif name.endswith(".bias"):
            values = rng.integers(-(2**31), 2**31, shape)
        elif name == "z_index":
            values = rng.integers(0, 64, shape)
        else:
            top = {"factor": 2**13, "floor": 2**27, "reciprocal": 2**14, "log_expected": 2**22}[name.split(".")[1]]
            values = rng.integers(-top if name == "table.log_expected" else 0, top, shape)
        entries[name] = np.asarray(values, np.int64)
    return entries


def compare(model: IntegerRateModel, reference: Networks, seed: int, size: tuple[int, int], quality: int) -> None:
    """Compare on random symbols, some of them large, of every quantiser. All but the last row and the last two columns
    are coded.
    """
    rng = np.random.default_rng(seed)
    (h, w), reach = size, rng.choice([2, 40, 32768])
    coded = h - 1, w - 2
    hyper = rng.integers(1 - reach, reach, (model.config.hyper, h // 4, w // 4)).astype(np.int32)
    symbols = np.zeros((model.config.latent, h, w), np.int64)
    symbols[:, : coded[0], : coded[1]] = rng.integers(1 - reach, reach, (model.config.latent, *coded))
    kind = rng.choice(np.array([SCALAR, EVEN, ODD], np.uint8), symbols.shape)
    asked: list[NDArray[np.intp]] = []

    def same(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
        """Whether means are equal, or in a one-shot model, which rounds them from floats, nearly so."""
        most = 2 + 1e-5 * np.abs(wanted).max(initial=0) if reference.one_shot else 0
        return bool((np.abs(found - wanted) <= most).all())

    def code(prior: Prior) -> Quantised:
        asked.append(prior.places)
        assert same(prior.mean, mean.flat[prior.places])
        assert np.array_equal(prior.index, scale.flat[prior.places])
        return Quantised(symbols.flat[prior.places].astype(np.int32), kind.flat[prior.places])

    values = np.vectorize(lambda s, k: value_of(int(s), MEANINGS[k]), otypes=[np.int64])(symbols, kind)
    mean, scale = reference.priors(hyper.astype(np.int64), quality, lambda *_: values)
    parsed = model.parse(hyper, quality, coded, code)
    assert same(parsed.mean, mean)
    assert np.array_equal(parsed.index, scale)
    assert np.array_equal(parsed.symbols, symbols)
    assert [a.tolist() for a in asked] == expected_places(symbols.shape, coded)


def expected_places(shape: tuple[int, ...], coded: tuple[int, int]) -> list[list[int]]:
    """The elements that each step asks for: channel by channel, row by row, within the coded area only."""
    inside = np.zeros(shape, bool)
    inside[:, : coded[0], : coded[1]] = True
    numbers = np.arange(inside.size).reshape(shape)
    return [
        [n for area in areas(shape[0], positions) for n in numbers[area][inside[area]].tolist()]
        for positions in POSITIONS
    ]


def steps_of(networks: FloatNetworks) -> dict[str, NDArray[Any]]:
    """The context steps of a model, which are floats where it is one-shot."""
    return {key: tensor.numpy() for key, tensor in networks.rate.steps.state_dict().items()}


@both
@pytest.mark.parametrize("name", ["tiny", "one-shot"])
def test_the_tiny_models_agree_with_the_reference(name: str, tiny_model_folder: Path, arithmetic: Arithmetic) -> None:
    networks, entries = load_model(str(tiny_model_folder / name)).networks, model_entries(tiny_model_folder / name)
    integers = IntegerRateModel(networks.config, entries, arithmetic, networks.means)
    for quality in (0, 1, 63, 64, 2047, 4032, 4094, 4095):
        for number, size in enumerate([(4, 4), (8, 4), (4, 20), (12, 16)]):
            compare(integers, Networks(entries, steps_of(networks)), 10 * quality + number, size, quality)


def test_the_shipped_model_agrees_with_the_reference(shipped_model: Model) -> None:
    reference = Networks(model_entries(find_file(DEFAULT_MODEL).parent), steps_of(shipped_model.networks))
    for quality in (700, 3900):
        compare(shipped_model.integers, reference, quality, (4, 8), quality)


@both
def test_wild_weights_agree_with_the_reference(arithmetic: Arithmetic) -> None:
    for seed in range(12):
        entries = wild_entries(seed)
        reference, model = Networks(entries), IntegerRateModel(WILD, entries, arithmetic)
        for number, quality in enumerate([0, 1000, 4095]):
            compare(model, reference, 100 * seed + number, (8, 12), quality)


def test_wild_weights_meet_the_clamps() -> None:
    """Without this, the test above could miss errors in the clamps."""
    rng, hidden, means, scales = np.random.default_rng(0), [], [], []
    for seed in range(12):
        reference = Networks(wild_entries(seed))
        hyper, symbols = rng.integers(-40, 41, (4, 2, 3)), rng.integers(-40, 41, (8, 8, 12))
        hidden.append(reference.features(hyper, 1000))
        mean, scale = reference.priors(hyper, 1000, lambda *_, symbols=symbols: 512 * symbols)
        means.append(mean)
        scales.append(scale)
    assert (np.abs(hidden) == TOP).any() and (np.abs(hidden) < TOP).any()
    assert (np.abs(means) == 2**25).any() and (np.abs(means) < 2**25).any()
    assert (np.array(scales) == 0).any() and (np.array(scales) == 63).any()


def test_quality_rows_are_integer_interpolation() -> None:
    table = np.random.default_rng(0).integers(-(2**29), 2**29, (65, 3))
    knots = table.tolist()
    for index in range(4096):
        knot, rest = divmod(index * 64, 4095)
        expected = [
            (a * (4095 - rest) + b * rest) // 4095 for a, b in zip(knots[knot], knots[min(knot + 1, 64)], strict=True)
        ]
        assert at_quality(table, index).tolist() == expected


def test_quality_rows_begin_and_end_at_the_outer_knots() -> None:
    table = np.random.default_rng(1).integers(-1000, 1000, (65, 5))
    assert np.array_equal(at_quality(table, 0), table[0])
    assert np.array_equal(at_quality(table, 4095), table[64])


@both
def test_a_layer_at_its_bound_is_exact(arithmetic: Arithmetic) -> None:
    """With every product as large as possible."""
    for size in (1, 3):
        weight, bias = np.full((2, 192, size, size), 32767, np.int16), np.array([1, -1])
        x = arithmetic.array(np.full((192, 5, 5), TOP))
        total = Layer("top", weight, bias, 0, arithmetic)(x)[:, 2, 2].tolist()
        assert total == [192 * size**2 * 32767 * TOP + 1, 192 * size**2 * 32767 * TOP - 1]


@both
def test_a_layer_rounds_down(arithmetic: Arithmetic) -> None:
    layer = Layer("odd", np.ones((1, 1, 1, 1)), np.zeros(1), 2, arithmetic)
    x = arithmetic.array(np.arange(-9, 10).reshape(1, 1, -1))
    assert layer(x)[0, 0].tolist() == [n // 4 for n in range(-9, 10)]


def test_a_layer_that_may_not_be_exact_is_refused() -> None:
    for weight, bias, shift in [(2**35, 0, 0), (2**33, 2**53, 0), (1, 0, -1), (1, 0, 31)]:
        with pytest.raises(ModelError, match="exact"):
            Layer("wide", np.full((1, 1, 1, 1), weight), np.array([bias]), shift, NUMPY)


def test_tables_that_may_not_be_exact_are_refused() -> None:
    for table in ("floor", "reciprocal", "log_expected", "factor"):
        entries = wild_entries(0)
        entries[f"table.{table}"][7, 3] = -(2**27)
        with pytest.raises(ModelError, match="exact"):
            IntegerRateModel(WILD, entries, NUMPY)


def test_a_hyper_scale_without_a_table_is_refused() -> None:
    entries = wild_entries(0)
    entries["z_index"][1] = 64
    with pytest.raises(ModelError):
        IntegerRateModel(WILD, entries, NUMPY)


@both
def test_a_device_that_multiplies_inexactly_is_refused(monkeypatch: pytest.MonkeyPatch, arithmetic: Arithmetic) -> None:
    assert integer.is_exact(arithmetic)
    monkeypatch.setattr(integer, "is_exact", lambda arithmetic: False)
    with pytest.raises(ModelError, match="exactly"):
        IntegerRateModel(WILD, wild_entries(0), arithmetic)


class Off(NumpyArithmetic):
    """Off by one in the last column of the last row."""

    def summed(self, total: Any, factors: Iterable[tuple[Any, Any]]) -> Any:
        super().summed(total, factors)
        total[-1, -1] += 1
        return total


class Single(NumpyArithmetic):
    """Multiplies in 32 bits."""

    def summed(self, total: Any, factors: Iterable[tuple[Any, Any]]) -> Any:
        for matrix, columns in factors:
            total += matrix.astype(np.float32) @ columns.astype(np.float32)
        return total


@pytest.mark.parametrize("kind", [Off, Single])
def test_a_product_that_is_not_exact_is_noticed(kind: type[NumpyArithmetic]) -> None:
    integer.is_exact.cache_clear()  # equal instances share an entry
    assert not integer.is_exact(kind())
    integer.is_exact.cache_clear()


def altered_model(source: Path, folder: Path, alter: Callable[[dict[str, Tensor]], None], honest: bool) -> Path:
    """A copy of a model with altered tensors; if honest, with the parse ids that belong to them."""
    with safe_open(str(source / "model.safetensors"), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    alter(tensors)
    metadata = true_ids(tensors, metadata) if honest else metadata
    assert json.loads(metadata["config"])["latent"] == 32
    save_file(tensors, str(folder / "model.safetensors"), metadata)
    return folder


def one_weight(tensors: dict[str, Tensor]) -> None:
    tensors["integer.hyper.2.weight"][3, 1, 2, 0] += 1


def every_feature(tensors: dict[str, Tensor]) -> None:
    tensors["integer.hyper.2.bias"] += 1 << 26


def picture() -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(size=(70, 50, 3)).cumsum(0).cumsum(1)
    return (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def test_one_other_weight_gives_another_parse_id_and_refuses_older_files(
    model: Model, tiny_model_folder: Path, tmp_path: Path
) -> None:
    other = load_model(str(altered_model(tiny_model_folder / "tiny", tmp_path, one_weight, honest=True)), "cpu")
    assert other.parse_id != model.parse_id
    written = PictureEncoder(picture(), model).code(2000).container
    with pytest.raises(ModelError, match=model.parse_id.hex()):
        parse.parse(written, other)


def test_weights_under_a_parse_id_that_is_not_theirs_are_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = altered_model(tiny_model_folder / "tiny", tmp_path, one_weight, honest=False)
    with pytest.raises(ModelError, match="parse id"):
        load_model(str(folder), "cpu")


def test_a_machine_that_computes_otherwise_is_detected(model: Model, tiny_model_folder: Path, tmp_path: Path) -> None:
    """Other integers under the right id stand for a machine with wrong arithmetic; the CRC of the symbols differs."""
    other = load_model(str(altered_model(tiny_model_folder / "tiny", tmp_path, every_feature, honest=True)), "cpu")
    written = PictureEncoder(picture(), model).code(3000)
    assert np.array_equal(parse.parse(written.container, model).symbols, written.parsed.symbols)
    liar = replace(other, parse_id=model.parse_id, coders={model.parse_id: other.coder})
    with pytest.raises(DamagedError):
        parse.parse(container.read(container.write(written.container)), liar)
