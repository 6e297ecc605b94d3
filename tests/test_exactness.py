"""A file gives the same symbols, and latents the same file, with any threads, instruction sets, devices and oneDNN.

Instruction sets are chosen when a process starts, so this module also runs itself as a program, once for each
environment. The settings that can change within a process are tried in pairs: each number of threads in each
environment, and oneDNN on and off with each number of threads and in each environment.
"""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ldcodec.bitstream import container
from ldcodec.decoder import reverse
from ldcodec.decoder.parse import parse
from ldcodec.decoder.request import DecodeSettings
from ldcodec.encoder.latents import Latents
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.arithmetic import Arithmetic, NumpyArithmetic
from ldcodec.entropy.config import Config
from ldcodec.entropy.integer import IntegerRateModel, Prior
from ldcodec.entropy.modelfiles import find_file
from ldcodec.entropy.trellis import KINDS, SCALAR, Quantised
from ldcodec.entropy.weights import integer_shapes
from ldcodec.errors import ModelError
from ldcodec.nets.model import DEFAULT_MODEL, Model, load_model
from ldcodec.nets.tensors import TorchArithmetic
from ldcodec.pictures.picture import Pixels
from tests.test_golden import GOLDEN

pytestmark = pytest.mark.slow

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "as it is": {},
    "oldest": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"},
}
THREADS = 1, 2, 4
QUALITIES = 300, 3300
SIZES = {"tiny": (150, 201), "scalar": (90, 101), DEFAULT_MODEL: (64, 112)}
PINNED = Config(latent=8, context=8, hyper=4)
PINNED_RESULTS = {
    "scalar": "fb23122b7f4a7f284bc17577e13f1437377dc367078aa8233eb6f7df5429a4a0",
    "trellis": "15e3ffaca3a467156d09e1abdec8ed0edfc68726392ae82e634883cb57146825",
}

Pixels = Pixels


def picture(height: int, width: int) -> Pixels:
    """Grain on top of broad shapes, so that every scale index occurs."""
    rng = np.random.default_rng(height)
    waves = np.sin(np.arange(height) / 9)[:, None, None] + np.cos(np.arange(width) / 17)[:, None]
    grain = rng.normal(size=(height, width, 3)) * np.linspace(0, 0.5, width)[:, None]
    return np.clip(127 + 50 * (waves + grain), 0, 255).astype(np.uint8)


def digest(*arrays: NDArray[np.generic]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


@dataclass(frozen=True)
class Case:
    """A file, the latents that it was written from, and the model that wrote it."""

    model: str
    file: bytes
    latents: Latents


def save_case(path: Path, case: Case) -> None:
    stored = np.frombuffer(case.file, np.uint8)
    index = np.array(case.latents.index)
    np.savez(path, data=stored, index=index, hyper=case.latents.hyper, scaled=case.latents.scaled, model=case.model)


def saved_case(path: Path) -> Case:
    with np.load(path) as stored:
        latents = Latents(int(stored["index"]), stored["hyper"], stored["scaled"])
        return Case(str(stored["model"]), stored["data"].tobytes(), latents)


def outcome(case: Case, model: Model) -> tuple[dict[str, str], Pixels]:
    """Checksums of what must not depend on the machine, and the pixels, which may differ by one level."""
    source = container.read(case.file)
    parsed = parse(source, model)
    blank = np.zeros((source.header.height, source.header.width, 3), np.uint8)
    rewritten = PictureEncoder(blank, model).write(case.latents)
    exact = {
        "symbols": digest(parsed.symbols),
        "priors": digest(parsed.mean, parsed.index, parsed.kind),
        "file": hashlib.sha256(container.write(rewritten.container)).hexdigest(),
    }
    known = reverse.condition(parsed, source.header, model)
    return exact, reverse.render(known, source.header, model, DecodeSettings())


@contextmanager
def setting(threads: int, onednn: bool) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of flags that are only passed on
            with torch.backends.mkldnn.flags(enabled=onednn):
                yield
    finally:
        torch.set_num_threads(before)


def run_all(folder: Path, prefix: Path) -> None:
    """Every case under the settings for this process's environment: PREFIX.json, and pixels in PREFIX-N.npy."""
    parity = list(ENVIRONMENTS).index(prefix.name.replace("_", " ")) % 2
    results: list[dict[str, object]] = []
    for path in sorted(folder.glob("*.npz")):
        case = saved_case(path)
        model = load_model(case.model, "cpu")
        for number, threads in enumerate(THREADS):
            with setting(threads, onednn=number % 2 == parity):
                exact, pixels = outcome(case, model)
            np.save(f"{prefix}-{len(results)}.npy", pixels)
            results.append({"case": path.stem, "exact": exact})
    capability = torch.backends.cpu.get_cpu_capability()
    Path(f"{prefix}.json").write_text(json.dumps({"capability": capability, "results": results}))


@dataclass(frozen=True)
class Report:
    """The findings of one process: (case, checksums, pixels) for every case and setting."""

    capability: str
    results: list[tuple[str, dict[str, str], Pixels]]


def saved_report(prefix: Path) -> Report:
    stored = json.loads(Path(f"{prefix}.json").read_text())
    results = [(r["case"], r["exact"], np.load(f"{prefix}-{n}.npy")) for n, r in enumerate(stored["results"])]
    return Report(stored["capability"], results)


def run_process(folder: Path, prefix: Path, changes: dict[str, str]) -> None:
    environment = os.environ | {"MKL_DYNAMIC": "FALSE", "OMP_WAIT_POLICY": "PASSIVE"} | changes
    command = [sys.executable, "-m", "tests.test_exactness", str(folder), str(prefix)]
    subprocess.run(command, cwd=Path(__file__).resolve().parent.parent, env=environment, check=True, timeout=240)


def has_shipped_model() -> bool:
    try:
        return find_file(DEFAULT_MODEL).is_file()
    except ModelError:
        return False


@pytest.fixture(scope="module")
def cases(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of cases: those of a model with a trellis and of one without, and those of the shipped one if there is
    one.
    """
    folder = tmp_path_factory.mktemp("cases")
    places = {"tiny": tiny_model_folder / "tiny", "scalar": GOLDEN / "tiny"}
    places |= {DEFAULT_MODEL: find_file(DEFAULT_MODEL).parent} if has_shipped_model() else {}
    for name, place in places.items():
        encoder = PictureEncoder(picture(*SIZES[name]), load_model(str(place), "cpu"))
        for index in QUALITIES:
            latents = encoder.latents(index)
            case = Case(str(place), container.write(encoder.write(latents).container), latents)
            save_case(folder / f"{name}-{index}.npz", case)
    return folder


@pytest.fixture(scope="module")
def reports(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """One report for each environment; this process is one of them."""
    folder = tmp_path_factory.mktemp("reports")
    found = {}
    for name, changes in ENVIRONMENTS.items():
        prefix = folder / name.replace(" ", "_")
        if changes:
            run_process(cases, prefix, changes)
        else:
            run_all(cases, prefix)
        found[name] = saved_report(prefix)
    return found


def first_results(report: Report) -> dict[str, tuple[dict[str, str], Pixels]]:
    """The findings for each case under the first setting."""
    return {case: (exact, pixels) for case, exact, pixels in reversed(report.results)}


def test_symbols_and_files_are_the_same_everywhere(reports: dict[str, Report]) -> None:
    expected = first_results(reports["as it is"])
    for environment, report in reports.items():
        assert len(report.results) == len(expected) * len(THREADS)
        for case, exact, _ in report.results:
            assert exact == expected[case][0], (environment, case)


def test_pixels_differ_by_one_level_at_most(reports: dict[str, Report]) -> None:
    expected = first_results(reports["as it is"])
    for environment, report in reports.items():
        for case, _, pixels in report.results:
            assert np.abs(pixels.astype(int) - expected[case][1]).max() <= 1, (environment, case)


def test_files_are_those_of_the_encoder(cases: Path, reports: dict[str, Report]) -> None:
    for name, (exact, _) in first_results(reports["as it is"]).items():
        assert hashlib.sha256(saved_case(cases / f"{name}.npz").file).hexdigest() == exact["file"]


def test_instruction_sets_were_really_other_ones(reports: dict[str, Report]) -> None:
    assert reports["oldest"].capability in ("DEFAULT", "NO AVX")
    assert reports["avx2"].capability != "AVX512"


def test_cases_are_rich_enough_to_tell(cases: Path, model: Model) -> None:
    """Many scale indices occur, and a good share of the symbols is not zero."""
    parsed = parse(container.read(saved_case(cases / "tiny-3300.npz").file), model)
    assert len(np.unique(parsed.index)) > 20
    assert (parsed.symbols != 0).mean() > 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_symbols_and_files_are_the_same_on_cuda(cases: Path, reports: dict[str, Report]) -> None:
    for name, (exact, pixels) in first_results(reports["as it is"]).items():
        case = saved_case(cases / f"{name}.npz")
        found, rendered = outcome(case, load_model(case.model, "cuda"))
        assert found == exact
        assert np.abs(rendered.astype(int) - pixels).max() <= 1


def test_parsing_ignores_autocast_and_precision(cases: Path, model: Model) -> None:
    source = container.read(saved_case(cases / "tiny-3300.npz").file)
    expected = parse(source, model)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            parsed = parse(source, model)
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.array_equal(parsed.symbols, expected.symbols) and np.array_equal(parsed.mean, expected.mean)


def stable_integers(stream: int, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.int64]:
    """Integers that are the same on every platform and with every NumPy: the raw output of Philox, modulo the range."""
    raw = np.random.Philox(key=stream).random_raw(int(np.prod(shape, dtype=int)) or 1)
    return (low + (raw % np.uint64(high - low)).astype(np.int64)).reshape(shape)


def pinned_model(arithmetic: Arithmetic) -> IntegerRateModel:
    ranges = {"weight": (-4000, 4001), "bias": (-(2**24), 2**24), "shift": (12, 14), "z_index": (2, 40)}
    ranges |= {"factor": (900, 1100), "floor": (1024, 4096), "reciprocal": (4096, 16384), "log_expected": (0, 9000)}
    entries = {}
    for stream, (name, shape) in enumerate(sorted(integer_shapes(PINNED).items())):
        values = stable_integers(stream, shape, *ranges[name.split(".")[-1]])
        entries[name.removeprefix("integer.")] = values
    return IntegerRateModel(PINNED, entries, arithmetic)


@pytest.mark.parametrize(
    "arithmetic", [TorchArithmetic(torch.device("cpu")), NumpyArithmetic()], ids=["torch", "numpy"]
)
@pytest.mark.parametrize("quantiser", PINNED_RESULTS)
def test_integers_give_what_they_gave_on_the_first_machine(arithmetic: Arithmetic, quantiser: str) -> None:
    """The numbers were computed once. A machine, library or change of code that gives others breaks every file."""
    hyper = stable_integers(100, (4, 3, 5), -30, 31).astype(np.int32)
    symbols = stable_integers(101, (8 * 12 * 20,), -9, 10).astype(np.int32)
    kind = np.full(symbols.shape, SCALAR, np.uint8)
    if quantiser == "trellis":
        kind = stable_integers(102, symbols.shape, 0, KINDS).astype(np.uint8)

    def code(prior: Prior) -> Quantised:
        return Quantised(symbols[prior.places], kind[prior.places])

    parsed = pinned_model(arithmetic).parse(hyper, 1234, (11, 18), code)
    assert len(np.unique(parsed.index)) > 20 and len(np.unique(parsed.mean)) > 500
    assert digest(parsed.mean.astype("<i8"), parsed.index, parsed.symbols.astype("<i4")) == PINNED_RESULTS[quantiser]


if __name__ == "__main__":
    run_all(Path(sys.argv[1]), Path(sys.argv[2]))
