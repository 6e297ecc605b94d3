"""Weights files: what is not whole, finite and honest is refused in one line, and a picture finds its model."""

import json
import math
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldcodec.codec import decode_array, encode
from ldcodec.encoder.library import find_model
from ldcodec.engine.cpumodel import load_model as load_by_ncnn
from ldcodec.entropy.config import BASE
from ldcodec.entropy.modelfiles import FILE_NAME, SEARCH_VARIABLE, find_file, known_models
from ldcodec.entropy.weights import SCALE, parse_ids, read_tensors, view_tensors
from ldcodec.errors import ModelError, UsageError
from ldcodec.nets.model import DEFAULT_MODEL, Model, load_model, parse_id, save_model
from ldcodec.training.release import integer_tensors
from ldcodec.training.start import load_networks
from tests.conftest import ONE_SHOT, TINY, tiny_integers, tiny_networks
from tests.pictures import photo

Tensors = dict[str, Tensor]
Metadata = dict[str, str]


def stored(path: Path) -> tuple[Tensors, Metadata]:
    with safe_open(str(path), "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture
def sound(tiny_model_folder: Path) -> tuple[Tensors, Metadata]:
    """Tensors and metadata of the tiny model, which tests may spoil."""
    return stored(tiny_model_folder / "tiny" / FILE_NAME)


def refused(path: Path, message: str | None = None) -> None:
    """Loading raises a ModelError of one line that names the file or the part of it."""
    with pytest.raises(ModelError, match=message) as error:
        load_model(str(path), "cpu")
    assert "\n" not in str(error.value)


def saved(folder: Path, tensors: Tensors, metadata: Metadata) -> Path:
    path = folder / FILE_NAME
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(path), metadata)
    return path


def honest(tensors: Tensors, metadata: Metadata) -> Metadata:
    """Metadata with the parse ids of the tensors, so that something else must get the file refused."""
    return metadata | {name: found.hex() for name, found in ids_of(tensors).items()}


def test_a_model_comes_back_as_it_was_saved(tiny_model_folder: Path, model: Model) -> None:
    networks = tiny_networks()
    assert model.name == "tiny" and model.networks.config == TINY
    assert model.parse_id == parse_id(tiny_integers(networks))
    found = model.networks.state_dict()
    for name, tensor in networks.state_dict().items():
        expected = tensor.half().float() if tensor.numel() > 1024 else tensor
        assert torch.equal(found[name], expected), name
    assert not any(parameter.requires_grad for parameter in model.networks.parameters())
    assert not model.networks.training


def test_full_precision_can_be_kept(tmp_path: Path) -> None:
    networks = tiny_networks()
    identity = save_model(tmp_path / "full" / FILE_NAME, networks, integer_tensors(networks), half=False)
    found = load_model(str(tmp_path / "full"), "cpu")
    assert found.parse_id == identity
    assert all(torch.equal(found.networks.state_dict()[k], v) for k, v in networks.state_dict().items())


def test_weights_of_8_bits_are_floats_to_whoever_reads_them(tiny_model_folder: Path, tmp_path: Path) -> None:
    name, path = "analysis.blocks16.0.first.weight", tiny_model_folder / "one-shot" / FILE_NAME
    kept, found = stored(path)[0], tiny_networks(ONE_SHOT).get_parameter(name).detach()
    whole, scale = kept[f"net.{name}"], kept[f"net.{name}{SCALE}"]
    assert whole.dtype == torch.int8 and [int(row.abs().max()) for row in whole] == [127] * len(whole)
    readers = [read_tensors(path)[0][f"net.{name}"], view_tensors(path, (f"net.{name}",))[f"net.{name}"]]
    assert np.array_equal(*readers) and str(readers[1].dtype) == "float32"
    networks = [load_model(str(path), "cpu").networks, load_networks(path)]
    for read in [readers[0], *(some.get_parameter(name) for some in networks)]:
        assert torch.equal(read, readers[0]) and ((read - found).abs() <= 0.501 * scale[:, None, None, None]).all()
    assert not any(name.endswith(SCALE) and ("klt" in name or "synthesis" in name) for name in kept)


def test_weights_of_8_bits_without_their_scale_are_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    tensors, metadata = stored(tiny_model_folder / "one-shot" / FILE_NAME)
    name = f"net.analysis.blocks16.0.first.weight{SCALE}"
    for spoilt in (tensors[name][:-1], tensors[name][None], tensors[name].half(), tensors[name][0]):
        refused(saved(tmp_path, tensors | {name: spoilt}, metadata), f"{name} is not the scale")
    kind = tensors[name.removesuffix(SCALE)].to(torch.uint8)
    refused(saved(tmp_path, tensors | {name.removesuffix(SCALE): kind}, metadata), "is not the scale")
    refused(saved(tmp_path, tensors | {name: math.inf * tensors[name]}, metadata), "not finite")
    refused(saved(tmp_path, tensors | {f"net.nothing{SCALE}": tensors[name].clone()}, metadata), "is not the scale")
    tensors.pop(name)
    refused(saved(tmp_path, tensors, metadata), "must hold floats")
    with pytest.raises(ModelError, match="not finite floats"):
        encode(photo(96, 64), quality=40, model=load_by_ncnn(str(tmp_path / FILE_NAME), 1))


def test_a_loaded_model_is_kept_and_a_changed_file_read_anew(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_folder / "tiny", tmp_path / "copy")
    first = load_model(str(folder), "cpu")
    assert load_model(str(folder / FILE_NAME), "cpu") is first
    tensors, metadata = stored(folder / FILE_NAME)
    tensors["net.gain.out.bias"] += 1
    saved(folder, tensors, metadata)
    assert not torch.equal(load_model(str(folder), "cpu").networks.gain.out.bias, first.networks.gain.out.bias)


def test_values_that_are_not_finite_are_refused(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    for name in ("net.std", "net.synthesis.klt", "net.denoiser.head.bias"):
        for value in (math.nan, math.inf, -math.inf):
            spoilt = tensors[name].clone()
            spoilt.view(-1)[-1] = value
            refused(saved(tmp_path, tensors | {name: spoilt}, metadata), f"{name} .*not finite")


@pytest.mark.slow
def test_every_tensor_is_needed(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    tables = [name for name in tensors if name.startswith(LATER)]
    for name in ["coder.counts", "coder.reach", *tables, *list(tensors)[::5]]:
        rest = {k: v for k, v in tensors.items() if k != name}
        refused(saved(tmp_path, rest, honest(rest, metadata)), f"{name} is missing")


def test_a_wrong_shape_is_refused(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    convolutions = ["net.analysis.stem.weight", "integer.hyper.1.weight"]
    for name in [*convolutions, "integer.z_index", "integer.table.floor"]:
        spoilt = tensors | {name: tensors[name][:-1]}
        refused(saved(tmp_path, spoilt, honest(spoilt, metadata)), f"{name} has shape")


def test_a_model_without_the_newer_ids_is_read(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    for missing, keys in (("neighbours.", ["trellis_id"]), (LATER, ["trellis_id", "scalar_id"])):
        rest = {k: v for k, v in tensors.items() if not k.startswith(missing)}
        older = {k: v for k, v in honest(rest, metadata).items() if k not in keys}
        found = load_model(str(saved(tmp_path, rest, older)), "cpu")
        assert (found.coder.trellis is None) == (missing == LATER) and len(found.coders) == 3 - len(keys)


def test_frequency_tables_of_a_wrong_shape_are_refused(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    for name in ("coder.counts", "coder.reach", "trellis.counts", "trellis.reach"):
        for wrong in (tensors[name][:-1], tensors[name][None], tensors[name][:0], tensors[name] - 1):
            spoilt = tensors | {name: wrong}
            refused(saved(tmp_path, spoilt, honest(spoilt, metadata)), "frequency tables")


def test_tables_of_the_trellis_of_a_wrong_shape_are_refused(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    for name in ("trellis.odd", "moments.inwards", "moments.deviation"):
        for wrong in (tensors[name][:-1], tensors[name][None], tensors[name][:0], tensors[name][:, :1]):
            spoilt = tensors | {name: wrong}
            refused(saved(tmp_path, spoilt, honest(spoilt, metadata)), "of the trellis")
    fewer = {"trellis.reach": tensors["trellis.reach"][:-1]}
    fewer["trellis.counts"] = tensors["trellis.counts"][: int((fewer["trellis.reach"] + 2).sum())]
    refused(saved(tmp_path, tensors | fewer, honest(tensors | fewer, metadata)), "of the trellis")


def test_values_that_no_trellis_can_have_are_refused(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    for name, value in (("trellis.odd", 0), ("trellis.odd", 1 << 24), ("moments.deviation", 0)):
        spoilt = tensors[name].clone()
        spoilt.view(-1)[-1] = value
        refused(saved(tmp_path, tensors | {name: spoilt}, honest(tensors | {name: spoilt}, metadata)), "of the trellis")


def test_parse_critical_tensors_hold_integers(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    for name in ("integer.hyper.2.weight", "coder.counts"):
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool):
            spoilt = tensors | {name: tensors[name].to(dtype)}
            refused(saved(tmp_path, spoilt, metadata), f"{name} must hold integers")


def test_the_other_tensors_hold_floats(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    for dtype in (torch.int32, torch.uint8, torch.bool):
        spoilt = tensors | {"net.synthesis.stem.weight": tensors["net.synthesis.stem.weight"].to(dtype)}
        refused(saved(tmp_path, spoilt, metadata), "must hold floats")


def changed(**entries: object) -> str:
    return json.dumps(asdict(TINY) | entries)


def test_a_configuration_that_is_not_this_models_is_refused(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    wrong: list[dict[str, object]] = [{"colour": 3}, {"latent": 33}, {"latent": 0}, {"latent": 36}]
    wrong += [{"context": 2.5}, {"context": True}, {"width8": "8"}, {"blocks8": 1 << 40}, {"denoiser_blocks": 2}]
    junk = ["{}", "[]", "[1]", "null", "7", "{", "", "[" * 100_000]
    for config in [*(changed(**entries) for entries in wrong), *junk]:
        refused(saved(tmp_path, tensors, metadata | {"config": config}), "configuration|missing|shape")


def test_metadata_that_lie_are_refused(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    tensors, metadata = sound
    lies: list[tuple[str, str | None, str]] = [("format", "ldcodec-weights-0", "format"), ("format", None, "format")]
    lies += [("config", None, "configuration"), ("parse_id", None, "parse id"), ("parse_id", "00" * 8, "parse id")]
    for older in ("trellis_id", "scalar_id"):
        lies += [(older, "00" * 8, "parse id"), (older, metadata["parse_id"], "parse id")]
    for field, value, message in lies:
        entries = {name: text for name, text in (metadata | {field: value}).items() if text is not None}
        refused(saved(tmp_path, tensors, entries), message)


def no_header(length: int) -> bytes:
    return struct.pack("<Q", length) + b"{" * 64


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    junk = [b"", bytes(7), b"\x89PNG\r\n\x1a\n" * 20, no_header(64), no_header(1 << 62), b"text\n" * 50]
    for content in junk:
        (tmp_path / FILE_NAME).write_bytes(content)
        refused(tmp_path / FILE_NAME, "safetensors")


def test_a_file_cut_short_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    data = (tiny_model_folder / "tiny" / FILE_NAME).read_bytes()
    for length in (4, 8, 100, len(data) // 2, len(data) - 1):
        (tmp_path / FILE_NAME).write_bytes(data[:length])
        refused(tmp_path / FILE_NAME, "safetensors")
        with pytest.raises(ModelError, match="safetensors"):
            view_tensors(tmp_path / FILE_NAME, ("",))


def test_views_of_tensors_hold_what_the_library_reads(sound: tuple[Tensors, Metadata], tmp_path: Path) -> None:
    views = view_tensors(saved(tmp_path, *sound), ("net.", "integer."))
    assert len(views) > 10 and all(np.array_equal(view, sound[0][name].numpy()) for name, view in views.items())
    assert all(view.dtype == sound[0][name].numpy().dtype for name, view in views.items())


def test_a_type_that_numpy_lacks_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    path = saved(tmp_path, {"net.a": torch.ones(2, dtype=torch.bfloat16), "net.b": torch.ones(2)}, {})
    assert view_tensors(path, ("net.b",))["net.b"].tolist() == [1, 1]
    with pytest.raises(ModelError, match="BF16"):
        view_tensors(path, ("net.",))


class Trap:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path, sound: tuple[Tensors, Metadata]) -> None:
    mark = tmp_path / "mark"
    (tmp_path / FILE_NAME).write_bytes(pickle.dumps(Trap(mark)))
    refused(tmp_path / FILE_NAME, "safetensors")
    torch.save({"state": sound[0], "trap": Trap(mark)}, tmp_path / FILE_NAME)
    refused(tmp_path / FILE_NAME, "safetensors")
    assert not mark.exists()


def test_missing_models_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEARCH_VARIABLE, str(tmp_path))
    for name in ("nowhere", str(tmp_path / "nowhere"), str(tmp_path), "", "a\0b", "."):
        if name:
            refused(Path(name), "no model")
    with pytest.raises(ModelError, match=SEARCH_VARIABLE):
        find_file("nowhere")


def test_names_are_looked_up_along_the_search_path(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        SEARCH_VARIABLE, os.pathsep.join([str(tmp_path / "missing"), str(tmp_path), "", str(tiny_model_folder)])
    )
    assert find_file("tiny") == tiny_model_folder / "tiny" / FILE_NAME
    shutil.copytree(tiny_model_folder / "tiny", tmp_path / "tiny")
    assert find_file("tiny") == tmp_path / "tiny" / FILE_NAME
    shutil.copytree(tiny_model_folder / "tiny", tmp_path / DEFAULT_MODEL)
    assert load_model(device="cpu").name == DEFAULT_MODEL
    assert find_file(str(tmp_path / "tiny")) == tmp_path / "tiny" / FILE_NAME


def test_a_file_finds_its_model_by_the_parse_id(
    model: Model,
    older_model: Model,
    scalar_model: Model,
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(tiny_model_folder / "tiny", tmp_path / "renamed")
    for junk in (b"", no_header(64), struct.pack("<Q", 100_000) + b"[" * 100_000, no_header(2) + b"[]"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / FILE_NAME).write_bytes(junk)
        monkeypatch.setenv(SEARCH_VARIABLE, str(tmp_path))
        known = {identity.hex() for identity in model.coders}
        assert len(known) == 3 and (tmp_path / "renamed" / FILE_NAME, known) in list(known_models())
        assert {find_model(identity, "cpu").name for identity in model.coders} == {"renamed"}
    picture = np.full((20, 30, 3), 77, np.uint8)
    for writer in (model, older_model, scalar_model):
        data = encode(picture, quality=50, model=writer)
        difference = decode_array(data).astype(int) - decode_array(data, model=writer)  # of ncnn and PyTorch
        assert np.abs(difference).max() <= 1


def test_an_unknown_parse_id_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEARCH_VARIABLE, str(tmp_path))
    with pytest.raises(ModelError, match="0123456789abcdef"):
        find_model(bytes.fromhex("0123456789abcdef"))


def ids_of(tensors: Tensors) -> dict[str, bytes]:
    """The parse ids of the newest files and of older ones, by their keys in the metadata."""
    return parse_ids({name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("net.")})


UNPARSED = ("net.", "moments.")
LATER = ("neighbours.", "trellis.", "moments.")  # what the first models do not have


def test_the_parse_ids_are_those_of_the_integers_alone(sound: tuple[Tensors, Metadata]) -> None:
    tensors, metadata = sound
    ids = ids_of(tensors)
    assert {key: identity.hex() for key, identity in ids.items()}.items() <= metadata.items()
    assert ids["parse_id"] == parse_id(tensors)
    assert len(set(ids.values())) == 3 and {len(identity) for identity in ids.values()} == {8}
    assert ids_of(dict(reversed(tensors.items()))) == ids
    assert ids_of({k: v for k, v in tensors.items() if not k.startswith(UNPARSED)}) == ids
    rendering = {k: v + 1 if k.startswith(UNPARSED) else v for k, v in tensors.items()}
    assert ids_of(rendering) == ids


def test_without_what_tells_them_apart_parse_ids_are_the_same(sound: tuple[Tensors, Metadata]) -> None:
    tensors, metadata = sound
    first = {k: v for k, v in tensors.items() if not k.startswith(LATER)}
    assert {identity.hex() for identity in ids_of(first).values()} == {metadata["scalar_id"]}
    second = {k: v for k, v in tensors.items() if not k.startswith("neighbours.")}
    assert [identity.hex() for identity in ids_of(second).values()] == [
        metadata["trellis_id"],
        metadata["trellis_id"],
        metadata["scalar_id"],
    ]


def test_the_parse_ids_cover_every_integer(sound: tuple[Tensors, Metadata]) -> None:
    """That is, the value, type, shape and name of each tensor; those of older files leave out what came later."""
    tensors, _ = sound
    changed = [(name, ids_of(other)) for name, other in one_change_each(tensors)]
    assert len(changed) > 100
    for key, later in (("parse_id", ()), ("trellis_id", ("neighbours.",)), ("scalar_id", ("neighbours.", "trellis."))):
        unchanged = ids_of(tensors)[key]
        covered = [ids[key] for name, ids in changed if not name.startswith(later)]
        assert len({unchanged, *covered}) == len(covered) + 1
        assert {ids[key] for name, ids in changed if name.startswith(later)} == ({unchanged} if later else set())


def one_change_each(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    """The tensors with one of those that say how to parse changed in one way, and its name."""
    for name, tensor in tensors.items():
        if name.startswith(UNPARSED):
            continue
        other = tensor.clone()
        other.view(-1)[-1] += 1
        for entries in ({name: other}, {name: tensor[None]}, {name: tensor.to(torch.int64)}, {f"{name}x": tensor}):
            yield name, {k: v for k, v in tensors.items() if k != name} | entries


def test_better_rendering_still_reads_older_files(
    model: Model, sound: tuple[Tensors, Metadata], tmp_path: Path
) -> None:
    tensors, metadata = sound
    tensors["net.synthesis.head.bias"] += 0.5
    newer = load_model(str(saved(tmp_path, tensors, metadata)), "cpu")
    data = encode(np.full((20, 30, 3), 77, np.uint8), quality=50, model=model, fallback=False)
    assert newer.parse_id == model.parse_id
    assert not np.array_equal(decode_array(data, model=newer), decode_array(data, model=model))


@pytest.mark.parametrize("device", ["gpu", "", "cpu:0", "cuda"])
def test_a_device_that_is_not_there_is_wrong_use(tiny_model_folder: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UsageError):
        load_model(str(tiny_model_folder / "tiny"), device)


def test_the_shipped_model_has_the_sizes_of_base(shipped_model: Model) -> None:
    assert shipped_model.networks.config == BASE
