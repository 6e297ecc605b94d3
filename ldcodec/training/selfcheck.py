"""The check file of a model: a small .ldc file beside the weights, which `ldcodec verify --self` decodes.

Its symbols were computed where the model was exported. A machine that computes others cannot be trusted with any file.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import container
from ldcodec.bitstream.atomic import replaced
from ldcodec.bitstream.slices import PIXELS, UNIT
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.modelfiles import CHECK_FILE
from ldcodec.errors import ModelError
from ldcodec.nets.model import load_model

SIDE = 192  # pixels
CELL = UNIT * PIXELS  # pixels a side that one position of the hyper-latent covers
INDEX = 3900  # here all 64 scales of `base` and escaped symbols occur; between two knots of the tables over the quality


def check_picture() -> NDArray[np.uint8]:
    """uint8 [192, 192, 3]: nine cells from flat to noise, so that small scales and large ones occur.

    Computed in integers only, so it is the same everywhere.
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
    """Write the check file of a model beside its weights file and return its path.

    Raises ModelError for weights that cannot be loaded.
    """
    if not weights.is_file():
        raise ModelError(f"{weights}: no such weights file")
    coded = PictureEncoder(check_picture(), load_model(str(weights), "cpu")).code(INDEX)
    target = weights.with_name(CHECK_FILE)
    with replaced(target) as temporary:
        temporary.write_bytes(container.write(coded.container))
    return target


def _noise(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """[3, H, W] in 0..255 from coordinates [2, H, W]: a hash, since a library's generator may change."""
    mixed = (places[0] * 73_856_093) ^ (places[1] * 19_349_663)
    return np.stack([((mixed + salt) * 2_654_435_761 >> 15) % 256 for salt in (1, 2, 3)])
