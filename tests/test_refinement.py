"""Refinement: files of higher effort cost less, decode like any other, and hold the refined latent."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import ldcodec
from ldcodec import cli
from ldcodec.bitstream import container, quality
from ldcodec.bitstream.slices import REFINED_MARGIN, REFINED_SIDE, Span
from ldcodec.codec import decode_array
from ldcodec.decoder.parse import parse
from ldcodec.decoder.reverse import condition
from ldcodec.encoder import refine
from ldcodec.encoder.masking import visual
from ldcodec.encoder.refine import STEPS, Cost, Patch, refined_rows
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.encoder.target import EFFORTS
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.trellis import STEP, reconstructed
from ldcodec.errors import UsageError
from ldcodec.nets.model import Model
from ldcodec.nets.structure import visual_errors
from tests.conftest import without_trellis

pytestmark = pytest.mark.slow

INDEX = 1500
Pixels = NDArray[np.uint8]


def scene(height: int = 96, width: int = 160, seed: int = 3) -> Pixels:
    """Waves, edges and some grain."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    wave = 60 * np.sin(rows / 9)[..., None] + 50 * np.cos(columns[..., None] / 14 + np.arange(3))
    edge = 60 * (rows + 2 * columns > 200)[..., None]
    return np.clip(110 + wave + edge + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effort 2 is quick, as most tests do not ask how good it is."""
    monkeypatch.setitem(STEPS, 2, 6)


def cost(picture: Pixels, model: Model, effort: int, index: int = INDEX) -> float:
    """The cost that refinement lowers, from the real file and its decoded picture: bits + λ·squared error per pixel."""
    encoder = PictureEncoder(picture, model, effort=effort)
    coded = encoder.code(index)
    error = 255**2 / 10 ** (encoder.psnr(coded) / 10)
    t = torch.tensor(quality.fraction(index))
    return 8 * coded.size / picture[:, :, 0].size + quality.multiplier(t).item() * error


def test_more_effort_costs_less(shipped_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """At low rates above all."""
    monkeypatch.setitem(STEPS, 2, 50)
    for index, share in ((700, 0.98), (INDEX, 1.0)):
        costs = [cost(scene(), shipped_model, effort, index) for effort in (1, 2)]
        assert costs[1] < share * costs[0], costs


def test_more_effort_for_the_eye(shipped_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tuned for the eye loses less of what it sees for its bits, and is not what squared errors alone give."""
    monkeypatch.setitem(STEPS, 2, 50)
    picture, t, costs = scene(), torch.tensor([quality.fraction(INDEX)]), []
    original = torch.from_numpy(picture).movedim(2, 0)[None] / 255
    weights = visual(picture, shipped_model.networks.basis())
    for effort, tuning in ((1, 1.0), (2, 0.0), (2, 1.0)):
        coded = PictureEncoder(picture, shipped_model, effort=effort, weights=weights, tuning=tuning).code(INDEX)
        shown = torch.from_numpy(decode_array(coded.data, model=shipped_model)).movedim(2, 0)[None] / 255
        error = visual_errors(shown, original, (shown - original).square().mean((1, 2, 3)) * 255**2, t)
        costs.append(8 * coded.size / picture[:, :, 0].size + (quality.multiplier(t) * error).item())
    assert costs[2] < 0.99 * costs[0] and costs[2] != costs[1], costs


def test_more_effort_takes_more_steps() -> None:
    assert list(STEPS) == list(range(2, EFFORTS + 1))
    assert sorted(STEPS.values()) == list(STEPS.values())


def test_the_cost_without_randomness_is_that_of_the_file(shipped_model: Model) -> None:
    """Of one with the scalar quantiser, which refinement reckons with."""
    picture, model = scene(128, 192), without_trellis(shipped_model)
    encoder = PictureEncoder(picture, model)
    latents, coded = encoder.latents(INDEX), encoder.code(INDEX)
    known = condition(coded.parsed, coded.container.header, model)
    y = torch.from_numpy(coded.parsed.mean * 2.0**-9 + coded.parsed.symbols)[None].float()  # whole symbols: no rest
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    patch = Patch(pixels, y, torch.ones(y.shape[2:]), known.quality)
    hyper = torch.from_numpy(latents.hyper)[None].float()
    found = Cost(shipped_model.networks, patch, 0).of(y, hyper, 1e-3).item()
    decoded = shipped_model.networks.picture(known.centre, known.quality)
    error = (decoded - pixels).square().mean().item() * 255**2
    expected = 8 * coded.size / pixels[0, 0].numel() + quality.multiplier(known.quality).item() * error
    assert found == pytest.approx(expected, rel=0.03)


def test_files_of_any_effort_decode_and_hold_their_latent(shipped_model: Model) -> None:
    picture = scene(70, 90)
    encoder = PictureEncoder(picture, shipped_model, effort=2)
    latents = encoder.latents(INDEX)
    coded = encoder.write(latents)
    again = parse(container.read(container.write(coded.container)), shipped_model)
    assert np.array_equal(again.symbols, coded.parsed.symbols)
    rows, columns = encoder.rows, encoder.columns
    values = (coded.parsed.mean + reconstructed(coded.parsed.symbols, coded.parsed.kind)) * 2.0**-9
    rest, shown = (latents.scaled - values)[:, :rows, :columns], coded.parsed.symbols[:, :rows, :columns] != 0
    assert shown.any()
    assert np.abs(rest[shown]).max() <= 2 * STEP * 2.0**-9  # values of one quantiser and parity are 4Δ apart
    assert decode_array(coded.data, model=shipped_model).shape == picture.shape


def test_squares_meet_without_a_gap(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "REFINED_SIDE", 8)
    picture = scene(260, 330)
    scaled = PictureEncoder(picture, model).latents(INDEX).scaled
    seen: list[torch.Size] = []

    def unchanged(networks: object, patch: Patch, effort: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(patch.scaled.shape)
        assert patch.picture.shape[2:] == (16 * patch.scaled.shape[2], 16 * patch.scaled.shape[3])
        return patch.scaled, patch.scaled[:, :1, ::4, ::4].expand(-1, model.networks.config.hyper, -1, -1)

    monkeypatch.setattr(refine, "refined", unchanged)
    rows = Span(4, scaled.shape[1])
    y, z = refined_rows(model, picture, scaled[:, 4:], rows, INDEX, 2, 0.0)
    assert np.array_equal(y, scaled[:, 4:])
    assert np.array_equal(z[:1], scaled[:1, 4::4, ::4])
    assert len(seen) > 4
    assert max(shape[2] for shape in seen) <= 8 + 2 * REFINED_MARGIN
    assert REFINED_SIDE % 4 == REFINED_MARGIN % 4 == 0  # edges of hyper-latents


def test_sliced_pictures_are_refined_too(model: Model) -> None:
    picture = scene(700, 300)
    plain, better = SlicedEncoder(picture, model), SlicedEncoder(picture, model, effort=2)
    better.spans = plain.spans = [Span(0, 16), Span(16, 44)]
    files = [encoder.code(2500) for encoder in (plain, better)]
    assert files[0].container.slices != files[1].container.slices
    assert len(files[1].container.slices) == 2


def test_the_same_picture_gives_the_same_file(model: Model) -> None:
    files = {ldcodec.encode(scene(), quality=40, effort=2, model=model) for _ in range(2)}
    assert len(files) == 1
    assert files != {ldcodec.encode(scene(), quality=40, model=model)}


def test_weights_get_no_gradient(model: Model) -> None:
    PictureEncoder(scene(), model, effort=2).code(INDEX)
    assert all(p.grad is None for p in model.networks.parameters())


def test_efforts_out_of_range_are_refused(model: Model) -> None:
    for effort in (0, 10):
        with pytest.raises(UsageError, match="from 1 to 9"):
            ldcodec.encode(scene(), quality=40, effort=effort, model=model)


def test_a_rate_is_kept_at_any_effort(shipped_model: Model) -> None:
    picture = scene(64, 64)
    data = ldcodec.encode(picture, rate=1, effort=2, model=shipped_model)
    assert 0.7 < 8 * len(data) / picture[:, :, 0].size <= 1


def test_the_command_line_takes_an_effort(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(scene(64, 64)).save(tmp_path / "a.png")
    written = set()
    for effort in ("1", "2"):
        arguments = ["compress", str(tmp_path / "a.png"), "-o", str(tmp_path / effort), "--quality", "40"]
        assert cli.run([*arguments, "--no-fallback", "--effort", effort]) == 0, capfd.readouterr().err
        written.add((tmp_path / effort).read_bytes())
    assert len(written) == 2
    assert cli.run([*arguments, "--effort", "10"]) == 2
