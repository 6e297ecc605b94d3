"""Pictures to bytes and back: targets are met, sizes predicted, every shape restored, and all damage is detected."""

import copy
import itertools
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
from ldcodec.bitstream import container, layout, quality
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.quality import nearest_index
from ldcodec.bitstream.reader import Slice
from ldcodec.bitstream.slices import Span
from ldcodec.codec import decode, decode_array, decode_picture, encode
from ldcodec.decoder.parse import parse, read_slice
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.reverse import condition, reverse_diffusion
from ldcodec.diffusion.samplers import SAMPLERS
from ldcodec.encoder.outlook import Forecast
from ldcodec.encoder.ratecontrol import Coded, encode_to
from ldcodec.encoder.steering import Budget
from ldcodec.encoder.target import Target
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.trellis import Quantised
from ldcodec.errors import DamagedError, LdcodecError, LdcodecWarning, PictureError, TargetError, UsageError
from ldcodec.nets.denoiser import Denoiser
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Pixels
from tests.conftest import without_trellis
from tests.measure.cost import rated
from tests.pictures import gradient, noise, psnr, texture

pytestmark = pytest.mark.usefixtures("without_patches")

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


def check_prediction(pixels: Pixels, model: Model, index: int) -> None:
    """The rate model of floats against a file, but for the hyper-latent, for which it has no tables."""
    encoder = PictureEncoder(pixels, model)
    coded, found = encoder.code(index), rated(pixels, model, index)
    hyper = model.coder.hyper_bits(encoder.latents(index).hyper, index).sum()
    predicted = encoder.overhead + (float(found.bits - found.hyper_bits) + hyper) / 8
    assert abs(predicted - coded.size) <= 0.005 * coded.size + 16


@pytest.mark.parametrize("name", PICTURES)
def test_files_hold_the_symbols_and_take_what_the_tables_say(either: Model, name: str) -> None:
    encoder = PictureEncoder(PICTURES[name], either)
    for index in QUALITIES:
        coded = encoder.code(index)
        source = container.read(coded.data)
        hyper, parsed = read_slice(source.slices[0], source.header, Span(0, source.slices[0].rows), either)
        for field in ("symbols", "mean", "index", "kind"):
            assert np.array_equal(getattr(parsed, field), getattr(coded.parsed, field))
        inside = np.s_[:, : encoder.rows, : encoder.columns]
        quantised = Quantised(parsed.symbols[inside], parsed.kind[inside])
        bits = either.coder.latent_bits(quantised, parsed.index[inside]).sum()
        bits += either.coder.hyper_bits(hyper, index).sum()
        assert -1 <= coded.size - (encoder.overhead + bits / 8) <= 8 + 1e-3 * coded.size


@pytest.mark.parametrize("name", PICTURES)
def test_the_float_rate_model_predicts_sizes(scalar_model: Model, name: str) -> None:
    """Of files with the scalar quantiser, for which it was trained."""
    for index in QUALITIES:
        check_prediction(PICTURES[name], scalar_model, index)


def test_files_of_the_shipped_model_have_the_predicted_size(shipped_model: Model) -> None:
    """Each picture at one quality, each quality at least once."""
    plain = without_trellis(shipped_model)
    for name, index in zip(PICTURES, itertools.cycle(QUALITIES), strict=False):
        check_prediction(PICTURES[name], plain, index)


@pytest.mark.parametrize("name", ["texture", "grey texture"])
def test_a_file_forecasts_others(shipped_model: Model, name: str) -> None:
    """Within a few per cent, and the nearer the better, so that a search for a size ends after few files."""
    encoder = PictureEncoder(PICTURES[name], shipped_model)
    coded = encoder.code(2000)
    forecast = replace(coded.forecast, squared_error=quality.error_of_psnr(encoder.psnr(coded)))
    assert forecast.size(2000) == pytest.approx(coded.size, rel=0.002, abs=4)
    for index, share, decibels in ((1900, 0.03, 0.3), (2300, 0.08, 0.8)):
        other = encoder.code(index)
        assert forecast.size(index) == pytest.approx(other.size, rel=share, abs=8)
        assert forecast.psnr(index) == pytest.approx(encoder.psnr(other), abs=decibels)


def test_a_plain_picture_costs_less_than_32_bytes_around_its_symbols(model: Model) -> None:
    data = encode(texture(64, 64), quality=50, model=model)
    assert ldcodec.info(data)["overhead_bytes"] < 32  # type: ignore[operator]


def reachable(pixels: Pixels, model: Model, shares: list[float]) -> Iterator[int]:
    """File sizes between the smallest and the largest of the model, at these shares on a logarithmic scale."""
    low, high = (len(encode(pixels, quality=q, model=model)) for q in (0, 100))
    return (round(low * (high / low) ** share) for share in shares)


def check_size(found: int, target: float) -> None:
    assert target - max(0.01 * target, 12) <= found <= target  # files grow by words, unevenly by one or two


@pytest.mark.parametrize("name", ["texture", "grey texture", "gradient", "noise", "grey noise"])
def test_sizes_within_reach_are_met(model: Model, name: str) -> None:
    for size in reachable(PICTURES[name], model, [0.03, 0.2, 0.4, 0.6, 0.8, 0.97]):
        check_size(len(encode(PICTURES[name], size=size, model=model)), size)


def test_rates_within_reach_are_met(model: Model) -> None:
    pixels = PICTURES["grey texture"]
    for size in reachable(pixels, model, [0.1, 0.5, 0.9]):
        rate = 8 * (size + 0.4) / pixels.size
        check_size(len(encode(pixels, rate=rate, model=model)), rate * pixels.size / 8)


def test_rates_are_met_by_the_shipped_model(shipped_model: Model) -> None:
    pixels = PICTURES["texture"][:112, :144]
    for rate in (0.4, 1.0, 2.5):
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


@pytest.mark.slow
def test_psnr_is_reached_by_the_shipped_model(shipped_model: Model) -> None:
    check_psnr(PICTURES["texture"][:80, :100], shipped_model, [0.2, 0.6])


def test_quality_sets_the_index_and_more_of_it_costs_more(model: Model) -> None:
    files = [encode(PICTURES["texture"], quality=q, model=model) for q in (0, 12.5, 30, 50, 75, 100)]
    indices = [layout.read_layout(data, len(data)).header.quality for data in files]
    assert indices == [0, 512, 1228, 2048, 3071, 4095]
    assert indices[1] == nearest_index(0.125)
    assert all(len(first) < len(second) for first, second in pairwise(files))


@pytest.mark.parametrize("target, end", [({"size": 10**6}, 100), ({"rate": 99}, 100), ({"psnr": 5}, 0)])
def test_a_target_that_is_met_is_met_in_silence(model: Model, target: dict, end: float) -> None:
    """However far the model stays below a size or above a PSNR at the end of its range."""
    pixels = PICTURES["grey texture"]
    assert encode(pixels, **target, tune="psnr", model=model) == encode(pixels, quality=end, tune="psnr", model=model)


@pytest.mark.parametrize("name", ["grey texture", "noise", "texture"])
def test_a_psnr_beyond_the_model_is_reached_without_loss(model: Model, name: str) -> None:
    """It has at most 20 to 30 dB on these. With the fallback forbidden no file is made."""
    data = encode(PICTURES[name], psnr=45, model=model)
    assert container.read(data).lossless and np.array_equal(decode_array(data), PICTURES[name])
    with pytest.raises(TargetError, match=r"45.00 dB are out of reach; the nearest is .* only a lossless file"):
        encode(PICTURES[name], psnr=45, model=model, fallback=False)


def test_a_psnr_beyond_the_model_counts_what_alpha_shows(model: Model) -> None:
    alpha = np.zeros(PICTURES["noise"].shape[:2], np.uint8)
    alpha[:40] = 255
    restored = decode_array(encode(np.dstack([PICTURES["noise"], alpha]), psnr=45, model=model))
    assert np.array_equal(restored[:40, :, :3], PICTURES["noise"][:40]) and np.array_equal(restored[:, :, 3], alpha)


@pytest.mark.parametrize("target", [{"rate": 1e-3}, {"size": 1}])
@pytest.mark.parametrize("fallback", [True, False])
def test_a_size_that_no_file_has_is_an_error(model: Model, target: dict, fallback: bool) -> None:
    smallest = len(encode(PICTURES["grey texture"], quality=0, model=model))
    with pytest.raises(TargetError, match=f"out of reach; the smallest has {smallest}$"):
        encode(PICTURES["grey texture"], **target, model=model, fallback=fallback)


@pytest.mark.parametrize("target", [{"psnr": 24.0}, {"size": 900}])
def test_nothing_is_out_of_reach_before_the_end_was_tried(target: dict) -> None:
    """A picture whose guesses and forecasts lie: only the last index meets the target, and they point elsewhere."""

    class Liar:
        width = height = 100

        def guess_size(self, index: int) -> float:
            return 900.0

        def guess_psnr(self, index: int) -> float:
            return 24.0

        def rehearse(self, index: int, drawn: bool) -> None:
            return None

        def code(self, index: int, budget: Budget | None = None) -> Coded:
            header = layout.Header(100, 100, index, False, bytes(8))
            good = index == (4095 if "psnr" in target else 0)
            return Coded(Container(header, ()), bytes(500 if good else 2000), Forecast(index, [], 1, 900, 1.0))

        def psnr(self, coded: Coded) -> float:
            return 30.0 if coded.size == 500 else 20.0

    file, complaint = encode_to(Liar(), Target(**target))
    assert (file.size, complaint) == (500, None)


def test_a_point_has_a_file_for_every_target(model: Model) -> None:
    for target in ({"rate": 400}, {"size": 70}, {"psnr": 60.0}, {"rate": 10000.0}):
        data = encode(PICTURES["point"], **target, model=model)
        assert decode_array(data, model=model).shape == (1, 1, 3)


def test_anything_but_one_target_in_range_is_refused(model: Model) -> None:
    wrong: list[dict] = [{}, {"rate": 1, "size": 100}, {"psnr": 30, "quality": 30}]
    wrong += [{"rate": 1, "size": 1, "psnr": 1, "quality": 1}, {"size": 0}, {"size": -5}]
    wrong += [{"rate": rate} for rate in (0, -1, math.nan, math.inf)]
    wrong += [{"psnr": psnr} for psnr in (0, math.inf)]
    wrong += [{"quality": quality} for quality in (-1, 100.1, math.nan)]
    for target in wrong:
        with pytest.raises(UsageError):
            encode(PICTURES["point"], **target, model=model)


@pytest.mark.parametrize("grey", [False, True], ids=["rgb", "grey"])
def test_every_shape_comes_back(model: Model, grey: bool) -> None:
    for height, width in SHAPES:
        pixels = gradient(height, width)[:, :, 0] if grey else gradient(height, width)
        data = encode(pixels, quality=90, model=model)
        array, image = decode_array(data, model=model), decode(data, model=model)
        assert array.shape == pixels.shape and array.dtype == np.uint8
        assert image.mode == ("L" if grey else "RGB") and image.size == (width, height)
        assert np.array_equal(np.asarray(image), array)
        assert psnr(array, pixels) > 25


def test_arrays_and_images_give_the_same_file(model: Model) -> None:
    for name in ("gradient", "grey texture"):
        pixels = PICTURES[name]
        assert encode(pixels, quality=40, model=model) == encode(Image.fromarray(pixels), quality=40, model=model)


def test_strided_arrays_are_read_as_they_look(model: Model) -> None:
    turned = PICTURES["gradient"].transpose(1, 0, 2)[::-1]
    assert encode(turned, quality=40, model=model) == encode(turned.copy(), quality=40, model=model)


def test_arrays_that_are_no_picture_are_refused(model: Model) -> None:
    shapes = [(8, 8, 5), (8, 8, 1), (8,), (2, 8, 8, 3), (0, 8, 3), (8, 0)]
    wrong: list[NDArray] = [np.zeros((8, 8, 3), kind) for kind in (np.float32, np.int16, np.uint32)]
    for array in [*wrong, *(np.zeros(shape, np.uint8) for shape in shapes)]:
        with pytest.raises(PictureError):
            encode(array, quality=50, model=model)


@pytest.fixture(scope="module")
def data(model: Model) -> bytes:
    return encode(texture(70, 90), quality=40, model=model)


def test_decoder_settings_out_of_range_are_refused(model: Model, data: bytes) -> None:
    wrong: list[dict] = [{"steps": 0}, {"steps": 1001}, {"sampler": "euler"}, {"seed": -1}, {"seed": 1 << 64}]
    wrong += [{"realism": realism} for realism in (-0.01, 1.01, math.nan)]
    for settings in wrong:
        with pytest.raises(UsageError):
            decode_array(data, model=model, **settings)


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LdcodecWarning)  # this model has no second synthesis, which is said
            decode_picture(data, model=model, on_step=steps.append, **settings)  # type: ignore[arg-type]
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
                reverse_diffusion(known, untrained, DecodeSettings(steps, sampler=sampler)).latent, known.centre
            )
    with torch.no_grad():
        picture = model.networks.picture(known.centre, known.quality)[0, :, :70, :90]
    centroid = picture.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    assert np.array_equal(decode_array(data, model=untrained), centroid)
    assert not np.array_equal(decode_array(data, model=model), centroid)


def refused(data: bytes, model: Model) -> None:
    """Decoding raises an LdcodecError of one line. Anything else, even a panic of the range coder, fails the test."""
    with pytest.raises(LdcodecError) as caught:
        decode_array(data, model=model)
    assert "\n" not in str(caught.value)


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
    """The file with another payload and the right checksum for it, so that only the symbols can give it away."""
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
