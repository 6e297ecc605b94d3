"""The check file of a model: a small .ldc file beside the weights, which `ldcodec verify --self` decodes.

Its symbols were computed where the model was exported; a machine on which they come out otherwise cannot be trusted
with anybody's files.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import container
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.weightsfile import CHECK_FILE
from ldcodec.errors import ModelError
from ldcodec.nets.model import load_model

SIDE = 192  # pixels
CELL = 64  # pixels that one position of the hyper-latent covers
INDEX = 3900  # all 64 scales of `base` and escaped symbols occur; between two knots of the tables over the quality


def check_picture() -> NDArray[np.uint8]:
    """uint8 [192, 192, 3]: nine cells from flat to noise, so that small scales and large ones occur.

    Made of integers alone, so it is the same everywhere.
    """
    y, x = np.divmod(np.arange(SIDE * SIDE, dtype=np.int64).reshape(SIDE, SIDE), SIDE)
    noise = _noise(np.stack([x, y]))
    cells = [
        np.full_like(x, 90),
        x + y,
        noise[0],
        128 + (noise[0] - 128) // 8,
        255 * ((x // 8 + y // 8) % 2),
        255 * (2 * x > y + 220),
        255 * (x % 11 == 0),
        (x * x + y * y) // 32 % 256,
        (2 * x + noise[1] // 4) % 256,
    ]
    grey = np.choose(y // CELL * 3 + x // CELL, cells)
    tinted = np.stack([grey, (3 * grey + x) // 4, (2 * grey + 255 - y + noise[2] // 16) // 4], axis=-1)
    picture: NDArray[np.uint8] = np.clip(tinted, 0, 255).astype(np.uint8)
    return picture


def write_check(weights: Path) -> Path:
    """Makes the check file of a model and returns its path, beside the weights file.

    An older one stays until the new one is whole. Raises ModelError for weights that cannot be loaded.
    """
    if not weights.is_file():
        raise ModelError(f"{weights}: no such weights file")
    coded = PictureEncoder(check_picture(), load_model(str(weights), "cpu")).code(INDEX)
    target = weights.with_name(CHECK_FILE)
    temporary = target.with_name(target.name + ".part")
    temporary.write_bytes(container.write(coded.container))
    os.replace(temporary, target)
    return target


def _noise(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """[3, H, W] in 0..255 from coordinates [2, H, W]: a multiplicative hash, not a generator that may change."""
    mixed = (places[0] * 73_856_093) ^ (places[1] * 19_349_663)
    return np.stack([((mixed + salt) * 2_654_435_761 >> 15) % 256 for salt in (1, 2, 3)])
