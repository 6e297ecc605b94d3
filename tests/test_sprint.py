"""Stage 1 on a machine that is at hand for minutes."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ldcodec.training import sprint
from ldcodec.training.__main__ import main
from ldcodec.training.autoencoder import AutoencoderStage
from ldcodec.training.checkpoint import Progress, write_parts, write_weights
from ldcodec.training.crops import Crops
from ldcodec.training.settings import AutoencoderSettings, Phase
from ldcodec.training.sprint import Way, adapt, best, fastest
from ldcodec.training.start import load_networks
from tests.conftest import ONE_SHOT, patterns, tiny_networks

PHASE = Phase(batch=4, crop=64, descent_crop=128, warm_up=2)


def stage_of(decoder: Phase | None = None) -> AutoencoderStage:
    settings = AutoencoderSettings(phase=PHASE, decoder=decoder or Phase(share=0))
    return AutoencoderStage(tiny_networks(ONE_SHOT), settings)


def crops() -> Crops:
    return Crops([*patterns(0)], torch.device("cpu"), 128)


def test_of_ways_nearly_as_fast_the_smaller_batch_is_best() -> None:
    ways = [Way(64, False, 100), Way(32, False, 97), Way(16, False, 90)]
    assert best(ways) == ways[1]
    assert best([*ways, Way(32, True, 98)]) == Way(32, True, 98)


def test_batches_are_tried_and_what_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(_stage: object, _crops: object, batch: int, crop: int, compiled: bool) -> float:
        if batch > 4:
            raise RuntimeError("out of memory\nin detail")
        return batch * crop**2 / {4: 100.0, 2: 98.0}[batch]

    monkeypatch.setattr(sprint, "timed", timed)
    told: list[str] = []
    way = fastest(stage_of(), crops(), 60, told.append)
    assert (way.batch, way.compiled) == (2, False) and way.speed == pytest.approx(98)
    assert len(told) == 3 and told[2] == "8 crops, as it is: out of memory"


def test_no_more_is_tried_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: Iterator[int] = count(0, 50)
    monkeypatch.setattr(sprint, "timed", lambda *_: 1.0)
    told: list[str] = []
    fastest(stage_of(), crops(), 60, told.append, clock=lambda: float(next(seconds)))
    assert len(told) == 2


def test_a_trial_leaves_the_weights_as_they_are() -> None:
    stage = stage_of()
    before = {name: parameter.clone() for name, parameter in stage.parameters().items()}
    assert fastest(stage, crops(), 60, lambda _: None).speed > 0
    for name, parameter in stage.parameters().items():
        assert torch.allclose(parameter, before[name], atol=1e-6), name


def test_all_phases_follow_the_batch() -> None:
    stage = stage_of(decoder=Phase(batch=8, crop=64))
    adapt(stage, Way(2, False, 1.0))
    assert [phase.batch for phase in stage.phases] == [4, 2]


def test_weights_travel_in_parts(tmp_path: Path) -> None:
    networks = tiny_networks(ONE_SHOT)
    whole = sum(tensor.nbytes for tensor in networks.state_dict().values())
    parts = write_parts(tmp_path, "flat", networks, Progress("autoencoder"), whole // 8)
    assert len(parts) > 2 and max(path.stat().st_size for path in parts) < whole // 3
    write_weights(tmp_path / "one.safetensors", networks, Progress("autoencoder"))
    one, joined = (load_networks(tmp_path / name).state_dict() for name in ("one.safetensors", "flat-*.safetensors"))
    assert one.keys() == joined.keys() and all(torch.equal(one[name], joined[name]) for name in one)


def test_a_run_hands_back_what_the_next_one_starts_from(tmp_path: Path) -> None:
    for number, pixels in enumerate(patterns(0)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    sizes = "\n".join(f"{name} = {getattr(ONE_SHOT, name)}" for name in ONE_SHOT.__dataclass_fields__)
    phase = "{ warm_up = 2, batch = 2, crop = 128, descent_crop = 128 }"
    phases = f"visual = 0.5\ndecoder = {phase}\nphase = {phase}\n"
    (tmp_path / "tiny.toml").write_text(f"[model]\n{sizes}\n[autoencoder]\n{phases}")
    write_weights(tmp_path / "start.safetensors", tiny_networks(ONE_SHOT), Progress("autoencoder"))
    words = ["sprint", "--settings", str(tmp_path / "tiny.toml"), "--device", "cpu", "--minutes", "0.02"]
    words += ["--data", str(tmp_path / "*.png"), "--trials", "1"]
    starts = {"first": "start.safetensors", "second": "first/flat-*.safetensors"}
    for name, start in starts.items():  # the second one does not freeze the latent again
        more = ["--start", str(tmp_path / start), "--out", str(tmp_path / name)]
        result = CliRunner().invoke(main, [*words, *more], catch_exceptions=False)
        assert result.exit_code == 0 and "crops a step, not compiled" in result.output, result.output
        assert ("phase 2 of 2 begins" in result.output) == (name == "first")
        assert {"average-1.safetensors", "flat-1.safetensors"} <= {path.name for path in (tmp_path / name).iterdir()}
    assert load_networks(tmp_path / "second" / "average-*.safetensors", ONE_SHOT).config == ONE_SHOT
