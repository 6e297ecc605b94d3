"""Unusual sizes and kinds of content: no failure, and no file that is larger than it must be."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ldcodec.bitstream import container, layout, reader
from ldcodec.codec import decode_array, encode
from ldcodec.errors import TargetError
from ldcodec.nets.model import Model
from ldcodec.pictures import chunks, planes
from ldcodec.pictures.picture import Picture, Pixels
from tests.pictures import noise, texture

pytestmark = pytest.mark.slow

OVERHEAD = 60  # bytes that an .ldc file adds to lossless WebP


def checkerboard(height: int, width: int) -> Pixels:
    squares = (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)
    return np.repeat(squares[:, :, None], 3, 2)


def line(height: int, width: int) -> Pixels:
    """One black row on white."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[height // 2] = 0
    return pixels


def screenshot(height: int, width: int) -> Pixels:
    """Windows, a toolbar and lines of text."""
    image = Image.new("RGB", (width, height), (240, 240, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 24), (40, 60, 120))
    for top in range(32, height - 12, 14):
        draw.text((10, top), "The quick brown fox jumps over the lazy dog. " * 4, (20, 20, 20))
    if min(width, height) > 40:
        draw.rectangle((width // 2, height // 2, width - 10, height - 10), (255, 255, 255), (90, 90, 90))
    return np.asarray(image).copy()


def flat(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), (10, 130, 200), np.uint8)


CONTENTS: dict[str, Callable[[int, int], Pixels]] = {
    "flat": flat,
    "noise": noise,
    "checkerboard": checkerboard,
    "line": line,
    "screenshot": screenshot,
}


def test_every_length_of_a_side(model: Model) -> None:
    """Every remainder of the blocks of 16 pixels, and every length next to one of their multiples."""
    for length in sorted({*range(1, 20), *(16 * k + d for k in range(2, 9) for d in (-1, 0, 1, 2))}):
        pixels = texture(length, 3) if length % 2 else texture(2, length)
        data = encode(pixels, quality=40, fallback=False, model=model)
        assert decode_array(data, model=model).shape == pixels.shape
        assert len(data) < 200 + length  # the tiny model's; about 130 bytes at 130 pixels


SIZES = [(1, 1), (1, 977), (977, 1), *itertools.product((63, 64, 65), repeat=2), (7, 2048), (2048, 7), (1, 1)]


@pytest.mark.parametrize(("size", "content"), list(zip(SIZES, itertools.cycle(CONTENTS), strict=False)), ids=str)
def test_sizes_at_the_borders(model: Model, content: str, size: tuple[int, int]) -> None:
    """Each size with one kind of content, each content with three sizes."""
    pixels = CONTENTS[content](*size)
    for target in ({"quality": 100.0}, {"rate": 0.5}):
        with suppress(TargetError):  # a header alone may have more than half a bit for each of few pixels
            data = encode(pixels, **target, model=model)  # type: ignore[arg-type]
            assert len(data) <= len(planes.webp(pixels)) + OVERHEAD
            assert decode_array(data, model=model).shape == pixels.shape


QUALITIES = [("flat", 10), ("noise", 50), ("noise", 100), ("checkerboard", 10), ("line", 100), ("screenshot", 50)]


@pytest.mark.parametrize(("content", "quality"), QUALITIES)
def test_no_file_is_much_larger_than_lossless_webp(shipped_model: Model, content: str, quality: int) -> None:
    pixels = CONTENTS[content](200, 280)
    data = encode(pixels, quality=quality, model=shipped_model)
    assert len(data) <= len(planes.webp(pixels)) + OVERHEAD
    if container.read(data).lossless:
        assert np.array_equal(decode_array(data), pixels)
    coded = encode(pixels, quality=quality, fallback=False, model=shipped_model)
    assert not container.read(coded).lossless
    assert len(data) <= len(coded) < pixels.size + 1000


def test_a_screenshot_at_high_quality_becomes_lossless(shipped_model: Model) -> None:
    pixels = screenshot(200, 280)
    for target in ({"quality": 100.0}, {"psnr": 45.0}):
        data = encode(pixels, **target, model=shipped_model)  # type: ignore[arg-type]
        assert container.read(data).lossless
        assert np.array_equal(decode_array(data), pixels)


def test_of_a_photograph_only_a_sample_is_coded_losslessly(
    shipped_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    webp = Mock(side_effect=planes.webp)
    monkeypatch.setattr(planes, "webp", webp)
    pixels = texture(320, 480)
    assert not container.read(encode(pixels, quality=90, model=shipped_model)).lossless
    assert [call.args[0].shape for call in webp.call_args_list] == [(256, 256, 3)]


def test_the_complaint_is_true_of_the_smallest_file(model: Model) -> None:
    """The codec cannot fill so many bytes, but the lossless file may stay below; 20 bytes are too few for both."""
    pixels = flat(200, 300)
    data = encode(pixels, size=100_000, model=model)
    assert container.read(data).lossless
    assert encode(pixels, size=len(data), model=model) == data
    with pytest.raises(TargetError, match=f"of 20 bytes is out of reach; the smallest has {len(data)}$"):
        encode(pixels, size=20, model=model)


def test_the_lossless_fallback_drops_what_alpha_hides() -> None:
    """--lossless keeps noise behind alpha 0; the fallback, which is meant to be small, makes it black."""
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:8] = 255
    picture = Picture(noise(64, 64), alpha)
    kept = chunks.lossless(picture)
    coded = container.Container(kept.header, (reader.Slice(4, bytes(9000), 0),))
    coded = container.Container(layout.Header(64, 64, 0, False, bytes(range(8))), coded.slices)
    data = chunks.smaller_lossless(picture, 9000, len(container.write(coded)))
    assert data is not None
    found = container.read(data)
    assert len(data) < 0.2 * len(container.write(kept))
    assert np.array_equal(chunks.lossless_pixels(found)[:8], picture.pixels[:8])
    assert not chunks.lossless_pixels(found)[8:].any()
    assert np.array_equal(chunks.lossless_pixels(kept), picture.pixels)
