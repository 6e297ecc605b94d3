"""Grey in RGB comes back as grey in RGB: the networks draw it as single values, so that nothing tints it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldcodec import pillow  # noqa: F401  # registers the format
from ldcodec.bitstream import chunktypes, container
from ldcodec.bitstream.reader import Reader
from ldcodec.codec import decode_array, decode_picture, encode
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.decoder.restore import restore_each
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Pixels
from tests.pictures import disc, psnr, texture
from tests.ways import in_every_way, options_of

pytestmark = pytest.mark.usefixtures("without_patches")

GREY = np.ascontiguousarray(texture(150, 100, 5)[:, :, 1])
IN_RGB = np.repeat(GREY[:, :, None], 3, 2)


def is_grey(pixels: Pixels) -> bool:
    return pixels.ndim == 3 and bool((pixels[:, :, :3] == pixels[:, :, :1]).all())


@in_every_way
def test_grey_in_rgb_stays_grey_in_rgb(model: Model, way: str) -> None:
    check_neutral(options_of(way, (3, 70, 40, 61)), model)


@pytest.mark.usefixtures("either_size")
def test_previews_of_grey_in_rgb_are_grey_in_rgb(model: Model) -> None:
    check_neutral({"request": Request(scale=8)}, model)


def check_neutral(options: dict[str, Any], model: Model) -> None:
    """Decode both forms of the picture, and compare."""
    rgb = decode_array(encode(IN_RGB, quality=40, fallback=False, model=model), **options, model=model)
    grey = decode_array(encode(GREY, quality=40, fallback=False, model=model), **options, model=model)
    assert is_grey(rgb) and np.array_equal(rgb[:, :, 0], grey)


def test_alpha_stays_beside_grey_in_rgb(model: Model) -> None:
    pixels = np.dstack([IN_RGB, disc(*GREY.shape)])
    decoded = decode_array(encode(pixels, quality=40, fallback=False, model=model), model=model)
    assert is_grey(decoded) and np.array_equal(decoded[:, :, 3], pixels[:, :, 3])


def test_every_program_sees_grey_in_rgb(model: Model) -> None:
    data = encode(IN_RGB, quality=40, fallback=False, model=model)
    shown = [picture.pixels for picture in restore_each(Reader(io.BytesIO(data)), model, [DecodeSettings()], Request())]
    assert container.info(data)["grey"] is False and is_grey(shown[0])
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"


def test_grey_in_rgb_takes_a_few_bytes_more_than_grey(model: Model) -> None:
    in_rgb, grey = (encode(pixels, quality=60, fallback=False, model=model) for pixels in (IN_RGB, GREY))
    assert len(in_rgb) - len(grey) == 2 + 9 + 3  # the tables' counts, the chunk, the slice's rows and length


def test_a_trace_of_colour_makes_a_coloured_picture(model: Model) -> None:
    pixels = IN_RGB.copy()
    pixels[-1, -1, 0] ^= 1
    data = encode(pixels, quality=60, fallback=False, model=model)
    assert container.read(data).chunk(chunktypes.NEUTRAL) is None


def test_targets_hold_for_grey_in_rgb(model: Model) -> None:
    data = encode(IN_RGB, psnr=20.5, fallback=False, model=model)
    assert 20.5 <= psnr(decode_array(data, model=model), IN_RGB) < 20.7
    assert len(encode(IN_RGB, size=900, fallback=False, model=model)) <= 900


@pytest.mark.parametrize("quality", [20, 60])
def test_a_plain_wall_is_not_tinted(shipped_model: Model, quality: float) -> None:
    """Noise of 1.5 levels around one grey came back with channels up to 7 levels apart."""
    noise = np.random.default_rng(0).normal(128, 1.5, (128, 192, 1))
    wall = np.rint(noise).astype(np.uint8).repeat(3, 2)
    decoded = decode_picture(encode(wall, quality=quality, fallback=False, model=shipped_model), model=shipped_model)
    assert is_grey(decoded.pixels) and np.abs(decoded.pixels.astype(int) - 128).max() <= 8


def test_a_grey_photograph_is_not_tinted(shipped_model: Model) -> None:
    """As coloured pictures, the channels of such photographs came back up to 14 levels apart."""
    path = Path(__file__).resolve().parent.parent / "ldcodec" / "bench" / "landscape.png"
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L").crop((0, 200, 256, 392)))
    pixels = np.repeat(grey[:, :, None], 3, 2)
    data = encode(pixels, quality=20, fallback=False, model=shipped_model)
    assert is_grey(decode_array(data, model=shipped_model))
