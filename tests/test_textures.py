"""Textures that no photograph has spoil nothing around them, and natural pictures are drawn as without any bound."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ldcodec.codec import decode_array, encode
from ldcodec.nets import synthesis
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Pixels
from tests.measure.textures import examined
from tests.pictures import photo, psnr
from tests.textures import hostile

RANGES = ("LATENT_RANGE", "COARSE_RANGE", "FINE_RANGE")


def with_board(side: int) -> tuple[Pixels, NDArray[np.bool_]]:
    """A smooth picture [192, 256, 3] with a board of single black and white pixels, and what lies well outside it."""
    pixels, outside = np.asarray(photo(256, 192)).copy(), np.ones((192, 256), np.bool_)
    pixels[80 : 80 + side, 96 : 96 + side] = 255 * (np.indices((side, side)).sum(0) % 2)[..., None]
    outside[64 : 96 + side, 80 : 112 + side] = False
    return pixels, outside


@pytest.mark.parametrize(("side", "realism"), [(16, 0.0), (48, 0.0), (32, 1.0)])
def test_a_board_of_single_pixels_spoils_nothing_around_it(shipped_model: Model, side: int, realism: float) -> None:
    """Without bounds the residual branch explodes, and all of the picture is coloured noise of 5 to 13 dB."""
    pixels, outside = with_board(side)
    data = encode(pixels, quality=60, fallback=False, model=shipped_model)
    decoded = decode_array(data, realism=realism, model=shipped_model)
    assert psnr(decoded[outside], pixels[outside]) > (30 if realism else 40)
    assert psnr(decoded[~outside], pixels[~outside]) > 9


@pytest.mark.parametrize("seed", range(16))
def test_hostile_textures_are_drawn_and_spoil_nothing(shipped_model: Model, seed: int) -> None:
    """A sample of what `python -m tests.measure.textures` tries by thousands."""
    found = examined(hostile(seed), shipped_model)
    assert not found.bad and found.outside > 28


@pytest.mark.parametrize("seed", [28, 155, 193, 20071])
def test_what_lies_around_a_hostile_texture_is_kept(shipped_model: Model, seed: int) -> None:
    """They came out at 18, 10, 11 and 15 dB; `python -m tests.measure.textures` tries thousands.

    The synthesis left its range on the first three, the rate model on the last.
    """
    texture = hostile(seed)
    data = encode(texture.pixels, quality=60, fallback=False, model=shipped_model)
    decoded = decode_array(data, model=shipped_model)
    assert psnr(decoded[texture.outside], texture.pixels[texture.outside]) > 25


def test_natural_pictures_are_drawn_as_without_bounds(shipped_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = hostile(0).pixels[60:, 40:]  # where there is no pattern
    data = encode(pixels, quality=80, model=shipped_model)
    bounded = decode_array(data, model=shipped_model)
    for name in RANGES:
        monkeypatch.setattr(synthesis, name, float("inf"))
    assert np.array_equal(bounded, decode_array(data, model=shipped_model))


def test_a_blank_position_is_drawn_by_the_linear_branch_and_seen_by_no_neighbour(model: Model) -> None:
    """In the picture of a latent with one wild position, all others are as if that one were zero in the residual."""
    networks, t = model.networks, torch.tensor([0.5])
    latent = torch.randn(1, networks.config.latent, 4, 4) * networks.std
    wild, blank = latent.clone(), latent.clone()
    wild[:, :, 1, 2] *= 1e4
    blank[:, :, 1, 2] = 0
    with torch.no_grad():
        drawn, other = (networks.synthesis(x, t, networks.std) for x in (wild, blank))
    drawn[:, :, 16:32, 32:48] = other[:, :, 16:32, 32:48] = 0
    assert torch.equal(drawn, other)
