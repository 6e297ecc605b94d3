"""The integer rate model, in both of its arithmetics, against the same networks in plain int64, and what it refuses."""

import json
from collections.abc import Callable
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
from ldcodec.entropy.weights import integer_shapes
from ldcodec.errors import DamagedError, ModelError
from ldcodec.nets.model import DEFAULT_MODEL, Model, load_model, parse_id
from ldcodec.nets.tensors import TorchArithmetic

TORCH, NUMPY = TorchArithmetic(torch.device("cpu")), NumpyArithmetic()
both = pytest.mark.parametrize("arithmetic", [TORCH, NUMPY], ids=["torch", "numpy"])
WILD = Config(latent=8, context=8, hyper=4)
TOP = 2**19 - 1  # the largest activation
POSITIONS = ((0, 3, 1, 2), (3, 0, 2, 1), (1, 2, 0, 3), (2, 1, 3, 0))  # of each channel group in each step

Array = NDArray[np.int64]
Entries = dict[str, NDArray[Any]]


class Reference:
    """The networks of docs/parsing.md in plain NumPy integers."""

    def __init__(self, entries: Entries) -> None:
        self.entries = {name: np.asarray(array, np.int64) for name, array in entries.items()}

    def layer(self, name: str, x: Array) -> Array:
        weight, bias, shift = (self.entries[f"{name}.{part}"] for part in ("weight", "bias", "shift"))
        size, (height, width) = weight.shape[2], x.shape[1:]
        padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
        total = np.zeros((len(weight), height, width), np.int64) + bias[:, None, None]
        for row in range(size):
            for column in range(size):
                window = padded[:, row : row + height, column : column + width]
                total += np.tensordot(weight[:, :, row, column], window, 1)
        return np.floor_divide(total, 2 ** int(shift))

    def hidden(self, name: str, x: Array) -> Array:
        y = self.layer(name, x)
        return np.clip(np.maximum(y, y >> 3), -TOP, TOP)

    def row(self, table: str, index: int) -> Array:
        knot, rest = divmod(index * 64, 4095)
        rows = self.entries[f"table.{table}"].tolist()
        pairs = zip(rows[knot], rows[min(knot + 1, 64)], strict=True)
        return np.array([(a * (4095 - rest) + b * rest) // 4095 for a, b in pairs])[:, None, None]

    def features(self, hyper: Array, index: int) -> Array:
        x = doubled(self.hidden("hyper.0", np.clip(hyper, -TOP, TOP)))
        x = self.hidden("hyper.2", doubled(self.hidden("hyper.1", x)))
        return np.clip((x * self.row("factor", index)) >> 10, -TOP, TOP)

    def priors(self, hyper: Array, index: int, symbols: Array) -> tuple[Array, Array]:
        """Mean and scale index of every element, [M, h, w], where `symbols` is what gets decoded."""
        features = self.features(hyper, index)
        decoded, mean, scale = (np.zeros_like(symbols) for _ in range(3))
        for step, positions in enumerate(POSITIONS):
            ratio = np.clip((decoded * self.row("reciprocal", index)) >> 11, -TOP, TOP)
            x = self.hidden(f"steps.{step}.mix", np.concatenate([features, ratio]) if step else features)
            x = self.hidden(f"steps.{step}.spatial", x)
            heads = [np.clip(self.layer(f"steps.{step}.{head}", x), -(2**23), 2**23) for head in ("mean", "scale")]
            means = np.clip((heads[0] * self.row("floor", index)) >> 15, -(2**25), 2**25)
            scales = np.clip((heads[1] + self.row("log_expected", index)) >> 8, 0, 63)
            for area in areas(len(symbols), positions):
                mean[area], scale[area] = means[area], scales[area]
                decoded[area] = np.clip(symbols[area] * 512 + means[area], -(2**25), 2**25)
        return mean, scale


def doubled(x: Array) -> Array:
    """[4n, h, w] → [n, 2h, 2w]: channel 4c + 2i + j becomes row i, column j of every cell of channel c."""
    out = np.zeros((len(x) // 4, 2 * x.shape[1], 2 * x.shape[2]), np.int64)
    for i in range(2):
        for j in range(2):
            out[:, i::2, j::2] = x[2 * i + j :: 4]
    return out


def areas(channels: int, positions: tuple[int, ...]) -> list[tuple[slice, slice, slice]]:
    size = channels // 4
    return [
        (slice(group * size, (group + 1) * size), slice(p // 2, None, 2), slice(p % 2, None, 2))
        for group, p in enumerate(positions)
    ]


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


def compare(model: IntegerRateModel, reference: Reference, seed: int, size: tuple[int, int], quality: int) -> None:
    """Compare on random symbols, some of them large. All but the last row and the last two columns are coded."""
    rng = np.random.default_rng(seed)
    (h, w), reach = size, rng.choice([2, 40, 32768])
    coded = h - 1, w - 2
    hyper = rng.integers(1 - reach, reach, (model.config.hyper, h // 4, w // 4)).astype(np.int32)
    symbols = np.zeros((model.config.latent, h, w), np.int64)
    symbols[:, : coded[0], : coded[1]] = rng.integers(1 - reach, reach, (model.config.latent, *coded))
    asked: list[NDArray[np.intp]] = []

    def code(prior: Prior) -> NDArray[np.int32]:
        asked.append(prior.places)
        assert np.array_equal(prior.mean, mean.flat[prior.places])
        assert np.array_equal(prior.index, scale.flat[prior.places])
        return symbols.flat[prior.places].astype(np.int32)

    mean, scale = reference.priors(hyper.astype(np.int64), quality, symbols)
    parsed = model.parse(hyper, quality, coded, code)
    assert np.array_equal(parsed.mean, mean)
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


@both
def test_the_tiny_model_agrees_with_the_reference(
    model: Model, tiny_model_folder: Path, arithmetic: Arithmetic
) -> None:
    entries = model_entries(tiny_model_folder / "tiny")
    integers = IntegerRateModel(model.networks.config, entries, arithmetic)
    for quality in (0, 1, 63, 64, 2047, 4032, 4094, 4095):
        for number, size in enumerate([(4, 4), (8, 4), (4, 20), (12, 16)]):
            compare(integers, Reference(entries), 10 * quality + number, size, quality)


def test_the_shipped_model_agrees_with_the_reference(shipped_model: Model) -> None:
    reference = Reference(model_entries(find_file(DEFAULT_MODEL).parent))
    for quality in (700, 3900):
        compare(shipped_model.integers, reference, quality, (4, 8), quality)


@both
def test_wild_weights_agree_with_the_reference(arithmetic: Arithmetic) -> None:
    for seed in range(12):
        entries = wild_entries(seed)
        reference, model = Reference(entries), IntegerRateModel(WILD, entries, arithmetic)
        for number, quality in enumerate([0, 1000, 4095]):
            compare(model, reference, 100 * seed + number, (8, 12), quality)


def test_wild_weights_meet_the_clamps() -> None:
    """Without this, the test above could miss errors in the clamps."""
    rng, hidden, means, scales = np.random.default_rng(0), [], [], []
    for seed in range(12):
        reference = Reference(wild_entries(seed))
        hyper, symbols = rng.integers(-40, 41, (4, 2, 3)), rng.integers(-40, 41, (8, 8, 12))
        hidden.append(reference.features(hyper, 1000))
        mean, scale = reference.priors(hyper, 1000, symbols)
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


def altered_model(source: Path, folder: Path, alter: Callable[[dict[str, Tensor]], None], honest: bool) -> Path:
    """A copy of a model with altered tensors; if honest, with the parse id that belongs to them."""
    with safe_open(str(source / "model.safetensors"), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    alter(tensors)
    metadata |= {"parse_id": parse_id(tensors).hex()} if honest else {}
    assert json.loads(metadata["config"])["latent"] == 32
    save_file(tensors, str(folder / "model.safetensors"), metadata)
    return folder


def one_weight(tensors: dict[str, Tensor]) -> None:
    tensors["integer.steps.2.spatial.weight"][3, 1, 2, 0] += 1


def every_mean(tensors: dict[str, Tensor]) -> None:
    tensors["integer.steps.0.mean.bias"] += 1 << 22


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
    other = load_model(str(altered_model(tiny_model_folder / "tiny", tmp_path, every_mean, honest=True)), "cpu")
    written = PictureEncoder(picture(), model).code(3000)
    assert np.array_equal(parse.parse(written.container, model).symbols, written.parsed.symbols)
    liar = replace(other, parse_id=model.parse_id)
    with pytest.raises(DamagedError):
        parse.parse(container.read(container.write(written.container)), liar)
