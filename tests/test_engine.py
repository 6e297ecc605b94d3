"""Networks through ncnn: they compute what PyTorch's do, without loading PyTorch."""

import copy
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ldcodec
from ldcodec.bitstream import container, quality
from ldcodec.bitstream.slices import Area
from ldcodec.codec import decode_array, encode
from ldcodec.decoder import tiles
from ldcodec.decoder.parse import parse
from ldcodec.decoder.request import DecodeOptions, Request
from ldcodec.encoder import library
from ldcodec.encoder.interface import EncoderNetworks
from ldcodec.encoder.latents import latents_of
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.engine import graph
from ldcodec.engine.cpumodel import CpuModel, load_model
from ldcodec.entropy.modelfiles import DEFAULT_MODEL, FILE_NAME, find_file
from ldcodec.errors import ModelError, UsageError
from ldcodec.nets.model import Model
from ldcodec.nets.model import load_model as load_by_torch
from ldcodec.pictures.frame import framed
from ldcodec.training.selfcheck import write_check
from tests.commands import environment
from tests.pictures import photo, texture
from tests.test_model import honest, stored

STATM = Path("/proc/self/statm")
WAYS: dict[str, DecodeOptions] = {
    "least error": {},
    "natural texture": {"realism": 1.0, "steps": 2},
    "half and half, several steps": {"realism": 0.5, "steps": 3, "sampler": "heun"},
    "draft": {"draft": True},
    "preview": {"request": Request(scale=4)},
}


@pytest.fixture(scope="module")
def engine(tiny_model_folder: Path) -> CpuModel:
    """The model `tiny` through ncnn."""
    return load_model(str(tiny_model_folder / "tiny"), 1)


@pytest.fixture(scope="module", params=["tiny", "one-shot"])
def both(request: pytest.FixtureRequest, tiny_model_folder: Path) -> tuple[Model, CpuModel]:
    """A model of either family, through torch and through ncnn."""
    path = str(tiny_model_folder / request.param)
    return load_by_torch(path, "cpu"), load_model(path, 1)


@pytest.fixture(scope="module")
def shipped_engine(shipped_model: Model) -> CpuModel:
    return load_model(DEFAULT_MODEL, 1)


def check_pictures(data: bytes, one: Model, other: CpuModel, options: DecodeOptions) -> None:
    """The pictures differ by no more than one level, and nowhere but where a rounding hangs by a hair."""
    pictures = [decode_array(data, **(options | {"model": model})).astype(int) for model in (one, other)]
    difference = np.abs(pictures[0] - pictures[1])
    assert difference.max() <= 1 and (difference > 0).mean() < 2e-3


@pytest.mark.parametrize("way", WAYS)
def test_pictures_are_those_of_torch(both: tuple[Model, CpuModel], way: str) -> None:
    for picture in (texture(70, 130), texture(33, 20)[:, :, 0]):
        check_pictures(encode(picture, quality=40, model=both[0]), *both, WAYS[way])


@pytest.mark.parametrize("way", WAYS)
def test_pictures_of_the_shipped_model_are_those_of_torch(
    shipped_model: Model, shipped_engine: CpuModel, way: str
) -> None:
    check_pictures(
        encode(np.asarray(photo(96, 64)), quality=40, model=shipped_model), shipped_model, shipped_engine, WAYS[way]
    )


def test_what_leaves_the_trained_range_is_blanked_as_by_torch(shipped_model: Model, shipped_engine: CpuModel) -> None:
    picture = texture(128, 192)
    picture[32:64, 64:96] = 255 * (np.indices((32, 32)).sum(0) % 2)[:, :, None]  # a board of single pixels
    check_pictures(encode(picture, quality=60, model=shipped_model, fallback=False), shipped_model, shipped_engine, {})


def test_large_pictures_take_another_variant_and_are_the_same(
    model: Model, engine: CpuModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(texture(150, 200), quality=60, model=model)
    monkeypatch.setattr(graph, "LARGE", 50)
    check_pictures(data, model, engine, {})


@pytest.mark.parametrize("texture", [0.0, 1.0])
def test_part_of_a_picture_is_that_of_the_whole(shipped_engine: CpuModel, texture: float) -> None:
    """Inside and at the edges, though the layers at 1/8 see only what is near it."""
    rng, networks, t = np.random.default_rng(0), shipped_engine.networks, np.array([0.4], np.float32)
    latent = 3 * rng.standard_normal((1, networks.config.latent, 14, 17), np.float32)
    latent[:, :, 6, 7] *= 1000  # out of range, so that it is blanked
    whole = networks.picture(latent, t, texture, latent)
    for wanted in (Area(0, 14, 0, 17), Area(5, 8, 6, 9), Area(0, 3, 11, 17), Area(9, 14, 0, 1)):
        part = networks.picture(latent, t, texture, latent, wanted)
        expected = whole[:, :, 16 * wanted.top : 16 * wanted.bottom, 16 * wanted.left : 16 * wanted.right]
        assert np.allclose(part, expected, atol=1e-4)


@pytest.mark.usefixtures("small_parts")
def test_tiles_that_are_drawn_side_by_side_are_the_same(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "DRAWN_AT_ONCE", 3)
    pictures, model = [], load_model(str(tiny_model_folder / "tiny"), 1)
    data = encode(texture(300, 420), quality=60, model=model)
    for threads in (1, 3):
        model = load_model(str(tiny_model_folder / "tiny"), threads)
        pictures.append(decode_array(data, model=model).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_runs_share_threads() -> None:
    threads = graph.Threads(5)
    with threads.shared(2):
        assert threads.each == 2
    with pytest.raises(KeyboardInterrupt), threads.shared(9):
        assert threads.each == 1
        raise KeyboardInterrupt
    assert threads.each == threads.count == 5


@pytest.mark.parametrize("index", [200, 2000, 4000])
def test_latents_are_those_of_torch(shipped_model: Model, shipped_engine: CpuModel, index: int) -> None:
    planes = framed(np.asarray(photo(96, 64)))
    latents, models = [], (shipped_model, shipped_engine)
    for model in models:
        networks: EncoderNetworks = model.networks
        analysed = networks.analysed(planes)
        latents.append(latents_of(networks.latent(analysed, quality.fraction(index)), index, model))
        assert np.allclose(networks.shortcut(planes), analysed[1], atol=1e-3)
    one, other = latents
    assert np.abs(one.scaled - other.scaled).max() < 2e-4 * np.abs(one.scaled).max()
    assert (one.hyper != other.hyper).mean() < 1e-3  # roundings that hang by a hair


def test_symbols_are_those_of_torch(both: tuple[Model, CpuModel]) -> None:
    for encoding, parsing in (both, both[::-1]):
        coded = PictureEncoder(texture(90, 140), encoding).code(2500)
        found = parse(container.read(coded.data), parsing)
        for field in ("symbols", "index", "kind"):
            assert np.array_equal(getattr(found, field), getattr(coded.parsed, field))
        unit = both[0].networks.config.one_shot  # then means are rounded from floats
        assert np.abs(found.mean - coded.parsed.mean).max() <= unit


def test_threads_change_nothing_that_is_seen(engine: CpuModel) -> None:
    data = encode(texture(200, 260), quality=60, model=engine)
    other = load_model(str(engine.path), 2)
    assert other is not engine
    difference = decode_array(data, model=engine).astype(int) - decode_array(data, model=other)
    assert np.abs(difference).max() <= 1


def test_refinement_borrows_the_networks_of_torch(engine: CpuModel) -> None:
    files = {encode(texture(40, 60), quality=40, effort=effort, model=engine, fallback=False) for effort in (1, 2)}
    assert len(files) == 2


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it fails
import numpy as np
from PIL import Image
from ldcodec import cli
for words in (
    "compress a.png -o a.ldc --quality 40 --no-fallback --model tiny",
    "compress a.png -o b.ldc --rate 2 --model tiny",
    "compress a.png -o c.ldc --psnr 25 --model tiny",
    "decompress a.ldc -o a.ppm",
    "decompress a.ldc -o b.ppm --realism 1",
    "decompress sliced.ldc -o c.ppm --steps 2 --threads 2",
    "decompress sliced.ldc -o d.ppm --region 100,140,90,16",
    "verify a.ldc",
    "verify --self --model mine",
    "view a.ldc -o a.html --no-open",
    "compress folder -r -o there --quality 30 --jobs 1 --model tiny",
):
    assert cli.run(words.split()) == 0, words
import ldcodec
ldcodec.register()
assert Image.open("a.ldc").convert("RGB").size == Image.open("a.png").size
"""


@pytest.mark.usefixtures("small_parts")
def test_nothing_but_refinement_needs_torch(tiny_model: str, engine: CpuModel, tmp_path: Path) -> None:
    write_check(shutil.copytree(Path(tiny_model) / "tiny", tmp_path / "mine") / FILE_NAME)
    sliced = encode(texture(300, 330), quality=60, model=engine)
    assert len(container.read(sliced).slices) > 2
    (tmp_path / "sliced.ldc").write_bytes(sliced)
    (tmp_path / "folder").mkdir()
    for name in ("a.png", "folder/b.png"):
        photo(96, 64).save(tmp_path / name)
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=tmp_path,
        env=environment(tiny_model),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("name", "alter"),
    [
        ("net.synthesis.stem.weight", lambda x: x[:, :-1]),
        ("net.denoiser.blocks.0.second.bias", lambda x: x[:-1]),
        ("net.gain.out.bias", lambda x: x * torch.nan),
        ("net.synthesis.up.weight", lambda x: x / 0),
    ],
)
def test_unusable_weights_are_named(
    model: Model, tiny_model_folder: Path, tmp_path: Path, name: str, alter: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    tensors, metadata = stored(tiny_model_folder / "tiny" / FILE_NAME)
    tensors[name] = alter(tensors[name]).contiguous()
    save_file(tensors, tmp_path / FILE_NAME, honest(tensors, metadata))
    with pytest.raises(ModelError, match=name):
        decode_array(encode(texture(20, 30), quality=50, model=model), model=load_model(str(tmp_path), 1))


def test_missing_weights_are_named(model: Model, tiny_model_folder: Path, tmp_path: Path) -> None:
    tensors, metadata = stored(tiny_model_folder / "tiny" / FILE_NAME)
    del tensors["net.synthesis.klt"]
    save_file(tensors, tmp_path / FILE_NAME, honest(tensors, metadata))
    with pytest.raises(ModelError, match=r"net\.synthesis\.klt is missing"):
        decode_array(encode(texture(20, 30), quality=50, model=model), model=load_model(str(tmp_path), 1))


@pytest.mark.skipif(not STATM.exists(), reason="asks Linux for the memory of the process")
def test_a_network_gives_its_memory_back() -> None:
    """Blocks of this size come from the system itself, so what is freed is seen at once."""

    def build() -> tuple[graph.Graph, list[str]]:
        made = graph.Graph()
        weight, bias = np.zeros((16, 16, 3, 3), np.float32), np.zeros(16, np.float32)
        return made, [made.convolution(made.convolution(made.input("x"), weight, bias), weight, bias)]

    net, x = graph.Net(build, graph.Threads(1)), np.ones((16, 1024, 1024), np.float32)
    before = resident()
    assert not net(x=x)[0].any()
    assert resident() < before + x.nbytes / 2


def resident() -> int:
    """Bytes of the process in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_who_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "DRIVERS", (str(tmp_path / "driver"),))
    assert library.by_ncnn("auto") and library.by_ncnn("cpu") and not library.by_ncnn("cuda")
    (tmp_path / "driver").touch()
    for found in (True, False):  # PyTorch for CPUs alone finds no GPU behind a driver
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        assert library.by_ncnn("auto") != found and library.by_ncnn("cpu") and not library.by_ncnn("cuda")
    monkeypatch.setattr(library, "find_spec", lambda name: None)  # a platform without a wheel of ncnn
    assert not library.by_ncnn("cpu")


def test_a_gpu_is_asked_for_where_a_driver_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "DRIVERS", (str(tmp_path / "driver"),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not library.has_gpu()
    (tmp_path / "driver").touch()
    assert library.has_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not library.has_gpu()
    monkeypatch.setattr(library, "find_spec", lambda name: None)  # without PyTorch
    assert not library.has_gpu()


def test_without_ncnn_torch_does_everything(
    tiny_model_folder: Path, engine: CpuModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    loaded = ldcodec.load_model(str(tiny_model_folder / "tiny"), "cpu")
    assert isinstance(loaded, Model)
    check_pictures(encode(texture(50, 60), quality=40, model=loaded), loaded, engine, {})


def test_devices_are_named_rightly() -> None:
    with pytest.raises(UsageError, match="auto, cpu or cuda"):
        ldcodec.load_model(device="gpu")


def pickled(model: CpuModel) -> CpuModel:
    other: CpuModel = pickle.loads(pickle.dumps(model))  # noqa: S301 (its own)
    return other


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_model_is_copied_and_pickled(copied: Callable[[CpuModel], CpuModel], engine: CpuModel) -> None:
    data = encode(texture(30, 40), quality=40, model=engine)
    assert np.array_equal(decode_array(data, model=copied(engine)), decode_array(data, model=engine))


FORKING = """
import os, sys
import numpy as np
import ldcodec
pixels = np.random.default_rng(0).integers(0, 256, (256, 384, 3)).astype(np.uint8)
model = ldcodec.load_model(sys.argv[1], "cpu", 2)
expected = ldcodec.encode(pixels, quality=50, model=model)
child = os.fork()
if not child:
    os._exit(ldcodec.encode(pixels, quality=50, model=model) != expected)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_children_of_a_fork_code_as_their_parent_does(tiny_model_folder: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tiny_model_folder / "tiny")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_shipped_weights_stay_in_half_precision_until_they_are_used(shipped_engine: CpuModel) -> None:
    """Or a decoder would hold them twice."""
    assert find_file(DEFAULT_MODEL).resolve() == shipped_engine.path
    half, single = graph.Graph(), graph.Graph()
    for made, kind in ((half, np.float16), (single, np.float32)):
        made.convolution(made.input("x"), np.ones((4, 4, 3, 3), kind), np.zeros(4, np.float32))
    assert sum(piece.nbytes for piece in half.weights) < 0.6 * sum(piece.nbytes for piece in single.weights)
