"""A model whose analysis is tuned for the least error or for the eye: what encoders ask of it, and how it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ldcodec.codec import decode_array, encode
from ldcodec.encoder.sliced import SlicedEncoder, encoder_for
from ldcodec.encoder.target import PSNR, TUNES, VISUAL
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.engine.cpumodel import CpuModel
from ldcodec.nets.model import Model
from ldcodec.nets.networks import Networks
from ldcodec.nets.structure import PLAIN, visual_errors
from ldcodec.pictures.frame import framed
from ldcodec.pictures.picture import Picture
from ldcodec.training.autoencoder import AutoencoderStage, places
from ldcodec.training.crops import Crops
from ldcodec.training.settings import AutoencoderSettings, Phase
from ldcodec.training.start import fresh_networks
from tests.conftest import ONE_SHOT, assumed_covariance, patterns, tiny_networks
from tests.pictures import texture
from tests.test_engine import both, check_pictures  # noqa: F401 (a fixture)

CPU = torch.device("cpu")
PHASE = Phase(batch=4, crop=128, descent_crop=128)
QUALITIES = torch.tensor([0.2, 0.4, 0.6, 0.8])


def batch(count: int = 4) -> torch.Tensor:
    return Crops([*patterns(0)], CPU, 128).batch(count, 128, np.random.default_rng(5))


def stage_of(share: float, tuned: int = 1, decoder: float = 0) -> AutoencoderStage:
    """A stage at its beginning, where the factors of a tuning are 1."""
    networks = fresh_networks(replace(ONE_SHOT, tuned=tuned), assumed_covariance())
    settings = AutoencoderSettings(visual=share, phase=PHASE, decoder=replace(PHASE, share=decoder))
    return AutoencoderStage(networks, settings)


def loss_of(stage: AutoencoderStage, phase: int = 0) -> float:
    stage.enter(phase)
    torch.manual_seed(3)
    return stage.loss(batch(), QUALITIES, phase).loss.item()


# the encoder


@pytest.mark.parametrize("tuning", [0.0, 0.3, 1.0])
def test_latents_of_a_tuning_are_those_of_torch(both: tuple[Model, CpuModel], tuning: float) -> None:  # noqa: F811
    planes, latents = framed(texture(64, 96)), []
    for model in both:
        networks = model.networks
        latents.append(networks.latent(networks.analysed(planes), 0.4, tuning))  # type: ignore[arg-type]
    assert np.abs(latents[0] - latents[1]).max() < 2e-4 * np.abs(latents[0]).max()
    at_zero = both[0].networks.latent(both[0].networks.analysed(planes), 0.4)
    assert np.array_equal(at_zero, latents[0]) == (tuning == 0 or not both[0].networks.config.tuned)


def test_the_encoder_asks_for_its_tuning(model: Model, one_shot_model: Model) -> None:
    """With weights alone, without a tuned analysis, latents do not change."""
    for some in (model, one_shot_model):
        encoders = [encoder_for(Picture(texture(70, 90)), some, tune=tune) for tune in TUNES]
        plain, visual = (encoder.latents(2000).scaled for encoder in encoders)  # type: ignore[attr-defined]
        assert np.array_equal(plain, visual) == (not some.networks.config.tuned)


@pytest.mark.usefixtures("without_patches")
def test_slices_samples_and_what_lies_beneath_patches_are_tuned_too(one_shot_model: Model) -> None:
    pixels = texture(256, 192)
    one = PictureEncoder(pixels, one_shot_model, tuning=1.0)
    tuned, plain = (SlicedEncoder(pixels, one_shot_model, tuning=tuning) for tuning in (1.0, 0.0))
    assert tuned.code(2000).container.slices == one.code(2000).container.slices != plain.code(2000).container.slices
    assert tuned.rehearse(2000, drawn=False).size(2000) != plain.rehearse(2000, drawn=False).size(2000)


def test_any_decoder_reads_files_of_either_tuning(both: tuple[Model, CpuModel]) -> None:  # noqa: F811
    for tune in (PSNR, VISUAL):
        check_pictures(encode(texture(70, 90), quality=40, tune=tune, model=both[1]), *both, {})
        assert decode_array(encode(texture(70, 90), quality=40, tune=tune, model=both[0]), model=both[0]).any()


# training


def test_the_visual_crops_are_spread_and_all_take_their_turn() -> None:
    for count, share, chosen in ((4, 0.5, 2), (3, 0.5, 1), (1, 0.5, 0), (10, 0.25, 2), (6, 1.0, 6), (6, 0.0, 0)):
        drawn = [places(count, share, CPU).tolist() for _ in range(60)]
        assert all(len(set(some)) == chosen and all(0 <= place < count for place in some) for some in drawn)
        assert len({place for some in drawn for place in some}) == (count if chosen else 0)
    assert sorted(places(4, 0.5, CPU).tolist()) in ([0, 2], [1, 3])


def test_errors_of_the_eye() -> None:
    """No error weighs nothing, another brightness little, and noise more on flat ground than on busy ground."""
    busy = torch.from_numpy(texture(128, 128)).movedim(2, 0)[None] / 255
    flat = torch.full_like(busy, 0.5)
    torch.manual_seed(0)
    noise, weights = 0.02 * torch.randn_like(busy), []
    for ground, change in ((busy, 0 * noise), (flat, 0.02 + 0 * noise), (busy, noise), (flat, noise)):
        error = torch.full((1,), change.square().mean().item() * 255**2)
        weights.append((visual_errors(ground + change, ground, error, torch.tensor([0.5])) / (error + 1e-9)).item())
    assert weights[0] == pytest.approx(0, abs=1e-3) and weights[1] == pytest.approx(PLAIN, rel=0.02)
    assert weights[3] > 2 * weights[2] > 2 * PLAIN


def test_a_share_of_the_crops_is_coded_for_the_eye() -> None:
    """The factors of the tuning learn from these crops alone, and none is coded so while the analysis is frozen."""
    plain = loss_of(stage_of(0))
    assert loss_of(stage_of(0.5)) != plain and loss_of(stage_of(0, tuned=0)) == loss_of(stage_of(0.5, tuned=0))
    assert loss_of(stage_of(0.5, decoder=1)) == plain != loss_of(stage_of(0.5, decoder=1), phase=1)
    for share in (0, 0.5):
        stage = stage_of(share)
        networks: Networks = stage.networks
        stage.enter(0)
        torch.nn.init.ones_(networks.analysis.head.weight)  # at first no gradient comes through
        stage.loss(batch(), QUALITIES, 0).loss.backward()
        gradients = [networks.get_parameter(f"analysis.tuned{scale}.out.bias").grad for scale in (8, 16)]
        assert all(bool(gradient is not None and gradient.abs().max() > 0) == (share > 0) for gradient in gradients)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own, while it traces
def test_the_loss_of_both_tunings_is_one_graph() -> None:
    """So that a GPU can compile and record it."""
    stage = AutoencoderStage(tiny_networks(ONE_SHOT), AutoencoderSettings(visual=0.5, phase=PHASE))
    stage.enter(0)
    compiled, found = torch.compile(stage.loss, dynamic=False, fullgraph=True, backend="eager"), []
    for loss in (stage.loss, compiled):
        torch.manual_seed(0)
        found.append(loss(batch(), QUALITIES, 0))
    assert stage.steady and torch.allclose(found[0].loss, found[1].loss, rtol=0.02)  # noise in another order


class Operations(TorchDispatchMode):
    """Writes down which operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation, _types, arguments=(), named=None):  # type: ignore[no-untyped-def]
        self.names.add(str(operation))
        return operation(*arguments, **(named or {}))


def test_no_numbers_come_from_the_processor_while_a_step_is_recorded() -> None:
    stage = AutoencoderStage(tiny_networks(ONE_SHOT), AutoencoderSettings(visual=0.5, phase=PHASE))
    stage.enter(0)
    x = batch()
    with Operations() as made:
        stage.loss(x, QUALITIES, 0)
        assert "aten.convolution.default" in made.names and "aten.lift_fresh.default" not in made.names
        torch.tensor([1.0])
        assert "aten.lift_fresh.default" in made.names
