"""Networks of other sizes that take over the parts of trained ones which fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ldcodec.errors import UsageError
from ldcodec.training.__main__ import main
from ldcodec.training.checkpoint import Progress, write_weights
from ldcodec.training.grafting import grafted
from ldcodec.training.start import load_networks
from tests.conftest import DENSE, ONE_SHOT, tiny_networks
from tests.test_widening import picture


def test_parts_that_fit_are_taken_over_and_others_begin_afresh() -> None:
    trained = tiny_networks(DENSE)
    found, kept = grafted(trained, ONE_SHOT)
    assert kept == ["analysis", "gain"] and found.config == ONE_SHOT
    t = torch.tensor([0.4])
    with torch.no_grad():
        latents = [networks.analysis(picture(), t, networks.std) for networks in (trained, found)]
        tuned = found.analysis(picture(), t, found.std, torch.ones(1))  # is not different before it is trained
        assert (
            torch.equal(*latents)
            and torch.equal(latents[0], tuned)
            and torch.equal(trained.scales(t).gain, found.scales(t).gain)
        )
        drawn, draft = found.picture(latents[1], t), trained.preview(latents[1], t, 1)
    assert torch.allclose(drawn, draft, atol=1e-4)  # a fresh synthesis adds nothing to the shortcut


def test_equal_sizes_keep_everything() -> None:
    trained = tiny_networks(DENSE)
    found, kept = grafted(trained, DENSE)
    assert kept == ["analysis", "gain", "rate", "synthesis"]
    assert torch.equal(found.rate.z_mean, trained.rate.z_mean)


def test_another_number_of_latent_channels_is_refused() -> None:
    with pytest.raises(UsageError, match="latent of 32 channels cannot become one of 64"):
        grafted(tiny_networks(DENSE), replace(DENSE, latent=64))


def test_the_command_writes_weights_to_start_from(tmp_path: Path) -> None:
    write_weights(tmp_path / "trained.safetensors", tiny_networks(DENSE), Progress("autoencoder"))
    sizes = "\n".join(f"{name} = {getattr(ONE_SHOT, name)}" for name in ONE_SHOT.__dataclass_fields__)
    (tmp_path / "other.toml").write_text(f"[model]\n{sizes}\n")
    names = [str(tmp_path / name) for name in ("trained.safetensors", "start.safetensors", "other.toml")]
    result = CliRunner().invoke(main, ["graft", *names[:2], "--settings", names[2]])
    assert result.exit_code == 0 and "kept: analysis, gain" in result.output
    assert load_networks(Path(names[1])).config == ONE_SHOT
