"""Textures that no photograph has: boards, stripes, mosaics, halftones and the like, set into a natural picture."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec.pictures.picture import Pixels

PLACE = Path(__file__).resolve().parent.parent / "ldcodec" / "bench" / "landscape.png"
HEIGHT, WIDTH = 192, 256
SMALL = (96, 129), (128, 193)  # ranges of the sides of small pictures
SIDES = (8, 16, 24, 32, 48, 64, 96)
MARGIN = 16  # pixels around a pattern whose blocks hold some of it


class Hostile(NamedTuple):
    """A picture [H, W, 3], the kind of its pattern, and masks [H, W] of the pattern and of what lies well outside."""

    pixels: Pixels
    kind: str
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]


Shape = Callable[[NDArray[np.int64], NDArray[np.int64], int, np.random.Generator], NDArray[np.bool_]]

# One bit for each pixel (y, x) of a pattern with a period, in pixels.
SHAPES: dict[str, Shape] = {
    "board": lambda y, x, period, rng: (x // period + y // period) % 2 == 0,
    "rows": lambda y, x, period, rng: y // period % 2 == 0,
    "columns": lambda y, x, period, rng: x // period % 2 == 0,
    "diagonals": lambda y, x, period, rng: (x + y) // period % 2 == 0,
    "stipple": lambda y, x, period, rng: (x % (period + 1) == 0) & (y % (period + 1) == 0),
    "noise": lambda y, x, period, rng: rng.random(y.shape) < 0.5,
    "halftone": lambda y, x, period, rng: np.sin(6.3 * x / (period + 2)) * np.sin(6.3 * y / (period + 2)) > x / 48 - 1,
    "text": lambda y, x, period, rng: (rng.random((60, 60)) < 0.4)[y // 2, x // 2],
}


def hostile(seed: int, small: bool = False) -> Hostile:
    """A crop of the sample picture with one pattern, of random kind, period, size, place, contrast and colour.

    small: make a picture of 96×128 to 128×192 pixels, which takes a third of the time or less.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (int(rng.integers(*sides)) for sides in SMALL) if small else (HEIGHT, WIDTH)
    natural = _natural()
    y, x = rng.integers(0, natural.shape[0] - rows), rng.integers(0, natural.shape[1] - columns)
    pixels = natural[y : y + rows, x : x + columns].copy()
    height, width = (int(rng.choice([side for side in SIDES if side < rows])) for _ in range(2))
    top, left = int(rng.integers(0, rows - height)), int(rng.integers(0, columns - width))
    kind = str(rng.choice([*SHAPES, "mosaic", "colours"]))
    pixels[top : top + height, left : left + width] = _pattern(kind, height, width, rng)
    inside, outside = np.zeros((rows, columns), np.bool_), np.ones((rows, columns), np.bool_)
    inside[top : top + height, left : left + width] = True
    outside[max(0, top - MARGIN) : top + height + MARGIN, max(0, left - MARGIN) : left + width + MARGIN] = False
    return Hostile(pixels, kind, inside, outside)


@cache
def _natural() -> Pixels:
    with Image.open(PLACE) as image:
        return np.asarray(image.convert("RGB"))


def _pattern(kind: str, height: int, width: int, rng: np.random.Generator) -> Pixels:
    y, x = np.mgrid[:height, :width]
    if kind == "colours":
        return rng.choice(np.array([0, 255], np.uint8), (height, width, 3))
    if kind == "mosaic":  # of a camera's sensor: red, two greens, blue
        place = y % 2 * 2 + x % 2
        return (255 * (np.array([0, 1, 1, 2])[place][..., None] == np.arange(3))).astype(np.uint8)
    one, other = rng.choice(np.arange(0, 256, 51), (2, 1)).repeat(3, 1)
    if rng.random() < 0.5:
        one, other = rng.choice([0, 255], (2, 3))
    chosen = SHAPES[kind](y, x, int(rng.integers(1, 5)), rng)
    return np.where(chosen[..., None], one, other).astype(np.uint8)
