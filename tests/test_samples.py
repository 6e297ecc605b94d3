"""The sample picture: rendering is deterministic, and the shipped file is what the program renders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.landscape import SIZE, draw_plants, render

pytestmark = pytest.mark.slow

SHIPPED = Path(__file__).resolve().parent.parent / "ldcodec" / "bench" / "landscape.png"
SMALL = (24, 16)


@pytest.fixture(scope="module")
def small() -> Image.Image:
    return render(SMALL)


def test_rendering_is_deterministic(small: Image.Image) -> None:
    assert render(SMALL).tobytes() == small.tobytes()


def test_the_seed_moves_the_plants() -> None:
    pictures = [Image.new("RGB", (96, 64)) for _ in range(2)]
    for seed, picture in enumerate(pictures):
        draw_plants(picture, np.random.default_rng(seed))
    assert pictures[0].tobytes() != pictures[1].tobytes()


def test_the_shipped_picture_has_its_size_and_is_not_flat() -> None:
    with Image.open(SHIPPED) as image:
        assert (image.mode, image.size) == ("RGB", SIZE)
        pixels = np.asarray(image, dtype=np.float64)
    assert pixels.std(axis=(0, 1)).min() > 30
    assert SHIPPED.stat().st_size < 700_000


def test_the_shipped_picture_is_what_the_script_renders(small: Image.Image) -> None:
    with Image.open(SHIPPED) as image:
        reduced = np.asarray(image.resize(SMALL, Image.Resampling.BOX), dtype=np.float64)
    assert np.corrcoef(reduced.ravel(), np.asarray(small, dtype=np.float64).ravel())[0, 1] > 0.9
