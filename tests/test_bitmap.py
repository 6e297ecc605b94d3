"""The map of bits, compared with the bytes of real files and with the symbols one by one."""

import io
from dataclasses import replace

import numpy as np
import pytest

from ldcodec.bitstream import layout, slices
from ldcodec.bitstream.container import Container, write
from ldcodec.bitstream.layout import coded_size
from ldcodec.bitstream.reader import Reader
from ldcodec.codec import encode
from ldcodec.decoder.bitmap import block_bits, per_pixel
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT
from ldcodec.errors import ModelError
from ldcodec.nets.model import Model
from tests.pictures import texture

pytestmark = pytest.mark.usefixtures("without_patches")


def test_bits_are_those_of_the_tables(model: Model) -> None:
    """Symbols within and beyond the reach of each table, by counts and the length of the escape code."""
    tables = model.coder.tables
    for index in range(SCALE_COUNT):
        reach = int(tables.reach[index])
        far = sorted({0, 1, reach, reach + 1, reach + 2, reach + 7, reach + 8, min(32767, reach + 1000)})
        symbols = np.array([*far, *(-s for s in far)], np.int32)
        expected = []
        for symbol in symbols.tolist():
            beyond = max(0, abs(symbol) - reach)
            count = int(tables.half(index)[min(abs(symbol), reach + 1)])
            expected.append(PRECISION - np.log2(count) + (2 * beyond.bit_length() if beyond else 0))
        found = model.coder.bits(symbols, np.full(symbols.shape, index, np.uint8))
        assert np.allclose(found, expected)


@pytest.mark.parametrize("quality", [5, 95])
def test_the_bits_of_a_map_are_the_payload(either: Model, quality: float) -> None:
    for height, width in [(300, 330), (64, 64), (1, 1), (65, 17), (17, 500)]:
        check_map(either, height, width, quality)


def check_map(model: Model, height: int, width: int, quality: float) -> None:
    data = encode(texture(height, width), quality=quality, model=model, fallback=False)
    source = Reader(io.BytesIO(data))
    found = block_bits(source, model)
    assert found.latent.shape == found.hyper.shape == layout.coded_size(width, height)
    payload = 8 * source.payload_length(0)
    assert found.total.sum() <= payload < found.total.sum() + 64


@pytest.mark.slow
def test_the_map_agrees_with_the_payload_within_a_percent(shipped_model: Model) -> None:
    pixels = texture(256, 384)
    data = encode(pixels, rate=0.8, model=shipped_model, fallback=False)
    source = Reader(io.BytesIO(data))
    found = block_bits(source, shipped_model)
    assert found.total.sum() == pytest.approx(8 * source.payload_length(0), rel=0.01)
    assert 0 < found.hyper.sum() < found.latent.sum()


def test_slices_stand_below_each_other(model: Model) -> None:
    """The part of the map that belongs to a slice holds exactly the bits of its payload."""
    pixels = texture(500, 200)
    encoder = SlicedEncoder(pixels, model)
    encoder.spans = slices.cut(200, 500, area=8 * 16)
    file = encoder.code(2500).container
    source = Reader(io.BytesIO(write(file)))
    total = block_bits(source, model).total
    assert len(source.spans) > 2 and total.shape == coded_size(200, 500)
    for number, span in enumerate(source.spans):
        bits = total[span.top : span.bottom].sum()
        assert bits <= 8 * source.payload_length(number) < bits + 64
    part = block_bits(source, model, [1]).total
    rows = slice(source.spans[1].top, source.spans[1].bottom)
    assert np.array_equal(part[rows], total[rows]) and part.sum() == pytest.approx(total[rows].sum())


def test_bits_lie_where_the_picture_is_busy(shipped_model: Model) -> None:
    pixels = np.full((256, 256, 3), 120, np.uint8)
    pixels[64:128, 128:192] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    file: Container = PictureEncoder(pixels, shipped_model).code(2500).container
    total = block_bits(Reader(io.BytesIO(write(file))), shipped_model).total
    assert total[4:8, 8:12].sum() > total.sum() / 2


def test_another_models_file_is_refused(model: Model) -> None:
    file = PictureEncoder(texture(64, 64), model).code(100).container
    other = replace(file, header=replace(file.header, parse_id=bytes(range(8))))
    with pytest.raises(ModelError):
        block_bits(Reader(io.BytesIO(write(other))), model)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_bits_per_pixel_sum_to_the_bits(factor: int) -> None:
    for height, width in [(64, 64), (65, 47), (1, 1), (100, 33)]:
        check_bits_per_pixel(height, width, factor)


def check_bits_per_pixel(height: int, width: int, factor: int) -> None:
    bits = np.random.default_rng(1).random(coded_size(width, height))
    found = per_pixel(bits, width, height, factor)
    side = 16 * factor
    tall, wide = ([min(side, length - start) for start in range(0, length, side)] for length in (height, width))
    pixels = np.outer(tall, wide)
    assert found.shape == pixels.shape
    assert float((found * pixels).sum()) == pytest.approx(float(bits.sum()))
    assert found[0, 0] == pytest.approx(bits[:factor, :factor].sum() / pixels[0, 0])
