"""Where errors show, and where they matter: `--tune visual` and `--roi`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldcodec
from ldcodec.codec import decode_array, encode
from ldcodec.encoder import masking
from ldcodec.encoder.masking import GAIN, MOST, Weights, visual
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.encoder.target import Roi
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.errors import UsageError
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Pixels
from tests.commands import Call
from tests.pictures import noise, photo, texture

pytestmark = pytest.mark.usefixtures("without_patches")


COFFEE = Path(__file__).resolve().parent.parent / "docs" / "coffee.jpg"


def half_busy(height: int = 128, width: int = 192) -> Pixels:
    """Low contrast on the left, noise on the right."""
    pixels = np.full((height, width, 3), 120, np.uint8)
    pixels[:, : width // 2] += (texture(height, width // 2) // 16).astype(np.uint8)
    pixels[:, width // 2 :] = noise(height, width - width // 2)
    return pixels


def weights_of(pixels: Pixels, model: Model) -> Weights:
    return visual(pixels, model.networks.basis())


@pytest.mark.parametrize("grey", [False, True])
def test_busy_ground_weighs_less(model: Model, grey: bool) -> None:
    pixels = half_busy()[:, :, 0] if grey else half_busy()
    position = weights_of(pixels, model).position
    assert position.shape == (8, 12) and position.dtype == np.float32
    assert position[:, :6].min() > 1 > position[:, 6:].max()
    assert position.min() >= 1 / MOST and position.max() <= MOST


def test_dark_ground_weighs_more(model: Model) -> None:
    """Equal contrast at luma 30 and 180: by the square of the slope of a cube root of light, √(196/46)."""
    pixels = np.full((64, 128, 3), 30, np.uint8)
    pixels[:, 64:] = 180
    position = weights_of(pixels, model).position
    assert np.allclose(position[:, :4] / position[:, 4:], np.sqrt(196 / 46), rtol=1e-5)


def test_padding_is_not_weighed(model: Model) -> None:
    whole, part = weights_of(half_busy(), model).position, weights_of(half_busy()[:100, :150], model).position
    assert part.shape == (8, 12) and np.all(part[7:] == 1) and np.all(part[:, 10:] == 1)
    assert np.exp(np.log(part[:7, :10]).mean()) == pytest.approx(1, rel=0.02)  # but for what is cut at MOST
    assert np.corrcoef(whole[:6, :9].ravel(), part[:6, :9].ravel())[0, 1] > 0.999


def test_a_flat_picture_weighs_the_same_everywhere(model: Model) -> None:
    assert np.allclose(weights_of(np.full((50, 70, 3), 9, np.uint8), model).position, 1)


def test_fine_channels_weigh_less(shipped_model: Model) -> None:
    basis = shipped_model.networks.basis()
    weights = weights_of(half_busy(), shipped_model).channel
    roughness = np.abs(np.diff(basis, axis=3)).sum((1, 2, 3)) / np.abs(basis).sum((1, 2, 3))
    assert np.corrcoef(weights, roughness)[0, 1] < -0.6
    assert weights.max() / weights.min() <= 6.7 and np.exp(np.log(weights[:160]).mean()) == pytest.approx(1, abs=1e-4)


def test_weights_of_elements(model: Model) -> None:
    position = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    pair = np.array([1, 10], np.float32), np.array([0, 0.5], np.float32)
    weights, places = Weights(position, pair[0], position == 6, pair[1]), np.array([0, 5, 6, 11])
    assert weights.of(places, 0).tolist() == [1, 6, 10, 60 * (1 + GAIN / 2)]
    assert weights.of(places, 2457).tolist() == [1, 6, 10, 60]  # at quality 60
    part = weights.within(np.array([1, 1]), np.array([2, 0]))
    assert part.position.tolist() == [[6, 4], [6, 4]] and part.vivid.tolist() == [[True, False]] * 2
    assert part.channel is weights.channel


def spotted() -> Pixels:
    """A grey texture with two red spots."""
    pixels = np.repeat(texture(192, 256)[:, :, :1] // 2 + 60, 3, 2)
    for y, x in ((40, 60), (120, 170)):
        pixels[y : y + 10, x : x + 10] = pixels[y : y + 10, x : x + 10] // 2 + np.array([90, 20, 20], np.uint8)
    return pixels


def test_spots_of_colour_weigh_more_in_the_channels_of_colour(shipped_model: Model) -> None:
    weights, basis = weights_of(spotted(), shipped_model), shipped_model.networks.basis()
    vivid, apart = weights.vivid, np.square(basis - basis.mean(1, keepdims=True)).sum((1, 2, 3))
    assert {(2, 3), (7, 10)} <= set(zip(*(vivid > 0.5).nonzero(), strict=True)) and np.median(vivid) < 1e-6
    assert np.corrcoef(weights.colour, apart / np.square(basis).sum((1, 2, 3)))[0, 1] > 0.8


def test_small_things_keep_their_colour(shipped_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many bytes."""
    pixels, kept = spotted(), []
    for gain in (0, GAIN):
        monkeypatch.setattr(masking, "GAIN", gain)
        shown = decode_array(encode(pixels, size=1200, model=shipped_model, fallback=False), model=shipped_model)
        red = [part[40:50, 60:70].astype(float) @ (1, -0.5, -0.5) for part in (pixels, shown)]
        kept.append(red[1].mean() / red[0].mean())
    assert kept[0] + 0.05 < kept[1] < 1.1, kept


def test_bits_move_to_where_errors_show(shipped_model: Model) -> None:
    """At equal size flat ground is nearer to the picture, and busy ground farther from it."""
    pixels, errors = half_busy(192, 256), {}
    for tune in ("psnr", "visual"):
        data = encode(pixels, size=9000, tune=tune, model=shipped_model, fallback=False)
        squares = np.square(decode_array(data, model=shipped_model).astype(float) - pixels)
        errors[tune] = squares[:, :128].mean(), squares[:, 128:].mean()
    assert errors["visual"][0] < 0.9 * errors["psnr"][0] and errors["visual"][1] > errors["psnr"][1]


def test_slices_are_weighed_as_the_whole_is(model: Model) -> None:
    pixels = half_busy(256, 192)
    weights = weights_of(pixels, model)
    one, sliced = (kind(pixels, model, weights=weights) for kind in (PictureEncoder, SlicedEncoder))
    assert sliced.code(2000).container.slices == one.code(2000).container.slices
    plain = PictureEncoder(pixels, model).code(2000)
    assert one.code(2000).container.slices != plain.container.slices


def test_samples_of_large_pictures_are_weighed(model: Model) -> None:
    pixels = half_busy(330, 270)
    encoder = SlicedEncoder(pixels, model, weights=weights_of(pixels, model))
    forecasts = [found.rehearse(2000, drawn=False).size(2000) for found in (encoder, SlicedEncoder(pixels, model))]
    assert forecasts[0] != forecasts[1]


def test_without_weights_nothing_changes(model: Model) -> None:
    pixels = texture(70, 90)
    weights = masking.even(pixels, model.networks.basis())
    files = {PictureEncoder(pixels, model, weights=some).code(2500).data for some in (None, weights)}
    assert len(files) == 1


@pytest.mark.parametrize(("target", "same"), [({"quality": 40}, 0), ({"size": 3000}, 0), ({"psnr": 14}, 1)])
def test_the_default_is_that_of_the_target(shipped_model: Model, target: dict, same: int) -> None:
    pixels, tunes = half_busy(64, 128), ("visual", "psnr")
    files = [encode(pixels, **target, tune=tune, fallback=False, model=shipped_model) for tune in tunes]
    assert encode(pixels, **target, fallback=False, model=shipped_model) == files[same] != files[1 - same]


def test_a_region_of_interest_is_nearer_to_the_picture(shipped_model: Model) -> None:
    """At equal size, by decibels, with either tuning; less than nothing makes it worse."""
    pixels, part = np.asarray(Image.open(COFFEE).convert("RGB"))[100:228, 200:456], (32, 48, 64, 48)
    for tune in ("psnr", "visual"):
        inside, outside = [], []
        for roi in ((*part, -12), None, part, (*part, 20)):
            data = encode(pixels, size=1500, tune=tune, roi=roi, fallback=False, model=shipped_model)
            squares = np.square(decode_array(data, model=shipped_model).astype(float) - pixels).mean(2)
            inside.append(squares[48:96, 32:96].sum())
            outside.append(squares.sum() - inside[-1])
        assert inside == sorted(inside, reverse=True) and outside[1:] == sorted(outside[1:])


def test_a_region_of_interest_in_weights(model: Model) -> None:
    weights = weights_of(half_busy(), model)
    ratio = weights.favouring(Roi(30, 17, 20, 15, 10.0)).position / weights.position
    expected = np.full((8, 12), 10**-0.5)
    expected[1:2, 1:4] = 10**0.5
    assert np.allclose(ratio, expected)


def test_regions_of_interest_that_are_none(call: Call, model: Model, tiny_model: str) -> None:
    for roi, words in (
        ((1, 2, 3), "decibels if you like"),
        ((0, 0, 9, 9, 40), "from -30 to 30"),
        ((0, 0, 0.5, 9), "whole"),
    ):
        with pytest.raises(UsageError, match=words):
            encode(photo(), quality=50, roi=roi, model=model)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0,0,97,64 does not lie in a picture of 96x64 pixels"):
        encode(photo(96, 64), quality=50, roi=(0, 0, 97, 64), model=model)
    photo(96, 64).save("a.png")
    compress = ("compress", "a.png", "--quality", "50", "--model", "tiny")
    for text in ("1,2,3", "0,0,9,9,x", "0,0,9,9,31"):
        code, _, err = call(*compress, "--roi", text)
        assert code == 2 and "not a region of interest" in err
    code, _, err = call(*compress, "--roi", "0,0,97,64")
    assert code != 0 and "does not lie in a picture" in err and not Path("a.ldc").exists()
    assert call(*compress, "--roi", "0,0,9,9,-3.5")[0] == 0


def test_the_option(call: Call, tiny_model: str) -> None:
    photo(96, 64).save("a.png")
    files = []
    for tune in ("psnr", "visual"):
        assert (
            call("compress", "a.png", "-f", "--quality", "60", "--tune", tune, "--model", "tiny", "--no-fallback")[0]
            == 0
        )
        with open("a.ldc", "rb") as file:
            files.append(file.read())
    assert files[0] != files[1]
    assert call("compress", "a.png", "-f", "--quality", "60", "--tune", "ear", "--model", "tiny")[0] == 2
    assert call("compress", "a.png", "-f", "--quality", "60", "--model", "tiny", "--no-fallback")[0] == 0
    with open("a.ldc", "rb") as file:
        assert file.read() == files[1]  # visual is the default
    with pytest.raises(UsageError, match="psnr or visual"):
        ldcodec.encode(photo(), quality=60, tune="ear")
