"""The library in other people's programs: what they set in PyTorch for themselves, forks, copies and pickles."""

import copy
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import ldcodec
from ldcodec.codec import decode_array
from ldcodec.encoder import refine
from ldcodec.nets.model import Model, load_model
from tests.commands import environment
from tests.pictures import texture

pytestmark = pytest.mark.slow

PIXELS = texture(70, 90)
ENCODINGS: list[dict] = [{"quality": 50}, {"rate": 0.5}, {"psnr": 18}, {"quality": 50, "effort": 2}]
DECODINGS: list[dict] = [{}, {"realism": 1.0, "steps": 2, "sampler": "sde"}, {"draft": True}]


@contextmanager
def default_type(kind: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    """meta stands for a GPU: whatever is put there is missed."""
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "doubles": lambda: default_type(torch.float64),
    "bfloat16": lambda: default_type(torch.bfloat16),
    "device": lambda: default_device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "floating-point errors": lambda: np.errstate(all="raise"),
}


def results(model: Model) -> list[bytes]:
    """Files of a picture and what becomes of one of them, each in several ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(refine.STEPS, 2, 3)  # enough to need gradients
        files = [ldcodec.encode(PIXELS, model=model, fallback=False, **options) for options in ENCODINGS]
    return files + [decode_array(files[0], model=model, **options).tobytes() for options in DECODINGS]


@pytest.fixture(scope="module")
def expected(model: Model) -> list[bytes]:
    return results(model)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_settings_for_other_networks_do_not_reach_ours(
    name: str, expected: list[bytes], tiny_model_folder: Path, tmp_path: Path
) -> None:
    """The model is loaded among them, as the copy of a file that no test has loaded before."""
    shutil.copytree(tiny_model_folder / "tiny", tmp_path / "tiny")
    before = torch.random.get_rng_state()
    with SURROUNDINGS[name]():
        loaded = load_model(str(tmp_path / "tiny"), "cpu")
        assert results(loaded) == expected
    assert torch.equal(torch.random.get_rng_state(), before)
    assert results(loaded) == expected


def pickled(model: Model) -> Model:
    other: Model = pickle.loads(pickle.dumps(model))  # noqa: S301 (its own)
    return other


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_model_is_copied_and_pickled(copied: Callable[[Model], Model], model: Model, expected: list[bytes]) -> None:
    """After its use, since what it caches then is what cannot be copied."""
    other = copied(model)
    assert other is not model and results(other) == expected


FORKING = """
import multiprocessing, sys
import numpy as np, torch
import ldcodec
from ldcodec.nets.model import load_model

pixels = np.random.default_rng(0).integers(0, 256, (256, 384, 3)).astype(np.uint8)

def work(number):
    data = ldcodec.encode(pixels, quality=50, model=load_model("tiny", "cpu"))
    return len(data), torch.get_num_threads(), ldcodec.decode(data, model=load_model("tiny", "cpu")).size

if __name__ == "__main__":
    torch.set_num_threads(2)
    print(work(0))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(*pool.map_async(work, [1]).get(60))
    print(torch.get_num_threads())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody forks by default")
def test_children_of_a_fork_code_as_their_parent_does(tiny_model: str) -> None:
    """OpenMP's threads do not live on in them."""
    surroundings = environment(tiny_model)
    del surroundings["OMP_NUM_THREADS"]
    done = subprocess.run(
        [sys.executable, "-c", FORKING], env=surroundings, capture_output=True, text=True, timeout=120, check=False
    )
    parent, child, threads = done.stdout.splitlines() or ["", "", done.stderr]
    assert threads == "2" and parent.replace(", 2, (", ", 1, (") == child, done.stderr
