"""Decoding through onnxruntime and NumPy: torch's pictures and symbols, without torch; errors are one line."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import PREVIEW_SCALES
from ldcodec.codec import encode
from ldcodec.decoder.parse import parse_slice
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.decoder.restore import restore
from ldcodec.entropy.config import Config
from ldcodec.errors import LdcodecError, ModelError
from ldcodec.nets.model import DEFAULT_MODEL, Model, load_model, save_model
from ldcodec.nets.networks import Networks
from ldcodec.onnx import exporter
from ldcodec.onnx.exporter import export
from ldcodec.onnx.folder import DESCRIPTION, INTEGERS, describe, graph_names
from ldcodec.onnx.runtime import Graphs, OnnxModel, load
from ldcodec.pictures.picture import Picture
from ldcodec.training.codebook import first_tables, trellis_tensors
from ldcodec.training.fitting import analysed, fitted, neighbour_tensors
from ldcodec.training.release import integer_tensors
from tests.commands import Call, environment, error_line
from tests.conftest import TINY, patterns, tiny_networks, without_trellis
from tests.pictures import texture

pytestmark = pytest.mark.slow

pytest.importorskip("onnx", reason="the extra is not installed: pip install 'ldcodec[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra is not installed: pip install 'ldcodec[onnx]'")

ROOT = Path(__file__).resolve().parent.parent
OTHER = Config(
    latent=36, width8=12, width16=20, context=12, hyper=6, blocks8=2, blocks16=3, denoiser=16, denoiser_blocks=2
)
QUANTISERS: dict[str, Callable[[Model], Model]] = {"trellis": lambda model: model, "scalar": without_trellis}
WITHOUT_TORCH = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
from ldcodec.cli import run
for line in sys.stdin:
    if code := run(line.split()):
        sys.exit(code)
"""

Pixels = NDArray[np.uint8]


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
        integers = integer_tensors(networks) | trellis_tensors(first_tables())
        integers |= neighbour_tensors(fitted(analysed(networks, patterns(0, 1)), hidden=8))
        save_model(folder / name / "model.safetensors", networks, integers)
        export(str(folder / name), folder / name / "onnx")
    return folder


@pytest.fixture(scope="session")
def original(place: Path) -> Model:
    """The model `tiny` in torch."""
    return load_model(str(place / "tiny"), "cpu")


@pytest.fixture(scope="session")
def exported(place: Path) -> OnnxModel:
    """The same model through onnxruntime."""
    return load(place / "tiny" / "onnx", 1)


@pytest.fixture
def copied(place: Path, tmp_path: Path) -> Path:
    """A copy of the export that a test may damage."""
    shutil.copytree(place / "tiny" / "onnx", tmp_path / "net")
    return tmp_path / "net"


def decoded(data: bytes, model: DecoderModel, settings: DecodeSettings, view: Request | None = None) -> Picture:
    return restore(Reader(io.BytesIO(data)), lambda parse_id: model, settings, view)


def difference(first: Picture, second: Picture) -> int:
    """The largest difference between two pictures, in levels."""
    assert first.pixels.shape == second.pixels.shape and first.pixels.dtype == second.pixels.dtype == np.uint8
    return int(np.abs(first.pixels.astype(int) - second.pixels).max())


SETTINGS = [
    DecodeSettings(),
    DecodeSettings(realism=0.4),
    DecodeSettings(realism=1.0),
    DecodeSettings(steps=1, realism=1.0),
    *(DecodeSettings(steps=3, realism=0.8, sampler=name, seed=7) for name in ("ddim", "ddpm", "heun", "sde")),
]


@pytest.mark.parametrize("number", range(len(SETTINGS)), ids=[f"{s.sampler}-{s.steps}-{s.realism}" for s in SETTINGS])
def test_pictures_are_those_of_torch(original: Model, exported: OnnxModel, number: int) -> None:
    """Every other case in grey."""
    settings = SETTINGS[number]
    pixels = texture(75, 130)[:, :, 1] if number % 2 else texture(75, 130)
    data = encode(pixels, quality=50, model=original)
    assert difference(decoded(data, exported, settings), decoded(data, original, settings)) <= 1


def test_realism_is_seen(original: Model, exported: OnnxModel) -> None:
    """The test above would pass if nothing depended on the settings."""
    data = encode(texture(64, 64), quality=50, model=original)
    shown = [decoded(data, exported, settings) for settings in (SETTINGS[0], SETTINGS[1], SETTINGS[2], SETTINGS[5])]
    assert all(difference(shown[0], other) > 3 for other in shown[1:]) and difference(shown[1], shown[2]) > 3


@pytest.mark.parametrize("quantiser", QUANTISERS)
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (65, 200), (200, 65)])
def test_symbols_are_those_of_torch(
    original: Model, exported: OnnxModel, shape: tuple[int, int], quantiser: str
) -> None:
    data = encode(texture(*shape), quality=70, fallback=False, model=QUANTISERS[quantiser](original))
    source = Reader(io.BytesIO(data))
    assert source.header.trellis == (quantiser == "trellis")
    one, other = (parse_slice(source.slice(0), source.header, source.spans[0], model) for model in (original, exported))
    for field in ("symbols", "mean", "index", "kind"):
        assert np.array_equal(getattr(one, field), getattr(other, field))


def test_pictures_of_the_scalar_quantiser_are_those_of_torch(original: Model, exported: OnnxModel) -> None:
    data = encode(texture(75, 130), quality=50, model=without_trellis(original))
    for settings in SETTINGS[::3]:
        assert difference(decoded(data, exported, settings), decoded(data, original, settings)) <= 1


def test_the_ids_are_those_of_torch(place: Path, original: Model, exported: OnnxModel) -> None:
    assert exported.parse_id == original.parse_id and list(exported.coders) == list(original.coders)
    assert describe(place / "tiny" / "onnx").identities == [identity.hex() for identity in original.coders]


HEUN = SETTINGS[6]
VIEWS = [
    (Request(), SETTINGS[0]),
    (Request(), HEUN),
    (Request(region=(100, 140, 90, 16)), SETTINGS[0]),
    (Request(region=(100, 140, 90, 16)), HEUN),
    (Request(region=(100, 140, 90, 16)), DecodeSettings(draft=True)),
    *((Request(scale=scale), SETTINGS[0]) for scale in PREVIEW_SCALES),
]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("view", "settings"), VIEWS, ids=lambda v: str(getattr(v, "region", "")))
def test_slices_tiles_regions_and_previews_are_those_of_torch(
    original: Model, exported: OnnxModel, view: Request, settings: DecodeSettings
) -> None:
    data = encode(texture(300, 330), quality=60, model=original)
    assert len(Reader(io.BytesIO(data)).spans) > 2
    assert difference(decoded(data, exported, settings, view), decoded(data, original, settings, view)) <= 1


def test_damaged_files_are_salvaged_as_by_torch(original: Model, exported: OnnxModel, small_parts: None) -> None:
    data = encode(texture(300, 330), quality=60, model=original)
    altered = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    with pytest.warns(UserWarning, match="rows"):
        shown = [decoded(altered, model, DecodeSettings(), Request(salvage=True)) for model in (exported, original)]
    assert difference(*shown) <= 1


@pytest.mark.parametrize("grey", [False, True], ids=["rgb", "grey"])
def test_levels_are_those_of_torch(original: Model, exported: OnnxModel, grey: bool) -> None:
    """Including values half-way between two levels and beyond both ends."""
    steps = np.arange(-20, 540).astype(np.float32) / np.float32(510)
    picture = np.broadcast_to(steps, (3, 4, len(steps)))
    found = exported.networks.levels(picture, grey)
    assert np.array_equal(found, original.networks.levels(torch.tensor(picture), grey))
    assert found.flags.c_contiguous and found.min() == 0 and found.max() == 255


def test_networks_of_other_sizes_work(place: Path) -> None:
    model, other = load_model(str(place / "other"), "cpu"), load(place / "other" / "onnx", 1)
    assert other.parse_id == model.parse_id and describe(place / "other" / "onnx").config == replace(OTHER, grain=100)
    assert other.networks.denoiser_halo == model.networks.config.denoiser_halo
    assert other.networks.synthesis_halo == model.networks.config.transform_halo
    data = encode(texture(70, 150), quality=60, model=model)
    for settings in (DecodeSettings(), DecodeSettings(realism=1.0)):
        assert difference(decoded(data, other, settings), decoded(data, model, settings)) <= 1


def test_a_model_without_a_second_synthesis_has_no_graph_of_one(tiny_model_folder: Path, tmp_path: Path) -> None:
    export(str(tiny_model_folder / "tiny"), tmp_path / "net")
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == sorted(
        [DESCRIPTION, INTEGERS, *(f"{name}.onnx" for name in graph_names(textured=False))]
    )
    other, model = load(tmp_path / "net", 1), load_model(str(tiny_model_folder / "tiny"), "cpu")
    settings = DecodeSettings(steps=4, realism=0.5)
    assert settings.plan(other.networks.textured) == settings.plan(model.networks.textured)
    data = encode(texture(64, 80), quality=40, model=model)
    assert difference(decoded(data, other, settings), decoded(data, model, settings)) <= 1


def test_the_shipped_model_gives_the_pictures_of_torch(shipped_model: Model, tmp_path: Path) -> None:
    written = export(DEFAULT_MODEL, tmp_path / "net")
    assert written.difference < 0.1 and written.size == sum(
        path.stat().st_size for path in (tmp_path / "net").iterdir()
    )
    other = load(tmp_path / "net", 1)
    pixels = np.asarray(Image.open(ROOT / "ldcodec" / "bench" / "landscape.png"))[:200, :300, :3]
    data = encode(pixels, quality=50, model=shipped_model)
    for settings in (DecodeSettings(), DecodeSettings(realism=1.0)):
        assert difference(decoded(data, other, settings), decoded(data, shipped_model, settings)) <= 1


def without_torch(*lines: str, folder: Path, models: Path | str = "") -> "subprocess.CompletedProcess[str]":
    """Run command lines, one after the other, in a process that cannot import torch."""
    command, text = [sys.executable, "-c", WITHOUT_TORCH], "\n".join(lines)
    return subprocess.run(
        command, input=text, cwd=folder, env=environment(models), capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("quantiser", QUANTISERS)
@pytest.mark.usefixtures("small_parts")
def test_torch_is_not_needed(place: Path, original: Model, tmp_path: Path, quantiser: str) -> None:
    """A file of several slices with alpha and Exif, decoded by a process without torch."""
    image = Image.fromarray(np.dstack([texture(300, 330), np.full((300, 330), 99, np.uint8)]))
    exif = Image.Exif()
    exif[0x010E] = "a view"
    image.info["exif"] = exif.tobytes()
    data = encode(image, quality=40, fallback=False, model=QUANTISERS[quantiser](original))
    assert len(Reader(io.BytesIO(data)).spans) > 1
    (tmp_path / "a.ldc").write_bytes(data)
    cases = {
        "--realism 1": (DecodeSettings(realism=1.0), Request()),
        "--scale 1/4": (DecodeSettings(), Request(scale=4)),
        "--region 100,140,90,16": (DecodeSettings(), Request((100, 140, 90, 16))),
    }
    command = f"decompress a.ldc --onnx {place / 'tiny' / 'onnx'}"
    lines = [f"{command} -o {number}.png {options}" for number, options in enumerate(cases)]
    done = without_torch(*lines, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for number, (settings, view) in enumerate(cases.values()):
        with Image.open(tmp_path / f"{number}.png") as shown:
            found, read = np.asarray(shown), shown.getexif()
        assert read[0x010E] == "a view" and (found[:, :, 3] == 99).all()
        expected = decoded(data, original, settings, view).pixels
        assert np.abs(found[:, :, :3].astype(int) - expected).max() <= 1


@pytest.fixture
def refusal(call: Call, original: Model, tmp_path: Path) -> Callable[..., str]:
    """Run `decompress k.ldc` with some options, which must fail; returns the error line."""
    (tmp_path / "k.ldc").write_bytes(encode(texture(64, 64), quality=40, fallback=False, model=original))

    def run(*options: str | Path, exit_code: int = 1) -> str:
        code, out, err = call("decompress", "k.ldc", "-o", "k.png", *options)
        assert code == exit_code and not out and not (tmp_path / "k.png").exists()
        return error_line(err)

    return run


def spoil_format(folder: Path) -> None:
    text = (folder / DESCRIPTION).read_text()
    (folder / DESCRIPTION).write_text(text.replace("ldcodec-onnx-2", "ldcodec-onnx-9"))


def spoil_id(folder: Path) -> None:
    found = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(found | {"scalar_id": "no number"}))


def spoil_halo(folder: Path) -> None:
    found = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(found | {"synthesis_halo": "11"}))


def spoil_stamp(folder: Path) -> None:
    found = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(found | {"stamp": "0123456789abcdef"}))


def cut(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return spoil


DAMAGED: list[tuple[str, Callable[[Path], Any], str]] = [
    ("no folder", lambda folder: shutil.rmtree(folder), "holds no ONNX networks"),
    ("another version", spoil_format, "format"),
    ("a wrong type", spoil_halo, "not readable"),
    ("a wrong id", spoil_id, "not readable"),
    ("no JSON", cut(DESCRIPTION), "not readable"),
    ("too deep", lambda folder: (folder / DESCRIPTION).write_text("[" * 100_000), "not readable"),
    ("another stamp", spoil_stamp, "belongs to another export"),
    ("integers cut", cut(INTEGERS), "safetensors"),
    ("no integers", lambda folder: (folder / INTEGERS).unlink(), "safetensors"),
    ("a graph cut", cut("synthesis.onnx"), "not a readable ONNX graph"),
    ("no graph", lambda folder: (folder / "denoiser.onnx").unlink(), "missing"),
]


@pytest.mark.parametrize("spoil, reason", [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
def test_a_damaged_folder_ends_in_one_line(
    refusal: Callable[..., str], copied: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    spoil(copied)
    assert reason in refusal("--onnx", copied)


def test_threads_that_wait_sleep(copied: Path, original: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they keep a core that another program could have."""
    session = Mock(side_effect=onnxruntime.InferenceSession)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    data = encode(texture(64, 64), quality=40, fallback=False, model=original)
    decoded(data, load(copied, 2), DecodeSettings())
    assert session.call_count == 3
    for (_, options), _ in session.call_args_list:
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_folder_from_before_drafts_says_what_it_lacks(refusal: Callable[..., str], copied: Path) -> None:
    (copied / "preview1.onnx").unlink()
    assert "preview1.onnx: missing; export the model again" in refusal("--onnx", copied, "--draft")


def test_files_of_another_export_are_not_mixed_in(refusal: Callable[..., str], copied: Path, place: Path) -> None:
    other = place / "other" / "onnx"
    for name in ("synthesis.onnx", INTEGERS):
        kept = (copied / name).read_bytes()
        shutil.copy(other / name, copied / name)
        assert f"{name}: belongs to another export" in refusal("--onnx", copied)
        (copied / name).write_bytes(kept)
    assert "was written with model" in refusal("--onnx", other)


def test_options_that_contradict_each_other_are_refused(refusal: Callable[..., str], copied: Path) -> None:
    for options in (["--backend", "torch"], ["--model", "tiny"], ["--device", "cuda"]):
        assert "see ldcodec decompress --help" in refusal("--onnx", copied, *options, exit_code=2)


def test_networks_beside_the_weights_are_found(
    refusal: Callable[..., str],
    call: Call,
    place: Path,
    original: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By any parse id of theirs."""
    assert "no ONNX networks of the model" in refusal("--backend", "onnx")
    monkeypatch.setenv("LDCODEC_MODELS", str(place))
    assert call("decompress", "k.ldc", "-o", "k.png", "--backend", "onnx")[0] == 0
    assert (tmp_path / "k.png").is_file()
    (tmp_path / "in").mkdir()
    shutil.copy("k.ldc", "in/a.ldc")
    assert call("decompress", "in", "-o", "out", "--recursive", "--backend", "onnx", "--jobs", "1")[0] == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "k.png").read_bytes()
    scalar = encode(texture(64, 64), quality=40, fallback=False, model=without_trellis(original))
    (tmp_path / "s.ldc").write_bytes(scalar)
    assert call("decompress", "s.ldc", "-o", "s.png", "--backend", "onnx")[0] == 0


def test_the_extra_is_named_where_it_is_missing(
    refusal: Callable[..., str],
    call: Call,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'ldcodec[onnx]'" in refusal("--onnx", copied)
    monkeypatch.setattr(exporter, "find_spec", lambda name: None)
    code, _, err = call("export", "--onnx", "net2", "--model", "tiny")
    assert code == 1 and "onnx and onnxruntime: pip install 'ldcodec[onnx]'" in error_line(err)


def test_the_command_exports_and_keeps_what_is_there(
    call: Call,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LDCODEC_MODELS", str(place))
    shutil.copytree(place / "tiny" / "onnx", "a/net")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "net").iterdir()}
    code, _, err = call("export", "--onnx", "a/net", "--model", "tiny")
    assert code == 1 and "--force" in error_line(err)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "net").iterdir()} == before
    code, out, err = call("export", "--onnx", "a/net", "--model", "other", "--force")
    assert code == 0 and not err and out.startswith("other → a/net  ") and "levels of torch's" in out
    assert describe(tmp_path / "a" / "net").name == "other"
    (tmp_path / "mine").mkdir()
    code, _, err = call("export", "--onnx", "mine", "--model", "tiny", "--force")
    assert code == 1 and "holds no export" in error_line(err)
    code, _, err = call("export", "--onnx", "net", "--model", "none")
    assert code == 1 and "no model 'none'" in error_line(err)
    (tmp_path / "file").touch()
    code, _, err = call("export", "--onnx", "file/net", "--model", "tiny")
    assert code == 1 and error_line(err).startswith("ldcodec: error: file/net: ")
    assert sorted(os.listdir(tmp_path)) == ["a", "file", "mine"] and os.listdir(tmp_path / "a") == ["net"]


def test_graphs_with_other_pictures_are_not_exported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Graphs, *arguments: Any) -> Any:
        return drawn(self, *arguments) + 0.01

    drawn = Graphs.picture
    monkeypatch.setattr(Graphs, "picture", wrong)
    with pytest.raises(ModelError, match="other pictures than torch"):
        export(str(place / "tiny"), tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_errors_of_onnxruntime_are_one_line(exported: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = np.zeros((1, 3, 4, 4), np.float32)
    with pytest.raises(LdcodecError, match=r"synthesis\.onnx: onnxruntime failed: [^\n]+$"):
        exported.networks.picture(wrong, np.ones(1, np.float32), 0.0, wrong)
