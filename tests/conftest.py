"""Fixtures and settings of all tests, above all a tiny model that works: a KLT around small random networks."""

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core; more threads in each only get in each other's way

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import ldcodec
from ldcodec import cli
from ldcodec.bitstream import slices
from ldcodec.decoder import threads
from ldcodec.encoder import drafting, patching, sliced
from ldcodec.entropy.config import Config
from ldcodec.entropy.modelfiles import find_file
from ldcodec.errors import ModelError
from ldcodec.nets.model import DEFAULT_MODEL, Model, load_model, save_model
from ldcodec.nets.networks import Networks
from ldcodec.training.codebook import first_tables, trellis_tensors
from ldcodec.training.counting import counted
from ldcodec.training.fitting import analysed, fitted, neighbour_tensors
from ldcodec.training.release import integer_tensors
from ldcodec.training.start import fresh_networks
from tests.browser import BROWSER, Page
from tests.commands import Call
from tests.pictures import photo

# Hypothesis tries the same examples in every run, so that a failure is never chance; `tests.check --quick` tries a
# quarter of them. At night it tries ten times as many random ones, and keeps failures in .hypothesis/ for the next run.
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("same", derandomize=True, database=None, deadline=None, suppress_health_check=QUIET)
settings.register_profile("quick", settings.get_profile("same"), max_examples=25)
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=QUIET)
settings.load_profile("same")

DENSE = Config(
    latent=32, width8=8, width16=16, context=8, hyper=4, blocks8=1, blocks16=1, denoiser=8, denoiser_blocks=1
)
ONE_SHOT = replace(DENSE, one_shot=1, tuned=1, synthesis8=4, synthesis16=12, synthesis_blocks8=2)
# LDCODEC_TEST_FAMILY=light runs all tests on a model of the other family.
TINY = replace(ONE_SHOT, context=12) if os.environ.get("LDCODEC_TEST_FAMILY") == "light" else DENSE

MARKED = {"browser": "browser", "ray": "ray", "store": "network"}  # fixture: marker of the tests that use it


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a fixture with a process outside Python."""
    for item in items:
        for fixture in MARKED.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKED[fixture])


def assumed_covariance() -> NDArray[np.float64]:
    """[768, 768] covariance of 16×16 RGB blocks, as in photographs: it falls with distance, and colours go together."""
    i, j = np.divmod(np.arange(256), 16)
    distance = np.hypot(i[:, None] - i, j[:, None] - j)
    colour = np.full((3, 3), 0.9) + 0.1 * np.eye(3)
    covariance: NDArray[np.float64] = np.kron(colour, 3500 * np.exp(-distance / 12))
    return covariance


def tiny_networks(config: Config = TINY) -> Networks:
    """Networks from the KLT, always the same. The zero layers of the rate model and the denoiser are disturbed, those
    of its context enough to move means by steps and scales by several indices, and so are those of a tuning.
    """
    networks = fresh_networks(config, assumed_covariance())
    torch.manual_seed(1)
    heads = [(step.head, 0.3) for step in networks.rate.steps] + [(networks.denoiser.head, 0.02)]
    if networks.rate.scales is not None:
        heads.append((networks.rate.scales, 1.0))
    with torch.no_grad():
        for head, amount in heads:
            for parameter in head.parameters():  # type: ignore[union-attr]
                parameter.add_(torch.randn_like(parameter), alpha=amount)
        networks.rate.quality.out.weight.add_(torch.randn_like(networks.rate.quality.out.weight), alpha=0.02)
        networks.rate.z_mean.add_(torch.randn_like(networks.rate.z_mean), alpha=0.2)
        if networks.rate.fineness is not None:
            networks.rate.fineness.out.weight.add_(torch.randn_like(networks.rate.fineness.out.weight), alpha=0.1)
        if networks.analysis.tuned8 is not None and networks.analysis.tuned16 is not None:
            layers = (
                (networks.analysis.tuned8.out, 0.5),
                (networks.analysis.tuned16.out, 0.5),
                (networks.analysis.head, 0.03),
            )
            for layer, amount in layers:
                layer.weight.add_(torch.randn_like(layer.weight), alpha=amount)
    return networks.eval()


def patterns(seed: int, count: int = 6) -> list[NDArray[np.uint8]]:
    """Pictures of 256×320 pixels, from rough to smooth."""
    rng, found = np.random.default_rng(seed), []
    for k in range(count):
        side = 2**k
        coarse = rng.normal(0, 40, (256 // side, 320 // side, 3))
        found.append((128 + np.kron(coarse, np.ones((side, side, 1)))).clip(0, 255).astype(np.uint8))
    return found


def tiny_integers(networks: Networks) -> dict[str, Tensor]:
    """The integer tensors of the tiny model: the hyper-latent's own, and ideal tables for the trellis."""
    neighbours = neighbour_tensors(fitted(analysed(networks, patterns(0)), hidden=8))
    return integer_tensors(networks, counted(networks, patterns(0))) | trellis_tensors(first_tables()) | neighbours


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds tiny/model.safetensors, and one-shot/model.safetensors of another family, in 8 bits."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("tiny", TINY), ("one-shot", ONE_SHOT)):
        networks = tiny_networks(config)
        compact = name == "one-shot"
        save_model(folder / name / "model.safetensors", networks, tiny_integers(networks), compact=compact)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> str:
    """The value of LDCODEC_MODELS with which the model `tiny` is found."""
    return str(tiny_model_folder)


@pytest.fixture(scope="session")
def model(tiny_model_folder: Path) -> Model:
    """The model `tiny`, loaded."""
    return load_model(str(tiny_model_folder / "tiny"), "cpu")


@pytest.fixture(scope="session")
def one_shot_model(tiny_model_folder: Path) -> Model:
    """A tiny model of which the hyper-latent alone tells all scales, and whose synthesis has sizes of its own."""
    return load_model(str(tiny_model_folder / "one-shot"), "cpu")


def without_trellis(model: Model) -> Model:
    """The same model as which it writes files of the scalar quantiser, as the first models did."""
    return replace(model, parse_id=list(model.coders)[-1])


@pytest.fixture(scope="session")
def scalar_model(model: Model) -> Model:
    """The model `tiny` without its trellis and its network of the hyper-latent."""
    return without_trellis(model)


@pytest.fixture(scope="session")
def older_model(model: Model) -> Model:
    """The model `tiny` without its network of the hyper-latent."""
    return replace(model, parse_id=list(model.coders)[1])


@pytest.fixture(scope="session")
def shipped_model() -> Model:
    """The model that comes with the program. A checkout without its weights skips the tests that need it."""
    try:
        find_file(DEFAULT_MODEL)
    except ModelError:
        pytest.skip(f"models/{DEFAULT_MODEL} holds no weights")
    return load_model(device="cpu")


@pytest.fixture
def call(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Call:
    """Run a command line within this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDCODEC_MODELS", str(tiny_model_folder))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # commands change it
    monkeypatch.setattr(threads, "free_cores", threads.cores)  # whatever else the machine does

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests, since each takes two seconds to start."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    page = Page(tmp_path_factory.mktemp("chromium"))
    yield page
    page.close()


@pytest.fixture
def browser(chromium: Page) -> Page:
    """The browser, in which no page has complained or asked for anything yet."""
    chromium.forget()
    return chromium


# What a model writes: in order of age, and with scales from the hyper-latent alone.
AGES = {"newest": "model", "trellis": "older_model", "scalar": "scalar_model", "one-shot": "one_shot_model"}


@pytest.fixture(params=AGES)
def either(request: pytest.FixtureRequest) -> Model:
    """The model `tiny` with all that it has, without the network of the hyper-latent, and without a trellis too; or the
    one-shot model.
    """
    found: Model = request.getfixturevalue(AGES[request.param])
    return found


@pytest.fixture(scope="session")
def ldc(model: Model) -> bytes:
    """A sound file of the tiny model."""
    return ldcodec.encode(photo(), quality=50, model=model)


@pytest.fixture(scope="module")
def without_patches() -> Iterator[None]:
    """Leave all to the networks, for tests of what these do: of what the tiny model draws, much would be patched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patching, "WRECKED", math.inf)
        patch.setattr(patching, "PLAIN", (math.inf, *patching.PLAIN[1:]))
        yield


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat small pictures like large ones: tiles of 128 pixels, slices of about 128 rows, nothing in one pass."""
    monkeypatch.setattr(slices, "TILE", 8)
    monkeypatch.setattr(drafting, "TILE", 8)
    monkeypatch.setattr(slices, "WHOLE_AREA", 0)
    monkeypatch.setattr(sliced, "cut", lambda width, height: slices.cut(width, height, area=8 * 20))


@pytest.fixture(params=["small", "large"])
def either_size(request: pytest.FixtureRequest) -> None:
    """Run a test twice: with pictures as they are, and with small ones treated like large ones."""
    if request.param == "large":
        request.getfixturevalue("small_parts")
