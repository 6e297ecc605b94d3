"""Files of earlier versions decode: their symbols exactly, their pixels as close as floats allow.

The model lies beside them, so that neither new weights nor another version of torch makes them unreadable. The
originals are `tests.test_codec.texture(45, 70, 3)` and the green of `texture(33, 50, 4)`, at quality 55.
"""

from pathlib import Path

import numpy as np
import pytest

from ldcodec import container
from ldcodec.codec import decode_array
from ldcodec.decoder import parse
from ldcodec.model import Model, load_model
from tests.test_codec import Pixels, psnr, texture

GOLDEN = Path(__file__).parent / "golden"
FILES: dict[str, tuple[Pixels, str]] = {
    "rgb.ldc": (texture(45, 70, 3), "ecf7125b"),
    "grey.ldc": (texture(33, 50, 4)[:, :, 1], "0209be51"),
}


@pytest.fixture(scope="module")
def golden_model() -> Model:
    return load_model(str(GOLDEN / "tiny"), "cpu")


@pytest.mark.parametrize("name", FILES)
def test_files_of_version_0_1_decode(golden_model: Model, name: str) -> None:
    original, symbols = FILES[name]
    data = (GOLDEN / name).read_bytes()
    source = container.read(data)
    parse(source, golden_model)
    assert f"{source.slices[0].symbols_crc:08x}" == symbols
    found = decode_array(data, model=golden_model)
    assert found.shape == original.shape and found.dtype == np.uint8
    assert psnr(found, original) > 19.5
