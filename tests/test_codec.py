"""Pictures to bytes and back: targets met, sizes predicted, every shape, and damage that is always told."""

import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import ldcodec
from ldcodec.bitstream import container, layout
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.quality import nearest_index
from ldcodec.bitstream.reader import Slice
from ldcodec.codec import decode, decode_array, encode
from ldcodec.decoder.reverse import DecodeSettings, condition, parse, reconstruct
from ldcodec.diffusion.samplers import SAMPLERS
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.errors import DamagedError, LdcodecError, LdcodecWarning, PictureError, UsageError
from ldcodec.nets.denoiser import Denoiser
from ldcodec.nets.model import Model
from tests.pictures import Pixels, gradient, noise, psnr, texture

QUALITIES = 0, 1000, 2000, 3000, 4095
SHAPES = [(1, 1), (1, 300), (17, 33), (64, 64), (65, 63), (400, 1)]


PICTURES = {
    "texture": texture(200, 320),
    "grey texture": texture(150, 100, 5)[:, :, 1],
    "gradient": gradient(120, 77),
    "noise": noise(65, 63),
    "grey noise": noise(48, 130)[:, :, 0],
    "flat": np.full((90, 70, 3), 200, np.uint8),
    "point": np.full((1, 1, 3), 9, np.uint8),
}
each_picture = pytest.mark.parametrize("name", PICTURES)


def check_prediction(pixels: Pixels, model: Model, index: int) -> None:
    encoder = PictureEncoder(pixels, model)
    written = len(container.write(encoder.code(index).container))
    assert abs(encoder.estimate_size(index) - written) <= 0.005 * written + 16


@pytest.mark.parametrize("index", QUALITIES)
@each_picture
def test_written_bits_are_the_predicted_ones(model: Model, name: str, index: int) -> None:
    check_prediction(PICTURES[name], model, index)


@pytest.mark.parametrize("index", QUALITIES)
@each_picture
def test_written_bits_are_the_predicted_ones_of_the_shipped_model(shipped_model: Model, name: str, index: int) -> None:
    check_prediction(PICTURES[name], shipped_model, index)


@pytest.mark.parametrize("index", [0, 1777, 4095])
@each_picture
def test_the_decoder_reads_what_the_encoder_wrote(model: Model, name: str, index: int) -> None:
    coded = PictureEncoder(PICTURES[name], model).code(index)
    parsed = parse(container.read(container.write(coded.container)), model)
    assert np.array_equal(parsed.symbols, coded.parsed.symbols)
    assert np.array_equal(parsed.mean, coded.parsed.mean) and np.array_equal(parsed.index, coded.parsed.index)


def test_a_plain_picture_costs_less_than_32_bytes_around_its_symbols(model: Model) -> None:
    data = encode(texture(64, 64), quality=50, model=model)
    assert ldcodec.info(data)["overhead_bytes"] < 32  # type: ignore[operator]


def reachable(pixels: Pixels, model: Model, shares: list[float]) -> Iterator[int]:
    """File sizes within what the model reaches, at some shares of the way on a logarithmic scale."""
    low, high = (len(encode(pixels, quality=q, model=model)) for q in (0, 100))
    return (round(low * (high / low) ** share) for share in shares)


def check_size(found: int, target: float) -> None:
    assert target - max(0.01 * target, 12) <= found <= target  # files grow by words, unevenly by one or two


@pytest.mark.parametrize("name", ["texture", "grey texture", "gradient", "noise", "grey noise"])
def test_sizes_within_reach_are_met(model: Model, name: str) -> None:
    for size in reachable(PICTURES[name], model, [0.03, 0.2, 0.4, 0.6, 0.8, 0.97]):
        check_size(len(encode(PICTURES[name], size=size, model=model)), size)


@pytest.mark.parametrize("name", ["texture", "grey texture"])
def test_rates_within_reach_are_met(model: Model, name: str) -> None:
    pixels = PICTURES[name]
    count = pixels.shape[0] * pixels.shape[1]
    for size in reachable(pixels, model, [0.1, 0.5, 0.9]):
        rate = 8 * (size + 0.4) / count
        check_size(len(encode(pixels, rate=rate, model=model)), rate * count / 8)


@pytest.mark.parametrize("rate", [0.4, 1.0, 2.5])
def test_rates_are_met_by_the_shipped_model(shipped_model: Model, rate: float) -> None:
    pixels = PICTURES["texture"][:112, :144]
    check_size(len(encode(pixels, rate=rate, model=shipped_model)), rate * 112 * 144 / 8)


def check_psnr(pixels: Pixels, model: Model, shares: list[float]) -> None:
    low, high = (psnr(decode_array(encode(pixels, quality=q, model=model), model=model), pixels) for q in (0, 100))
    for share in shares:
        target = low + share * (high - low)
        found = psnr(decode_array(encode(pixels, psnr=target, model=model), model=model), pixels)
        assert target <= found <= target + 0.1


@pytest.mark.parametrize("name", ["texture", "grey texture"])
def test_psnr_is_reached(model: Model, name: str) -> None:
    check_psnr(PICTURES[name], model, [0.1, 0.5, 0.9])


def test_psnr_is_reached_by_the_shipped_model(shipped_model: Model) -> None:
    check_psnr(PICTURES["texture"][:80, :100], shipped_model, [0.2, 0.6])


def test_quality_sets_the_index_and_more_of_it_costs_more(model: Model) -> None:
    files = [encode(PICTURES["texture"], quality=q, model=model) for q in (0, 12.5, 30, 50, 75, 100)]
    indices = [layout.read_layout(data, len(data)).header.quality for data in files]
    assert indices == [0, 512, 1228, 2048, 3071, 4095]
    assert indices[1] == nearest_index(0.125)
    assert all(len(first) < len(second) for first, second in pairwise(files))


@pytest.mark.parametrize("target, end", [({"rate": 1e-3}, 0), ({"size": 1}, 0), ({"size": 10**6}, 100)])
def test_sizes_out_of_reach_give_the_nearest_end_and_a_warning(model: Model, target: dict, end: float) -> None:
    with pytest.warns(LdcodecWarning, match="out of reach") as told:
        data = encode(PICTURES["texture"], **target, model=model)
    assert data == encode(PICTURES["texture"], quality=end, model=model)
    assert len(told) == 1 and told[0].filename == __file__


@pytest.mark.parametrize("target, end", [(5.0, 0), (90.0, 100)])
def test_psnr_out_of_reach_gives_the_nearest_end_and_a_warning(model: Model, target: float, end: float) -> None:
    pixels = PICTURES["texture"]
    with pytest.warns(LdcodecWarning, match="out of reach"):
        data = encode(pixels, psnr=target, model=model)
    assert data == encode(pixels, quality=end, model=model)


def test_a_point_has_a_file_for_every_target(model: Model) -> None:
    for target in ({"rate": 0.5}, {"size": 40}, {"psnr": 60.0}, {"rate": 10000.0}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LdcodecWarning)
            data = encode(PICTURES["point"], **target, model=model)
        assert decode_array(data, model=model).shape == (1, 1, 3)


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"rate": 1, "size": 100},
        {"psnr": 30, "quality": 30},
        {"rate": 1, "size": 1, "psnr": 1, "quality": 1},
        {"rate": 0},
        {"rate": -1},
        {"rate": math.nan},
        {"rate": math.inf},
        {"size": 0},
        {"size": -5},
        {"psnr": 0},
        {"psnr": math.inf},
        {"quality": -1},
        {"quality": 100.1},
        {"quality": math.nan},
    ],
)
def test_anything_but_one_target_in_range_is_refused(model: Model, target: dict) -> None:
    with pytest.raises(UsageError):
        encode(PICTURES["point"], **target, model=model)


@pytest.mark.parametrize("grey", [False, True], ids=["rgb", "grey"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_every_shape_comes_back(model: Model, shape: tuple[int, int], grey: bool) -> None:
    pixels = gradient(*shape)
    pixels = pixels[:, :, 0] if grey else pixels
    data = encode(pixels, quality=90, model=model)
    array, image = decode_array(data, model=model), decode(data, model=model)
    assert array.shape == pixels.shape and array.dtype == np.uint8
    assert image.mode == ("L" if grey else "RGB") and image.size == (shape[1], shape[0])
    assert np.array_equal(np.asarray(image), array)
    assert psnr(array, pixels) > 25


def test_arrays_and_images_give_the_same_file(model: Model) -> None:
    for name in ("gradient", "grey texture"):
        pixels = PICTURES[name]
        assert encode(pixels, quality=40, model=model) == encode(Image.fromarray(pixels), quality=40, model=model)


def test_strided_arrays_are_read_as_they_look(model: Model) -> None:
    turned = PICTURES["gradient"].transpose(1, 0, 2)[::-1]
    assert encode(turned, quality=40, model=model) == encode(turned.copy(), quality=40, model=model)


def test_a_grey_picture_costs_no_more_than_the_same_in_rgb(model: Model) -> None:
    grey = PICTURES["grey texture"]
    rgb = np.repeat(grey[:, :, None], 3, 2)
    assert len(encode(grey, quality=60, model=model)) == len(encode(rgb, quality=60, model=model))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8, 5), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_that_are_no_picture_are_refused(model: Model, array: NDArray) -> None:
    with pytest.raises(PictureError):
        encode(array, quality=50, model=model)


@pytest.fixture(scope="module")
def data(model: Model) -> bytes:
    return encode(texture(70, 90), quality=40, model=model)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1001},
        {"realism": -0.01},
        {"realism": 1.01},
        {"realism": math.nan},
        {"sampler": "euler"},
        {"seed": -1},
        {"seed": 1 << 64},
    ],
)
def test_decoder_settings_out_of_range_are_refused(model: Model, data: bytes, wrong: dict) -> None:
    with pytest.raises(UsageError):
        decode_array(data, model=model, **wrong)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_gives_one_picture_and_another_seed_another(model: Model, data: bytes, sampler: str) -> None:
    def drawn(seed: int) -> Pixels:
        return decode_array(data, steps=3, realism=1.0, sampler=sampler, seed=seed, model=model)

    first = drawn(7)
    assert np.array_equal(first, drawn(7))
    assert not np.array_equal(first, drawn(8))
    assert not np.array_equal(first, decode_array(data, model=model))


def test_without_realism_the_seed_says_nothing(model: Model, data: bytes) -> None:
    assert np.array_equal(decode_array(data, seed=1, model=model), decode_array(data, seed=2, model=model))


def test_steps_default_to_one_and_with_realism_to_eight(model: Model, data: bytes) -> None:
    def counted(**settings: float) -> int:
        steps: list[int] = []
        decode_array(data, model=model, on_step=steps.append, **settings)  # type: ignore[arg-type]
        return len(steps)

    assert (counted(), counted(steps=5), counted(realism=0.4), counted(realism=0.4, steps=2)) == (1, 5, 8, 2)


def test_an_untrained_denoiser_is_the_centroid_decoder(model: Model, data: bytes) -> None:
    networks = copy.deepcopy(model.networks)
    networks.denoiser = Denoiser(networks.config).requires_grad_(False)
    untrained = replace(model, networks=networks)
    source = container.read(data)
    known = condition(parse(source, model), source.header, model)
    for sampler in SAMPLERS:
        for steps in (1, 4):
            assert torch.equal(
                reconstruct(known, untrained, DecodeSettings(steps, sampler=sampler)).latent, known.centre
            )
    with torch.no_grad():
        picture = model.networks.picture(known.centre, known.quality)[0, :, :70, :90]
    centroid = picture.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    assert np.array_equal(decode_array(data, model=untrained), centroid)
    assert not np.array_equal(decode_array(data, model=model), centroid)


def refused(data: bytes, model: Model) -> None:
    """Anything but an LdcodecError, a panic of the range coder too, passes through and fails the test."""
    with pytest.raises(LdcodecError) as told:
        decode_array(data, model=model)
    assert "\n" not in str(told.value)


def test_a_file_cut_anywhere_is_refused(model: Model, data: bytes) -> None:
    for length in [*range(60), *range(60, len(data), 7), len(data) - 1]:
        refused(data[:length], model)


def test_a_file_that_has_grown_is_refused(model: Model, data: bytes) -> None:
    for extra in (b"\0", b"\0\0\0\0", data):
        refused(data + extra, model)


def test_a_file_with_any_byte_changed_is_refused(model: Model, data: bytes) -> None:
    for position in [*range(60), *range(60, len(data), 5), len(data) - 1]:
        for change in (1 << position % 8, 0xFF):
            refused(data[:position] + bytes([data[position] ^ change]) + data[position + 1 :], model)


def with_payload(source: Container, payload: bytes) -> bytes:
    """The file with another payload, all checksums of the container in order: only the symbols can tell."""
    piece = source.slices[0]
    return container.write(replace(source, slices=(Slice(piece.rows, payload, piece.symbols_crc),)))


def test_payloads_that_no_encoder_wrote_are_refused(model: Model, data: bytes) -> None:
    source, rng = container.read(data), np.random.default_rng(0)
    payload = source.slices[0].payload
    for length in (0, 3, 4, 64, len(payload), len(payload) + 400):
        refused(with_payload(source, rng.bytes(length)), model)
    for fill in (b"\0", b"\xff"):
        refused(with_payload(source, fill * len(payload)), model)
    for position in range(0, len(payload) - 8, 41):
        refused(with_payload(source, payload[:position] + b"\x5a\xa5" + payload[position + 2 :]), model)


@pytest.mark.parametrize(
    "change", [{"quality": 4095}, {"quality": 0}, {"width": 91 + 16}, {"width": 40}, {"height": 9}]
)
def test_headers_that_lie_are_refused(model: Model, data: bytes, change: dict[str, int]) -> None:
    source = container.read(data)
    header = replace(source.header, **change)  # type: ignore[arg-type]
    rows = layout.latent_size(header.width, header.height)[0]
    piece = replace(source.slices[0], rows=rows)
    with pytest.raises(DamagedError):
        decode_array(container.write(Container(header, (piece,))), model=model)


def test_public_names_are_these_functions() -> None:
    assert ldcodec.encode is encode and ldcodec.decode is decode
