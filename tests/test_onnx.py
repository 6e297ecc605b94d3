"""Models as ONNX graphs for other programs: they compute what torch does, and a folder appears whole or not at all."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ldcodec.codec import decode_array, encode
from ldcodec.diffusion.posterior import Condition
from ldcodec.entropy.config import Config
from ldcodec.entropy.modelfiles import FILE_NAME
from ldcodec.entropy.weights import read_integers
from ldcodec.errors import ModelError
from ldcodec.nets import onnx as exporter
from ldcodec.nets.model import DEFAULT_MODEL, Model, load_model, save_model
from ldcodec.nets.networks import Networks
from ldcodec.nets.onnx import export
from ldcodec.training.release import integer_tensors
from tests.commands import Call, environment, error_line
from tests.conftest import TINY, tiny_integers, tiny_networks
from tests.pictures import texture

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx", reason="the extra is not installed: pip install 'ldcodec[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra is not installed: pip install 'ldcodec[onnx]'")

ROOT = Path(__file__).resolve().parent.parent
OTHER = Config(
    latent=36, width8=12, width16=20, context=12, hyper=6, blocks8=2, blocks16=3, denoiser=16, denoiser_blocks=2,
    synthesis8=8, synthesis16=16, synthesis_blocks16=2, one_shot=1,
)  # fmt: skip
GRAPHS = ["condition", "denoiser", "synthesis", *(f"preview{scale}" for scale in (1, 2, 4, 8, 16))]
GRAPHS += [f"means{step}" for step in range(4) if TINY.one_shot]
FILES = sorted(["model.json", "integers.safetensors", *(f"{name}.onnx" for name in GRAPHS)])

Floats = NDArray[np.float32]


def textured(networks: Networks) -> Networks:
    """Add a second synthesis that differs visibly from the first."""
    networks.add_texture()
    networks.config = replace(networks.config, grain=100)
    assert networks.texture is not None
    with torch.no_grad():
        networks.texture.head.bias.add_(1.0)  # type: ignore[union-attr]
    return networks


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a second synthesis and their exports: `tiny` and tiny/onnx, `other` of other sizes."""
    folder = tmp_path_factory.mktemp("onnx")
    for name, config in (("tiny", TINY), ("other", OTHER)):
        networks = textured(tiny_networks(config))
        save_model(folder / name / FILE_NAME, networks, tiny_integers(networks))
        export(str(folder / name), folder / name / "onnx")
    return folder


def run(path: Path, *inputs: Tensor) -> list[Floats]:
    """The outputs of a graph for inputs in the graph's order."""
    session = onnxruntime.InferenceSession(str(path))
    names = [entry.name for entry in session.get_inputs()]
    found: list[Floats] = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    return found


@pytest.mark.parametrize("name", ["tiny", "other"])
@pytest.mark.parametrize("size", [(1, 1), (4, 7), (20, 3)])
@torch.no_grad()
def test_graphs_compute_what_torch_does_at_any_size(place: Path, name: str, size: tuple[int, int]) -> None:
    networks, folder = load_model(str(place / name), "cpu").networks, place / name / "onnx"
    torch.manual_seed(1)
    centre, u = 5 * torch.randn(2, 1, networks.config.latent, *size)
    deviation, scale = torch.rand_like(centre), 4 * torch.rand_like(centre)
    quality, time = torch.tensor([0.3]), torch.tensor([0.6])
    condition = Condition(centre, deviation, scale, quality)
    prepared = run(folder / "condition.onnx", centre, deviation, scale, quality)
    (v,) = run(folder / "denoiser.onnx", u, time, *map(torch.from_numpy, prepared))
    assert np.allclose(v, networks.denoiser(u, time, condition), atol=1e-5) and np.abs(v).max() > 0.1
    expected = {"synthesis": networks.picture(centre, quality), "texture": networks.picture(centre, quality, 1.0)}
    expected |= {f"preview{scale}": networks.preview(centre, quality, scale) for scale in (1, 2, 4, 8, 16)}
    for graph, wanted in expected.items():
        (picture,) = run(folder / f"{graph}.onnx", centre, quality)
        assert picture.shape == wanted.shape and np.allclose(picture, wanted, atol=1e-5), graph
    assert (expected["texture"] - expected["synthesis"]).abs().max() > 0.01


@torch.no_grad()
def test_graphs_of_a_one_shot_model_predict_means(place: Path) -> None:
    networks, folder = load_model(str(place / "other"), "cpu").networks, place / "other" / "onnx"
    torch.manual_seed(1)
    context, decoded = 3 * torch.randn(1, OTHER.context, 8, 12), torch.randn(1, OTHER.latent, 8, 12)
    for step in range(4):
        inputs = (context, decoded) if step else (context,)
        (means,) = run(folder / f"means{step}.onnx", *inputs)
        wanted = networks.means(step, context[0].numpy(), decoded[0].numpy())
        assert means.shape == (1, OTHER.latent, 4, 6) and np.abs(wanted).max() > 0.1
        assert np.allclose(means[0], wanted, atol=1e-5)


def test_the_example_draws_the_decoders_picture(
    shipped_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the shipped model, whose graphs also agree with torch to many digits."""
    monkeypatch.chdir(tmp_path)
    exported = export(DEFAULT_MODEL, Path("networks"))
    assert exported.difference < 1e-4
    assert exported.size == sum(path.stat().st_size for path in Path("networks").iterdir())
    data = encode(texture(75, 130), quality=50, model=shipped_model, fallback=False)
    Path("photo.ldc").write_bytes(data)
    (example,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "onnx.md").read_text(), re.M | re.S)
    done = subprocess.run([sys.executable, "-c", example], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open("photo.png") as drawn:
        difference = np.abs(np.asarray(drawn).astype(int) - decode_array(data, model=shipped_model))
    assert difference.max() <= 1 and (difference > 0).mean() < 2e-3


def test_files_say_what_they_belong_to(place: Path) -> None:
    model, folder = load_model(str(place / "other"), "cpu"), place / "other" / "onnx"
    described = json.loads((folder / "model.json").read_text())
    steps = [f"means{step}.onnx" for step in range(4)]
    assert sorted(path.name for path in folder.iterdir()) == sorted({*FILES, "texture.onnx", *steps})
    assert (described["name"], described["textured"]) == ("other", True)
    identities = [described[key] for key in ("parse_id", "trellis_id", "scalar_id")]
    assert identities == [identity.hex() for identity in model.coders] and len(set(identities)) == 3
    assert described["config"] == asdict(replace(OTHER, grain=100))
    assert described["denoiser_halo"] == OTHER.denoiser_halo and described["synthesis_halo"] == OTHER.synthesis.halo
    weights, _ = read_integers(place / "other" / FILE_NAME)
    integers, metadata = read_integers(folder / "integers.safetensors")
    assert integers.keys() == weights.keys() and all(np.array_equal(integers[name], weights[name]) for name in weights)
    stamps = {path.name: stamp_of(path) for path in folder.glob("*.onnx")} | {"integers": metadata["ldcodec-stamp"]}
    assert set(stamps.values()) == {described["stamp"]}
    assert described["stamp"] != json.loads((place / "tiny" / "onnx" / "model.json").read_text())["stamp"]


def stamp_of(path: Path) -> str:
    return str({entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}["ldcodec-stamp"])


def stored(path: Path, name: str) -> Any:
    """The type of the tensor of a graph whose name begins like that."""
    (kind,) = (tensor.data_type for tensor in onnx.load(str(path)).graph.initializer if tensor.name.startswith(name))
    return onnx.TensorProto.DataType.Name(kind)


def test_weights_are_halved_where_that_loses_nothing(place: Path, tmp_path: Path) -> None:
    networks = tiny_networks()
    with torch.no_grad():
        networks.synthesis.stem.weight.fill_(1 / 3)
    save_model(tmp_path / "whole" / FILE_NAME, networks, integer_tensors(networks), half=False)
    export(str(tmp_path / "whole"), tmp_path / "net")
    name = "networks.synthesis.stem.weight"
    assert stored(place / "tiny" / "onnx" / "synthesis.onnx", name) == "FLOAT16"
    assert stored(tmp_path / "net" / "synthesis.onnx", name) == "FLOAT"


def test_a_model_without_a_second_synthesis_has_no_graph_of_one(tiny_model_folder: Path, tmp_path: Path) -> None:
    export(str(tiny_model_folder / "tiny"), tmp_path / "net")
    assert sorted(os.listdir(tmp_path / "net")) == FILES
    assert json.loads((tmp_path / "net" / "model.json").read_text())["textured"] is False


@pytest.mark.parametrize("amount", [0.01, np.nan])
@pytest.mark.parametrize("name", [*GRAPHS, "texture"])
def test_graphs_that_compute_something_else_are_not_exported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, amount: float
) -> None:
    """A single value is off."""
    right = onnxruntime.InferenceSession.run

    def wrong(self: Any, *arguments: Any) -> list[Floats]:
        found: list[Floats] = right(self, *arguments)
        if f"{name}.onnx" in self._model_path:
            found[0].flat[-1] += amount * max(1, np.abs(found[0].flat[-1]))
        return found

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", wrong)
    with pytest.raises(ModelError, match=f"its graph {name} computes other values than torch, by up to (0.01|nan)"):
        export(str(place / "tiny"), tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_packages_that_are_missing_are_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "find_spec", lambda name: None)
    code, _, err = call("export", "--onnx", "net", "--model", "tiny")
    assert code == 1 and "onnx and onnxruntime: pip install 'ldcodec[onnx]'" in error_line(err)


def test_the_command_exports_and_keeps_what_is_there(
    call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LDCODEC_MODELS", str(place))
    shutil.copytree(place / "tiny" / "onnx", "a/net")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "net").iterdir()}
    code, _, err = call("export", "--onnx", "a/net", "--model", "tiny")
    assert code == 1 and "--force" in error_line(err)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "net").iterdir()} == before
    code, out, err = call("export", "--onnx", "a/net", "--model", "other", "--force")
    assert code == 0 and not err and re.fullmatch(r"other → a/net  \d+ bytes  values within \S+ of torch's\n", out)
    assert json.loads(Path("a/net/model.json").read_text())["name"] == "other"
    code, _, err = call("export", "--onnx", "net", "--model", "none")
    assert code == 1 and "no model 'none'" in error_line(err)
    Path("file").touch()
    code, _, err = call("export", "--onnx", "file/net", "--model", "tiny")
    assert code == 1 and error_line(err).startswith("ldcodec: error: file/net: ")
    assert sorted(os.listdir()) == ["a", "file"] and os.listdir("a") == ["net"]


@pytest.mark.parametrize("mine", ["notes.txt", "model.json"])
def test_a_folder_with_anything_else_is_never_replaced(call: Call, place: Path, mine: str) -> None:
    """Neither an export with a file of the user's nor a folder that only looks like one."""
    if mine == "notes.txt":
        shutil.copytree(place / "tiny" / "onnx", "net")
    Path("net").mkdir(exist_ok=True)
    (Path("net") / mine).write_text("mine")
    code, _, err = call("export", "--onnx", "net", "--model", "tiny", "--force")
    assert code == 1 and "holds no export that --force could replace" in error_line(err)
    assert (Path("net") / mine).read_text() == "mine"
