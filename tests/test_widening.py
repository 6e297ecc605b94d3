"""Widening: larger networks begin with the bits and pictures of smaller ones, and all their new weights can learn."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from ldcodec.errors import UsageError
from ldcodec.nets.networks import Networks
from ldcodec.training.__main__ import main
from ldcodec.training.autoencoder import AutoencoderStage
from ldcodec.training.checkpoint import Progress, write_weights
from ldcodec.training.settings import AutoencoderSettings
from ldcodec.training.widening import widened
from tests.conftest import TINY, tiny_networks

LARGER = replace(
    TINY,
    width8=TINY.width8 + 8,
    width16=TINY.width16 + 12,
    context=TINY.context + 4,
    hyper=TINY.hyper + 4,
    blocks8=TINY.blocks8 + 1,
    blocks16=TINY.blocks16 + 2,
)


def coded(networks: Networks, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    t = torch.tensor([0.6])
    with torch.no_grad():
        scales = networks.scales(t)
        y = networks.analysis(x, t, networks.std) * scales.gain
        rated = networks.rate(y, t, scales.expected)
        return y, rated.bits, networks.picture(rated.symbols + rated.mean, t)


def picture() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(1, 3, 16, 24).repeat_interleave(8, 2).repeat_interleave(8, 3)


def test_the_larger_networks_do_what_the_smaller_ones_do() -> None:
    small = tiny_networks().eval()
    large = widened(small, LARGER).eval()
    assert sum(p.numel() for p in large.analysis.parameters()) > sum(p.numel() for p in small.analysis.parameters())
    (y, bits, decoded), (wide_y, wide_bits, wide_decoded) = coded(small, picture()), coded(large, picture())
    assert bits > 100
    assert torch.allclose(y, wide_y, atol=1e-3)
    assert torch.allclose(decoded, wide_decoded, atol=1e-4)
    assert wide_bits.item() == pytest.approx(bits.item(), rel=1e-3)  # those of the new, silent hyper-latents are more


def test_new_channels_learn() -> None:
    large = widened(tiny_networks(), LARGER).train()
    stage = AutoencoderStage(large, AutoencoderSettings())
    optimiser = torch.optim.SGD(stage.parameters().values(), lr=1e-3)
    for _ in range(3):  # what reads the new channels is zero at first, so their own gradient comes a step later
        optimiser.zero_grad()
        stage.loss(picture(), torch.tensor([0.6]), 0).loss.backward()
        optimiser.step()
    for name in ("synthesis.stem.weight", "analysis.down.weight", "rate.steps.1.spatial.weight"):
        gradient = large.get_parameter(name).grad
        assert gradient is not None
        assert (gradient[-4:].flatten(1).abs().sum(1) > 0).all(), name


@pytest.mark.parametrize(("change", "said"), [({"width8": 4}, "width8"), ({"latent": 64}, "latent")])
def test_sizes_that_shrink_and_other_latents_are_refused(change: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        widened(tiny_networks(), replace(LARGER, **change))


def test_the_command_writes_weights_to_start_from(tmp_path: Path) -> None:
    write_weights(tmp_path / "small.safetensors", tiny_networks(), Progress("autoencoder"))
    sizes = "\n".join(f"{name} = {getattr(LARGER, name)}" for name in LARGER.__dataclass_fields__)
    (tmp_path / "larger.toml").write_text(f"[model]\n{sizes}\n")
    names = [str(tmp_path / name) for name in ("small.safetensors", "large.safetensors", "larger.toml")]
    result = CliRunner().invoke(main, ["widen", *names[:2], "--settings", names[2]])
    assert result.exit_code == 0, result.output
    with safe_open(names[1], "pt") as file:
        assert json.loads(file.metadata()["config"])["width16"] == LARGER.width16
