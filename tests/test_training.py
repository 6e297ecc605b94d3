"""Training: settings, data, schedule, stages, checkpoints, export and evaluation, on a tiny model and made pictures."""

import io
import itertools
import json
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import stats

from ldcodec.bitstream import container
from ldcodec.codec import decode_array
from ldcodec.diffusion.posterior import FARTHEST, moments
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy import tables
from ldcodec.entropy.config import BASE, SMALL, Config
from ldcodec.entropy.modelfiles import CHECK_FILE
from ldcodec.entropy.tables import SCALE_COUNT, SCALES, SHIFT_REACH
from ldcodec.errors import ModelError, PictureError, UsageError
from ldcodec.nets import precision
from ldcodec.nets.model import Model, load_model
from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels
from ldcodec.training import __main__ as command
from ldcodec.training import checkpoint, profiling, settings, stages
from ldcodec.training.__main__ import main
from ldcodec.training.autoencoder import AutoencoderStage, centroid
from ldcodec.training.crops import Crops, load_pictures
from ldcodec.training.denoising import PICTURE, VELOCITY, DenoiserStage
from ldcodec.training.optimiser import stage_optimiser
from ldcodec.training.release import export_model
from ldcodec.training.settings import AutoencoderSettings, Data, DenoiserSettings, Phase, Run, TrainingSettings
from ldcodec.training.stages import Stage
from ldcodec.training.start import block_covariance, fresh_networks, karhunen_loeve, load_networks
from ldcodec.training.trainer import FLAT_STATE, STATE, WEIGHTS, Trainer
from tests.conftest import TINY, assumed_covariance, tiny_networks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
FASTEST_TYPE = precision.fastest_type
SMALLEST = Config(
    latent=8, width8=8, width16=8, context=8, hyper=4, blocks8=1, blocks16=1, denoiser=8, denoiser_blocks=1
)
PHASE = Phase(rate=2e-3, warm_up=4, descent=0.25, batch=4, crop=64, descent_crop=64)
SETTINGS = TrainingSettings(
    model=SMALLEST,
    run=Run(report_steps=1, checkpoint_minutes=1e9),
    autoencoder=AutoencoderSettings(phase=PHASE),
    denoiser=DenoiserSettings(velocity=PHASE, picture=replace(PHASE, rate=1e-3)),
)


def made_pictures(count: int = 3, size: tuple[int, int] = (96, 128)) -> list[Pixels]:
    """Smooth colour waves with an edge and some noise."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[: size[0], : size[1]]
    found = []
    for _ in range(count):
        phase, period = rng.uniform(0, 6, 3), rng.uniform(8, 40, 2)
        wave = np.sin(rows / period[0])[..., None] + np.cos(columns[..., None] / period[1] + 0.3 * phase)
        edge = 40 * (rows * rng.uniform(0.5, 2) > columns)[..., None]
        found.append(np.clip(110 + 40 * wave + edge + rng.normal(0, 3, (*size, 3)), 0, 255).astype(np.uint8))
    return found


@pytest.fixture(autouse=True, scope="module")
def plain_floats() -> Iterator[None]:
    """No trial of floating-point types, so that all processors run the same test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fastest_type", lambda device: torch.float32)
        patch.setattr(profiling, "fastest_type", lambda device: torch.float32)
        yield


def ticking(minutes: float = 1.0) -> Callable[[], float]:
    """A clock on which each step takes the same number of minutes."""
    ticks = itertools.count()
    return lambda: 60 * minutes * next(ticks)


def trainer(stage: Stage, folder: Path, steps: int, report: Callable[[str], None] = lambda line: None) -> Trainer:
    crops = Crops(made_pictures(), CPU, 64)
    return Trainer(stage, crops, steps, SETTINGS, folder, clock=ticking(), report=report)


def autoencoder_stage(networks: Networks) -> Stage:
    return AutoencoderStage(networks, SETTINGS.autoencoder)


def denoiser_stage(networks: Networks) -> Stage:
    return DenoiserStage(networks, SETTINGS.denoiser)


def fresh() -> Networks:
    return fresh_networks(SMALLEST, assumed_covariance())


def fixed_loss(stage: Stage, phase: int) -> float:
    torch.manual_seed(3)
    x = Crops(made_pictures(), CPU, 64).batch(8, 64, np.random.default_rng(5))
    stage.enter(phase)
    return stage.loss(x, torch.linspace(0, 1, 8), phase).loss.item()


# settings


def test_the_first_phase_of_stage_1_leaves_latents_as_they_are() -> None:
    networks = fresh()
    short = Phase(warm_up=0, batch=2, crop=64, descent_crop=64)
    stage = AutoencoderStage(networks, AutoencoderSettings(decoder=short, phase=short))
    optimiser = stage_optimiser(stage)
    before = {name: parameter.detach().clone() for name, parameter in stage.parameters().items()}
    moved: list[set[str]] = []
    x = Crops(made_pictures(), CPU, 64).batch(2, 64, np.random.default_rng(5))
    for phase in (0, 1):
        stage.enter(phase)
        optimiser.zero_grad()
        stage.loss(x, torch.tensor([0.3, 0.7]), phase).loss.backward()
        optimiser.clipped_step()
        moved.append({name.split(".")[0] for name, p in stage.parameters().items() if not torch.equal(p, before[name])})
    assert moved == [{"rate", "synthesis"}, {"rate", "synthesis", "analysis", "gain"}]


def test_a_teacher_moves_the_loss_towards_its_picture() -> None:
    """The picture of a teacher with a brighter synthesis is farther from the student's than the original is."""
    teacher = fresh()
    with torch.no_grad():
        teacher.get_parameter("synthesis.head.bias").add_(4.0)
    x, losses = Crops(made_pictures(), CPU, 64).batch(2, 64, np.random.default_rng(5)), []
    for taught in (None, teacher):
        stage = AutoencoderStage(fresh(), AutoencoderSettings(), taught)
        torch.manual_seed(3)
        stage.enter(0)
        losses.append(stage.loss(x, torch.tensor([0.3, 0.7]), 0))
    assert losses[1].loss > losses[0].loss + 1
    assert losses[1].figures["mse"] == losses[0].figures["mse"]


@pytest.mark.parametrize(("name", "config"), [("small", SMALL), ("base", BASE)])
def test_shipped_settings_describe_the_models_we_ship(name: str, config: Config) -> None:
    assert settings.read_settings(ROOT / "models" / name / "training.toml").model == config


WRONG_SETTINGS = {
    "colour = 1": "colour",
    "[run]\nthread = 1": "run.thread",
    "[autoencoder.phase]\nlearning_rate = 1e-3": "autoencoder.phase.learning_rate",
    '[run]\nthreads = "1"': "run.threads",
    "[run]\nthreads = 1.5": "run.threads",
    "[autoencoder]\nphase = 3": "autoencoder.phase",
    "[autoencoder.phase]\ncrop = 100": "multiples of 64",
    "[denoiser]\nstart_share = 2": "start_share",
    "[data]\npictures = [1]": "data.pictures",
    "[model]\nlatent = 3": "latent",
    "[run\n": "line 1",
}


def test_wrong_settings_are_refused_in_a_line_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    for text, named in WRONG_SETTINGS.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=rf"^[^\n]*t\.toml: [^\n]*{named}[^\n]*$"):
            settings.read_settings(path)


def test_settings_are_read_and_overridden(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        '[data]\npictures = "a/*.tar"\n[autoencoder]\nminutes = 7\nphase = { batch = 2 }\n'
    )
    read = settings.read_settings(tmp_path / "t.toml")
    assert read.data.pictures == ("a/*.tar",)
    assert (read.autoencoder.minutes, read.autoencoder.phase.batch) == (7.0, 2)
    changed = settings.override(read, run={"threads": 3, "device": None}, autoencoder={"minutes": None})
    assert (changed.run.threads, changed.run.device, changed.autoencoder.minutes) == (3, "auto", 7.0)


def test_a_missing_settings_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        settings.read_settings(tmp_path / "none.toml")


# schedule


def test_learning_rate_rises_stays_and_falls() -> None:
    phase = Phase(rate=8.0, warm_up=4, descent=0.5)
    assert stages.learning_rate(phase, 0, 0) == 2
    assert stages.learning_rate(phase, 0, 3) == stages.learning_rate(phase, 0.5, 100) == 8
    assert stages.learning_rate(phase, 0.75, 100) == 4
    assert stages.learning_rate(phase, 1, 100) == 0
    assert stages.learning_rate(phase, 1.1, 100) == 0
    assert stages.learning_rate(Phase(rate=8.0, warm_up=0, descent=0), 1, 0) == 8


def test_phases_follow_each_other_and_are_never_entered_again() -> None:
    phases = (Phase(share=1), Phase(share=3))
    assert stages.moment(phases, 0) == stages.Moment(0, 0)
    assert stages.moment(phases, 0.125) == stages.Moment(0, 0.5)
    assert stages.moment(phases, 0.25) == stages.Moment(1, 0)
    assert stages.moment(phases, 0.625) == stages.Moment(1, 0.5)
    assert stages.moment(phases, 1.5) == stages.Moment(1, 1)
    assert stages.moment(phases, 0.1, earliest=1) == stages.Moment(1, 0)
    assert stages.moment((Phase(share=0), Phase(share=1)), 0.5) == stages.Moment(1, 0.5)


def test_the_descent_takes_fewer_and_larger_crops() -> None:
    phase = Phase(batch=16, crop=128, descent_crop=256, descent=0.3)
    assert stages.batch_and_crop(phase, 0.69) == (16, 128)
    assert stages.batch_and_crop(phase, 0.71) == (4, 256)
    assert stages.batch_and_crop(replace(phase, batch=1), 0.9) == (1, 256)


# pictures


def test_pictures_come_from_tars_folders_and_files(tmp_path: Path) -> None:
    Image.fromarray(made_pictures()[0]).save(tmp_path / "a.png")
    Image.fromarray(made_pictures()[0][:, :, 0]).save(tmp_path / "b.png")
    (tmp_path / "c.txt").write_text("no picture")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        content = (tmp_path / "a.png").read_bytes()
        member = tarfile.TarInfo("inner.png")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert [len(load_pictures([str(tmp_path / p)])) for p in ("all.tar", "a.png", "?.png", "")] == [1, 1, 2, 3]
    grey = load_pictures([str(tmp_path / "b.png")])[0]
    assert grey.shape == (96, 128, 3)
    assert (grey[:, :, 0] == grey[:, :, 2]).all()
    assert len(load_pictures([str(tmp_path / "?.png")], limit=1)) == 1
    with pytest.raises(PictureError, match="no pictures"):
        load_pictures([str(tmp_path / "c.txt")])


def test_crops_come_from_pictures_that_are_large_enough() -> None:
    light, dark = np.full((70, 90, 3), 255, np.uint8), np.zeros((70, 60, 3), np.uint8)
    crops = Crops([light, dark], CPU, 64)
    x = crops.batch(5, 64, np.random.default_rng(0))
    assert x.shape == (5, 3, 64, 64)
    assert (x == 1).all()
    with pytest.raises(PictureError, match="128"):
        Crops([light, dark], CPU, 128)


def test_crops_are_turned_and_cut_anywhere() -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (100, 100, 3))
    x = Crops([ramp], CPU, 64).batch(40, 64, np.random.default_rng(0)).mul(255).round()
    rising, falling = x[:, 0, 0, -1] > x[:, 0, 0, 0], x[:, 0, 0, -1] < x[:, 0, 0, 0]
    assert rising.any()
    assert falling.any()
    assert (x[:, 0, 0, 0] == x[:, 0, 0, -1]).any()
    assert len({int(v) for v in x.amin((1, 2, 3))}) > 10


# start


def test_the_transform_is_orthonormal_and_sorted() -> None:
    covariance = block_covariance(made_pictures(), blocks=4000)
    matrix, deviation = karhunen_loeve(covariance, 40)
    assert torch.allclose(matrix @ matrix.T, torch.eye(40), atol=1e-5)
    assert (deviation.diff() <= 0).all()
    variance = (matrix.double() @ torch.from_numpy(covariance) @ matrix.double().T).diagonal()
    assert torch.allclose(variance.sqrt().float(), deviation, rtol=1e-3, atol=1e-3)


def test_fresh_networks_are_a_transform_codec() -> None:
    networks = fresh_networks(TINY, block_covariance(made_pictures(), blocks=20_000)).eval()
    x = torch.from_numpy(made_pictures(1, (64, 64))[0]).permute(2, 0, 1)[None] / 255
    t = torch.ones(1)
    with torch.no_grad():
        y = networks.analysis(x, t, networks.std)
        error = (networks.synthesis(y, t, networks.std) - x).square().mean()
    assert -10 * error.log10() > 30  # 32 of 768 dimensions of a smooth picture
    assert torch.allclose(networks.scales(t).gain, networks.scales(t).expected / networks.std)


def test_weights_of_every_kind_are_a_start(tmp_path: Path, tiny_model_folder: Path) -> None:
    networks = tiny_networks()
    wanted = networks.state_dict()
    config = {"config": json.dumps({k: v for k, v in vars(TINY).items() if not k.startswith("denoiser")})}
    plain = {name: tensor.half() for name, tensor in wanted.items() if not name.startswith("denoiser.")}
    save_file(plain, tmp_path / "plain.safetensors", metadata=config)
    for path in (tmp_path / "plain.safetensors", tiny_model_folder / "tiny" / "model.safetensors"):
        loaded = load_networks(path, TINY).state_dict()
        assert torch.equal(loaded["rate.steps.1.mix.bias"], wanted["rate.steps.1.mix.bias"])
        assert torch.allclose(loaded["analysis.klt"], wanted["analysis.klt"], atol=1e-3)
        assert all(tensor.dtype == torch.float32 for tensor in loaded.values())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    path = tiny_model_folder / "tiny" / "model.safetensors"
    with pytest.raises(ModelError, match=f"context is {TINY.context}"):
        load_networks(path, replace(TINY, context=16))
    tensors = load_file(path)
    for name, problem in (("net.rate.z_mean", "missing"), ("net.other", "unknown")):
        changed = {
            k: v for k, v in {**tensors, "net.other": torch.zeros(1)}.items() if k != name or problem == "unknown"
        }
        if problem == "missing":
            changed.pop("net.other")
        save_file(changed, tmp_path / "bad.safetensors", metadata={"config": json.dumps(vars(TINY))})
        with pytest.raises(ModelError, match=problem):
            load_networks(tmp_path / "bad.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ModelError, match="not a readable"):
        load_networks(tmp_path / "text.safetensors")


# stages


def test_the_autoencoder_learns(tmp_path: Path) -> None:
    stage = AutoencoderStage(fresh(), SETTINGS.autoencoder)
    before = fixed_loss(stage, 0)
    trainer(stage, tmp_path, 40).run()
    assert fixed_loss(stage, 0) < 0.95 * before


def test_the_centroid_of_a_free_scale_is_near_the_exact_one() -> None:
    symbol, scale = (x.ravel() for x in np.meshgrid(np.arange(-6.0, 7), np.logspace(-0.9, 2, 30)))
    found = centroid(*(torch.from_numpy(x).float() for x in (symbol, scale))).numpy()
    likely = np.abs(symbol) < 3.5 * scale + 0.5
    exact = stats.truncnorm((symbol - 0.5) / scale, (symbol + 0.5) / scale, scale=scale).mean()
    assert np.abs(found - exact)[likely].max() < 0.01
    assert np.abs(found - symbol).max() <= 0.5


def test_the_centroid_of_a_free_scale_is_that_of_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the 64 scales, where cells are those of plain rounding."""
    monkeypatch.setattr(tables, "edge_shifts", lambda: np.zeros((SCALE_COUNT, SHIFT_REACH + 1), np.float32))
    index, magnitude = (x.ravel() for x in np.meshgrid(np.arange(SCALE_COUNT), np.arange(FARTHEST + 1)))
    scale = np.array(SCALES)[index]
    found = centroid(*(torch.from_numpy(x).float() for x in (magnitude, scale))).numpy()
    error = np.abs(found - moments(magnitude, index)[0])
    likely = magnitude < 3 * scale + 0.5
    assert (error < 3e-5 * scale**2 + 1e-4)[likely].all()


def test_an_untrained_denoiser_decodes_the_centroid() -> None:
    networks = fresh()
    stage = DenoiserStage(networks, SETTINGS.denoiser)
    stage.enter(PICTURE)
    x = Crops(made_pictures(), CPU, 64).batch(2, 64, np.random.default_rng(0))
    known, u, bits = stage.posterior(x, torch.tensor([0.2, 0.9]))
    assert torch.equal(stage.decode(known), networks.picture(known.centre, known.quality))
    scaled = networks.analysis(x, known.quality, networks.std) * networks.scales(known.quality).gain
    assert torch.allclose(known.centre + known.deviation * u, scaled, atol=1e-4)
    assert bits[1] > bits[0] > 0


def test_losses_of_an_untrained_denoiser_are_known() -> None:
    stage = DenoiserStage(fresh(), replace(SETTINGS.denoiser, start_share=0.75, velocity_limit=1e9))
    stage.enter(VELOCITY)
    x = Crops(made_pictures(), CPU, 64).batch(64, 64, np.random.default_rng(0))
    t = torch.linspace(0, 1, 64)
    known, u, _ = stage.posterior(x, t)
    weight = 12 * known.deviation.square()
    start = (weight * u.square()).mean().item()
    result = stage.loss(x, t, VELOCITY)
    assert result.figures["left"].item() == pytest.approx(1)
    velocity = result.figures["velocity"].item()
    assert velocity == pytest.approx(0.5 * (weight.mean().item() + start), rel=0.05)  # α² and σ² are ½ on average
    assert result.loss.item() == pytest.approx(0.25 * velocity + 0.75 * start, rel=1e-5)


def test_stage_two_changes_only_the_renderer(tmp_path: Path) -> None:
    stage = DenoiserStage(tiny_networks(SMALLEST), SETTINGS.denoiser)
    checkpoint.write_weights(tmp_path / "before.safetensors", stage.networks, checkpoint.Progress("autoencoder"))
    stage = DenoiserStage(load_networks(tmp_path / "before.safetensors"), SETTINGS.denoiser)
    before = {name: tensor.clone() for name, tensor in stage.networks.state_dict().items()}
    lines: list[str] = []
    trainer(stage, tmp_path / "run", 12, lines.append).run()
    after = load_networks(tmp_path / "run" / WEIGHTS).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"denoiser", "synthesis"}
    assert any("phase 2 of 2" in line for line in lines)
    ids = [
        export_model(p, tmp_path / "m.safetensors")
        for p in (tmp_path / "before.safetensors", tmp_path / "run" / WEIGHTS)
    ]
    assert ids[0] == ids[1]


def test_the_first_phase_of_stage_two_leaves_the_synthesis_alone(tmp_path: Path) -> None:
    stage = DenoiserStage(fresh(), replace(SETTINGS.denoiser, picture=replace(PHASE, share=0.0)))
    before = {name: tensor.clone() for name, tensor in stage.networks.state_dict().items()}
    trainer(stage, tmp_path, 6).run()
    after = stage.networks.state_dict()
    assert {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])} == {"denoiser"}


def test_stage_two_learns(tmp_path: Path) -> None:
    stage = DenoiserStage(tiny_networks(SMALLEST), SETTINGS.denoiser)
    before = fixed_loss(stage, PICTURE)
    trainer(stage, tmp_path, 40).run()
    assert fixed_loss(stage, PICTURE) < 0.98 * before


# runs


@pytest.mark.parametrize("make", [autoencoder_stage, denoiser_stage])
def test_a_resumed_run_equals_one_without_a_break(tmp_path: Path, make: Callable[[Networks], Stage]) -> None:
    whole, first = trainer(make(fresh()), tmp_path / "whole", 10), trainer(make(fresh()), tmp_path / "parts", 10)
    whole.run()

    def stop_after_six(line: str) -> None:
        first.stop = first.progress.step == 6

    first.report = stop_after_six
    first.run()
    assert first.progress.step == 6
    second = trainer(make(load_networks(tmp_path / "parts" / STATE)), tmp_path / "parts", 10)
    second.resume(tmp_path / "parts" / STATE)
    second.run()
    assert second.progress == whole.progress
    ours, theirs = (load_file(tmp_path / name / STATE) for name in ("parts", "whole"))
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("second.") for name in ours)
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6), name


def test_the_flat_state_is_that_before_the_descent(tmp_path: Path) -> None:
    run = trainer(AutoencoderStage(fresh(), SETTINGS.autoencoder), tmp_path, 8)
    run.run()
    assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, STATE, FLAT_STATE}
    again = trainer(AutoencoderStage(load_networks(tmp_path / FLAT_STATE), SETTINGS.autoencoder), tmp_path / "more", 20)
    again.resume(tmp_path / FLAT_STATE)
    assert again.progress.step == 7  # the first step at which more than three quarters of eight are over
    again.run()
    assert again.progress.step == 20
    averaged, raw = load_file(tmp_path / WEIGHTS), load_file(tmp_path / STATE)
    assert not torch.equal(averaged["net.analysis.stem.weight"].float(), raw["net.analysis.stem.weight"])
    kept = raw["average.analysis.stem.weight"]
    assert torch.equal(averaged["net.analysis.stem.weight"], kept.half())


def test_a_state_whose_time_is_over_or_of_another_stage_is_refused(tmp_path: Path) -> None:
    stage = AutoencoderStage(fresh(), SETTINGS.autoencoder)
    trainer(stage, tmp_path, 3).run()
    with pytest.raises(UsageError, match="minutes"):
        trainer(stage, tmp_path, 3).resume(tmp_path / STATE)
    with pytest.raises(ModelError, match="stage autoencoder"):
        trainer(DenoiserStage(fresh(), SETTINGS.denoiser), tmp_path, 9).resume(tmp_path / STATE)
    with pytest.raises(ModelError, match="not a training state"):
        trainer(stage, tmp_path, 9).resume(tmp_path / WEIGHTS)


@pytest.mark.parametrize("size", [1e-3, 1e2], ids=["short", "clipped"])
def test_steps_are_those_of_adamw_on_clipped_gradients(size: float) -> None:
    ours, theirs = fresh(), fresh()
    for networks in (ours, theirs):
        networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = AutoencoderStage(ours, SETTINGS.autoencoder)
    optimiser = stage_optimiser(stage)
    names = stage.parameters()
    parameters = [p for name, p in theirs.named_parameters() if name in names]
    groups = [{"params": [p], "lr": 1e-3 * stage.rate_factor(n)} for n, p in zip(names, parameters, strict=True)]
    expected = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0)
    for group in optimiser.param_groups:
        group["lr"] = 1e-3 * group["factor"]
    for _ in range(3):
        for p, q in zip(names.values(), parameters, strict=True):
            p.grad = size * torch.randn_like(p)
            q.grad = p.grad.clone()
        assert optimiser.clipped_step() == 0
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        expected.step()
    for p, q in zip(names.values(), parameters, strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-7)
        assert {name: t.shape for name, t in optimiser.state[p].items()} == {
            name: t.shape for name, t in expected.state[q].items()
        }


def muon_step(networks: Networks, size: float) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """How one step at rate 0.01 changes the parameters, given fixed gradients, and whether it was skipped."""
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = AutoencoderStage(networks, replace(SETTINGS.autoencoder, muon=True))
    optimiser = stage_optimiser(stage)
    for group in optimiser.param_groups:
        group["lr"] = 0.01
    torch.manual_seed(0)
    for p in stage.parameters().values():
        p.grad = size * torch.randn_like(p)
    before = {name: p.detach().clone() for name, p in stage.parameters().items()}
    broken = optimiser.clipped_step()
    return {name: p.detach() - before[name] for name, p in stage.parameters().items()}, broken


@pytest.mark.parametrize("name", ["synthesis.blocks16.0.first.weight", "analysis.down.weight"])
def test_muon_takes_the_step_of_torchs_own_and_leaves_the_ends_to_adam(name: str) -> None:
    """torch.optim.Muon, from 2.9 on, orthogonalises one matrix at a time, in bfloat16 from the start."""
    changes, broken = muon_step(fresh(), 1.0)
    networks = fresh().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = AutoencoderStage(networks, SETTINGS.autoencoder)
    torch.manual_seed(0)
    gradients = {name: torch.randn_like(p) for name, p in stage.parameters().items()}
    matrix = torch.nn.Parameter(torch.zeros_like(gradients[name]).flatten(1))
    matrix.grad = gradients[name].flatten(1)
    muon = pytest.importorskip("torch", minversion="2.9").optim.Muon
    muon([matrix], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    step = changes[name].flatten(1)
    assert broken == 0
    assert (step - matrix.detach()).norm() < 0.05 * step.norm()
    assert step.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.3)  # the size of Adam's
    head = changes["synthesis.head.weight"]
    assert head.abs().median().item() == pytest.approx(0.01, rel=1e-3)  # Adam's first step


def test_muon_leaves_out_a_step_that_is_not_finite() -> None:
    changes, broken = muon_step(fresh(), float("inf"))
    assert broken == 1
    assert all(not change.any() for change in changes.values())


def test_a_step_that_is_not_finite_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = AutoencoderStage(fresh(), SETTINGS.autoencoder)
    normal, calls = stage.loss, itertools.count()

    def sometimes_broken(*arguments: torch.Tensor) -> object:
        result = normal(*arguments)  # type: ignore[arg-type]
        return result._replace(loss=result.loss * (torch.nan if next(calls) == 1 else 1))

    monkeypatch.setattr(stage, "loss", sometimes_broken)
    run = trainer(stage, tmp_path, 4)
    run.run()
    assert run.skipped == 1
    assert all(torch.isfinite(tensor).all() for tensor in load_file(tmp_path / STATE).values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own, while it traces
@pytest.mark.parametrize(("make", "backend"), [(autoencoder_stage, "eager"), (denoiser_stage, "aot_eager")])
def test_a_steady_stage_is_one_graph_whose_loss_is_that_of_plain_code(
    make: Callable[[Networks], Stage], backend: str
) -> None:
    """Only training on a GPU compiles; this holds for any processor that what it compiles is one graph."""
    stage = make(tiny_networks(SMALLEST).to(CPU))
    phase = len(stage.phases) - 1
    stage.enter(phase)
    x, t = torch.rand(2, 3, 64, 64), torch.tensor([0.2, 0.8])
    compiled = torch.compile(stage.loss, dynamic=False, fullgraph=True, backend=backend)
    torch.manual_seed(0)
    expected = stage.loss(x, t, phase)
    torch.manual_seed(0)
    result = compiled(x, t, phase)
    assert stage.steady
    assert torch.allclose(result.loss, expected.loss, rtol=0.02)  # noise in another order
    assert torch.allclose(result.figures["mse"], expected.figures["mse"])


def test_an_interrupted_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / WEIGHTS
    checkpoint.write_tensors(path, {"a": torch.ones(3)}, {})
    before = path.read_bytes()

    def full_disk(tensors: object, target: str, metadata: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.write_tensors(path, {"a": torch.zeros(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_validation_reports_five_qualities(tmp_path: Path) -> None:
    lines: list[str] = []
    run = trainer(AutoencoderStage(fresh(), SETTINGS.autoencoder), tmp_path, 2, lines.append)
    run.held_out = made_pictures(1, (50, 70))
    run.run()
    rows = [line for line in lines if line.startswith("validation")]
    bpp = [float(line.split()[3]) for line in rows]
    assert len(rows) == 5
    assert bpp == sorted(bpp)


# model, evaluation, command


def test_an_exported_model_loads_and_round_trips_a_picture(tmp_path: Path) -> None:
    trainer(AutoencoderStage(fresh(), SETTINGS.autoencoder), tmp_path, 4).run()
    target = tmp_path / "mine" / "model.safetensors"
    identity = export_model(tmp_path / WEIGHTS, target)
    loaded = load_model(str(target), "cpu")
    assert loaded.parse_id == identity
    picture = made_pictures(1, (70, 50))[0]
    encoder = PictureEncoder(picture, loaded)
    coded = encoder.code(3000)
    decoded = decode_array(coded.data, model=loaded)
    assert decoded.shape == picture.shape
    assert np.square(decoded.astype(float) - picture).mean() < 0.5 * picture.astype(float).var()
    assert container.read(target.with_name(CHECK_FILE).read_bytes()).header.parse_id == identity
    assert export_model(target, tmp_path / "again.safetensors") == identity
    assert export_model(target, tmp_path / "compact.safetensors", compact=True) == identity  # which is of the integers


def test_integers_can_be_kept(tmp_path: Path, tiny_model_folder: Path, model: Model) -> None:
    networks = tiny_networks()
    with torch.no_grad():
        networks.rate.z_mean.add_(1)
    checkpoint.write_weights(tmp_path / WEIGHTS, networks, checkpoint.Progress("denoiser"))
    tiny = tiny_model_folder / "tiny" / "model.safetensors"
    assert export_model(tmp_path / WEIGHTS, tmp_path / "a.safetensors") != model.parse_id
    assert export_model(tmp_path / WEIGHTS, tmp_path / "b.safetensors", integers_of=tiny) == model.parse_id
    scalar = {list(model.coders)[-1]}  # only the trellis is counted anew
    counted = export_model(tmp_path / WEIGHTS, tmp_path / "d.safetensors", None, tiny, made_pictures(1, (60, 80)))
    other = load_model(str(tmp_path / "d.safetensors"), "cpu")
    assert other.parse_id == counted != model.parse_id and set(other.coders) & set(model.coders) == scalar
    fitted = export_model(
        tmp_path / WEIGHTS, tmp_path / "e.safetensors", None, tiny, made_pictures(1, (60, 80)), "neighbours"
    )
    other = load_model(str(tmp_path / "e.safetensors"), "cpu")
    assert other.parse_id == fitted and list(other.coders)[1:] == list(model.coders)[1:]
    with pytest.raises(ModelError, match="no integers"):
        export_model(tmp_path / WEIGHTS, tmp_path / "c.safetensors", integers_of=tmp_path / WEIGHTS)


def test_the_evaluate_command_writes_a_curve(tmp_path: Path, tiny_model_folder: Path) -> None:
    Image.fromarray(made_pictures(1, (60, 80))[0]).save(tmp_path / "a.png")
    out = tmp_path / "curve.json"
    arguments = [
        "evaluate",
        str(tiny_model_folder / "tiny"),
        str(tmp_path / "a.png"),
        "--out",
        str(out),
        "--name",
        "mine",
    ]
    result = CliRunner().invoke(
        main, [*arguments, "--qualities", "10,50,90", "--device", "cpu"], catch_exceptions=False
    )
    assert result.exit_code == 0
    curve = json.loads(out.read_text())
    assert curve["name"] == "mine"
    assert [point["quality"] for point in curve["points"]] == pytest.approx([10, 50, 90], abs=0.02)
    bpp = [point["bpp"] for point in curve["points"]]
    assert bpp == sorted(bpp)
    coarse = curve["points"][0]
    assert coarse["psnr_of_mean"] == pytest.approx(coarse["psnr"])
    assert "rounded" in result.output


@pytest.fixture
def training_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures and settings for the command, which does not spend seconds on the covariance of the pictures."""
    monkeypatch.setattr(command, "block_covariance", lambda found: assumed_covariance())
    for number, pixels in enumerate(made_pictures()):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    lines = "\n".join(f"{name} = {value}" for name, value in vars(SMALLEST).items())
    phase = "{ warm_up = 2, batch = 2, crop = 64, descent_crop = 64 }"
    text = f"[model]\n{lines}\n[run]\nreport_steps = 2\n[autoencoder]\nphase = {phase}\n"
    (tmp_path / "tiny.toml").write_text(text)
    return tmp_path


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts back what a run sets for the signals that end it."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_run_that_is_told_to_end_saves_first(training_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, echo = training_folder / "out", click.echo

    def ending(line: str) -> None:
        echo(line)
        if "steps/s" in line:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(click, "echo", ending)
    words = ["autoencoder", "--settings", str(training_folder / "tiny.toml"), "--device", "cpu"]
    words += ["--data", str(training_folder / "*.png"), "--out", str(out), "--minutes", "10"]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    pictures, *lines = result.output.splitlines()
    assert result.exit_code == 0 and "training pictures" in pictures
    assert len(lines) == 1 and "min left" in lines[0] and "bpp" in lines[0]
    assert {path.name for path in out.iterdir()} == {WEIGHTS, STATE}


def test_the_profile_command_says_where_a_step_goes(training_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "DENSE", (1, 8, 8))
    arguments = ["--settings", str(training_folder / "tiny.toml"), "--data", str(training_folder / "*.png")]
    arguments += ["--batch", "2", "--crop", "64", "--steps", "1", "--device", "cpu"]
    result = CliRunner().invoke(main, ["profile", *arguments], catch_exceptions=False)
    speed, shares, work, table = result.output.split("\n", 3)
    assert speed.startswith("2 crops of 64x64: ")
    parts = [part.split() for part in shares.split(", ")]
    assert [part[0] for part in parts] == ["data", "forward", "backward", "optimiser"]
    assert sum(int(part[1]) for part in parts) == pytest.approx(100, abs=2)
    assert "GFLOP a step" in work
    assert "aten::convolution_backward" in table


def test_profiled_parts_are_the_best_of_their_own() -> None:
    measured = [profiling.Times(1, 5, 3, 4), profiling.Times(2, 2, 9, 1)]
    assert profiling.best_times(measured) == profiling.Times(1, 2, 3, 1)


@pytest.mark.parametrize("faster", [torch.bfloat16, torch.float32])
def test_a_processor_computes_in_its_faster_type(faster: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "dense_speed", lambda device, kind, sizes: 2.0 if kind == faster else 1.0)
    monkeypatch.setattr(precision, "fastest_type", FASTEST_TYPE.__wrapped__)
    with precision.autocast(CPU):
        assert (torch.ones(2, 3) @ torch.ones(3, 5)).dtype == faster


@torch.no_grad()  # what asks first may need no gradients
def test_a_trial_of_types_leaves_the_random_numbers_alone() -> None:
    """Otherwise a resumed run, whose trial comes at another step, would see other noise than an uninterrupted one."""
    before = torch.get_rng_state()
    precision.dense_speed(torch.device("cpu"), torch.float32, (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_arithmetic_of_a_product_is_counted() -> None:
    assert precision.arithmetic(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 2 * 2 * 3 * 5


def test_mistakes_on_the_command_line_are_one_line(
    training_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["training", "denoiser", "--settings", str(training_folder / "tiny.toml")]
    words += ["--data", str(training_folder / "*.png"), "--out", str(training_folder / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        command.run()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == ["error: stage denoiser needs trained weights: --start FILE"]


def test_data_settings_name_what_a_run_needs() -> None:
    assert Data().pictures == ()
    with pytest.raises(PictureError, match="--data"):
        load_pictures(Data().pictures)
