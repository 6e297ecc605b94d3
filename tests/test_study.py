"""The study's data, rates, measures, codec and command; its losses are in test_study_losses.py."""

import gzip
import itertools
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import stats
from torch import Tensor

from ldcodec.bitstream import quality
from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.errors import LdcodecError, ModelError, PictureError, UsageError
from ldcodec.nets import precision
from ldcodec.nets.blocks import padded
from ldcodec.nets.model import Model
from ldcodec.nets.quantise import information
from ldcodec.study import __main__ as command
from ldcodec.study import evaluation, perception, results
from ldcodec.study.__main__ import main
from ldcodec.study.datasets import Dataset, Pictures, load
from ldcodec.study.evaluation import Measured, quality_of, share
from ldcodec.study.fit import bound, restoration, train
from ldcodec.study.formats import read_cifar_batch, read_idx
from ldcodec.study.mixing import ALPHAS, mixed_bits, mixture
from ldcodec.study.perception import (
    Distances,
    accuracy,
    classifier,
    density_ratio_divergence,
    estimate,
    frechet,
    kernel_distance,
)
from ldcodec.study.rates import Statistics, entropies, send, statistics
from ldcodec.study.runs import CHOICES, StudySettings
from ldcodec.study.toycodec import SAMPLER_OF, StudyCodec
from ldcodec.study.toynets import layout

pytestmark = pytest.mark.slow

pytest.importorskip("sklearn")
SHAPE = (4, 2, 2)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def plain_floats() -> Iterator[None]:
    """No trial of floating-point types, so that all processors run the same test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fastest_type", lambda device: torch.float32)
        yield


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(StudySettings())


# data


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def some_pixels(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def mnist_files(folder: Path, ending: str = ".gz") -> None:
    for prefix, count in (("train", 40), ("t10k", 40)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte{ending}", some_pixels(count, 28, 28))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{ending}", (np.arange(count) % 10).astype(np.uint8))


def write_cifar(path: Path, pixels: np.ndarray, labels: list[int]) -> None:
    path.write_bytes(b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)))


def cifar_files(folder: Path) -> None:
    for name in ("data_batch_1.bin", "test_batch.bin"):
        write_cifar(folder / name, some_pixels(40, 3072), [k % 10 for k in range(40)])


def class_folder_files(folder: Path) -> None:
    for k in range(40):
        path = folder / f"class{k % 2}" / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(some_pixels(k + 1, 20, 3)[:16]).save(path)


FILES = {"mnist": mnist_files, "cifar10": cifar_files, "folder": class_folder_files}


def test_idx_files_come_back(tmp_path: Path) -> None:
    array = some_pixels(5, 7, 3)
    for name in ("x", "x.gz"):
        write_idx(tmp_path / name, array)
        assert np.array_equal(read_idx(tmp_path / name), array)


DAMAGED_IDX = (
    b"",
    b"\x00\x00\x08",
    b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00",
    b"\x00\x00\x08\x01\x00\x00\x00\x05abc",
    b"\x00\x00\x08\x01\x00\x00\x00\x02abc",
    b"\x00\x00\x08\x03" + b"\xff" * 12,
    b"\x1f\x8b damaged",
)


def test_damaged_idx_files_end_in_one_line(tmp_path: Path) -> None:
    for data in DAMAGED_IDX:
        for name, content in (("x", data), ("x.gz", data), ("y.gz", gzip.compress(data))):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(PictureError, match=r"^[^\n]+$"):
                read_idx(tmp_path / name)


def test_batches_of_cifar_come_back(tmp_path: Path) -> None:
    pixels, labels = some_pixels(6, 3072), [3, 1, 4, 1, 5, 9]
    write_cifar(tmp_path / "batch.bin", pixels, labels)
    found = read_cifar_batch(tmp_path / "batch.bin")
    assert found[0].shape == (6, 3, 32, 32) and np.array_equal(found[0].reshape(6, -1), pixels)
    assert found[1].tolist() == labels


def test_other_files_are_no_batches_of_cifar(tmp_path: Path) -> None:
    for content in (b"", b"\x80\x02}", bytes(3074)):
        (tmp_path / "batch").write_bytes(content)
        with pytest.raises(PictureError, match=r"^[^\n]+not a batch[^\n]+$"):
            read_cifar_batch(tmp_path / "batch")
    with pytest.raises(PictureError, match="cannot be read"):
        read_cifar_batch(tmp_path / "none")


@pytest.mark.parametrize("dataset", FILES)
def test_files_become_pictures(tmp_path: Path, dataset: str) -> None:
    FILES[dataset](tmp_path)
    data = load(StudySettings(dataset=dataset, data=str(tmp_path), side=16))
    assert data.train.pixels.dtype == torch.uint8 and len(data.train) >= 26
    assert (data.colours, data.side) == {"mnist": (1, 28), "cifar10": (3, 32), "folder": (3, 16)}[dataset]
    assert len(data.coded) == len(data.reference) and data.classes == {"folder": 2}.get(dataset, 10)


def test_a_folder_without_the_files_says_where_to_get_them(tmp_path: Path) -> None:
    for dataset, named in (("mnist", "yann"), ("cifar10", "cs.toronto.edu"), ("folder", "each class")):
        with pytest.raises(UsageError, match=rf"^[^\n]*nothing to read[^\n]*{named}[^\n]*$"):
            load(StudySettings(dataset=dataset, data=str(tmp_path)))


def test_the_first_pictures_of_class_folders_are_of_all_classes(tmp_path: Path) -> None:
    class_folder_files(tmp_path)
    data = load(StudySettings(dataset="folder", data=str(tmp_path), side=16))
    assert len(data.train.labels[:8].unique()) == 2


def test_train_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        class_folder_files(tmp_path / part)
    assert len(load(StudySettings(dataset="folder", data=str(tmp_path), side=16)).train) == 40


# rates


@pytest.mark.parametrize("deviation", [0.3, 3.0, 40.0])
def test_coded_delta_latents_take_their_entropy(deviation: float) -> None:
    """Bits of the product's range coder against the entropy of the rounded Gaussian."""
    mean = 0.7 + deviation * torch.randn(4000, *SHAPE)
    sent = send("delta", mean, torch.zeros(SHAPE), Statistics(torch.full(SHAPE, 0.7), torch.full(SHAPE, deviation)), 0)
    edges = stats.norm(0, deviation).cdf(np.arange(-400, 402) - 0.5)
    mass = np.diff(edges)
    entropy = 16 * float(-(mass[mass > 0] * np.log2(mass[mass > 0])).sum())
    assert sent.bits == pytest.approx(entropy, rel=0.02, abs=0.1)
    assert float((sent.z - mean).abs().max()) <= 0.5 + 1e-4


def test_universal_quantisation_gives_exactly_the_gaussian() -> None:
    mean, sigma = 2 * torch.randn(2000, *SHAPE), torch.tensor([0.1, 0.5, 1.0, 3.0])[:, None, None].expand(SHAPE)
    sent = send("gaussian", mean, sigma.log(), statistics(mean), 3)
    noise = ((sent.z - mean) / sigma).numpy()
    for channel in range(4):
        assert stats.kstest(noise[:, channel].ravel(), "norm").pvalue > 1e-3
    assert abs(float(np.corrcoef(noise.ravel(), mean.numpy().ravel())[0, 1])) < 5 / math.sqrt(noise.size)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_universal_quantisation_costs_at_most_half_a_bit_more_than_the_information(sigma: float) -> None:
    """The gap of a mixture of uniforms is ½·log2 2πe − E log2 2√χ²₃ = 0.52 bits where σ is small."""
    mean = torch.randn(3000, *SHAPE)
    given = Statistics(torch.zeros(SHAPE), torch.ones(SHAPE))
    bits = send("gaussian", mean, torch.full(SHAPE, math.log(sigma)), given, 0).bits / 16
    information = 0.5 * math.log2(1 + 1 / sigma**2)
    assert information < bits < information + 0.56


def test_an_element_that_says_nothing_costs_nothing() -> None:
    mean = torch.full((500, *SHAPE), 0.2)
    given = Statistics(torch.full(SHAPE, 0.2), torch.full(SHAPE, 1e-4))
    for latent in ("gaussian", "delta"):
        assert send(latent, mean, torch.zeros(SHAPE), given, 0).bits < 0.2


def exact_velocity(z: Tensor, time: Tensor) -> Tensor:
    """Of p(z) = N(0, 2²)."""
    alpha, sigma = (part.view(-1, 1, 1, 1) for part in alpha_sigma(time))
    return (sigma * z / (4 * alpha**2 + sigma**2) - sigma * z) / alpha


@pytest.mark.parametrize("time", [0.3, 0.9])
def test_entropies_agree_where_everything_is_gaussian(time: float) -> None:
    mean = 2 * torch.randn(4000, 1, 1, 1)
    found = entropies(mean, torch.zeros(1, 1, 1), time, exact_velocity)
    alpha, sigma = (float(part) for part in alpha_sigma(torch.tensor(time)))
    exact = 0.5 * math.log2(2 * math.pi * math.e * (4 * alpha**2 + sigma**2))
    assert found.note == pytest.approx(exact, abs=0.05)
    assert found.true == pytest.approx(exact, abs=0.06)
    assert found.denoising == pytest.approx(exact, abs=0.06)
    assert found.given == pytest.approx(0.5 * math.log2(2 * math.pi * math.e * sigma**2), abs=1e-4)
    assert found.information == pytest.approx(0.5 * math.log2(1 + 4 * alpha**2 / sigma**2), abs=0.06)


def test_the_notes_gaussian_overstates_the_entropy_of_two_points() -> None:
    mean = torch.tensor([-3.0, 3.0]).repeat(1000)[:, None, None, None]
    found = entropies(mean, torch.zeros(1, 1, 1), 0.1, None)
    assert found.information == pytest.approx(1.0, abs=0.02)  # one bit, which of the two
    assert found.note - found.given > 4
    assert found.denoising is None


def test_information_is_at_most_the_logarithm_of_the_pictures() -> None:
    found = entropies(torch.randn(64, 30, 2, 2), torch.full((30, 2, 2), 0.1), 0.05, None)
    assert 5.99 < found.information <= 6 + 1e-6


# perception


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    draws = torch.randn(200_000, 3, dtype=torch.float64)
    first = draws @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    second = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) * torch.randn_like(draws) + 1
    one = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.25, 0.0], [0.0, 0.0, 4.0]], dtype=torch.float64).numpy()
    two = np.diag([1.0, 4.0, 0.25])
    from scipy.linalg import sqrtm

    expected = 3 + np.trace(one + two - 2 * np.real(sqrtm(one @ two)))
    assert frechet(first, second) == pytest.approx(float(expected), rel=0.02)
    assert frechet(first, first) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    same = [kernel_distance(torch.randn(60, 5), torch.randn(60, 5)) for _ in range(60)]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(len(same))
    assert kernel_distance(torch.randn(60, 5), torch.randn(60, 5) + 1) > 10 * np.std(same)


def test_kernel_distance_agrees_with_sums_over_pairs() -> None:
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 0.5

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    inside = [np.mean([kernel(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    between = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(float(inside[0] + inside[1] - 2 * between))


def test_density_ratio_bounds_the_known_divergence_from_below() -> None:
    """N(1, I) against N(0, I) in three dimensions: KL = 3/2."""
    found = [density_ratio_divergence(torch.randn(3000, 3) + 1, torch.randn(3000, 3), seed) for seed in range(3)]
    assert 1.0 < np.mean(found) < 1.65
    none = [density_ratio_divergence(torch.randn(2000, 3), torch.randn(2000, 3), seed) for seed in range(3)]
    assert abs(np.mean(none)) < 0.1


def test_intervals_are_students() -> None:
    for count in (2, 3, 5, 16):
        values = np.random.default_rng(count).normal(3, 2, count)
        expected = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
        found = estimate(values.tolist())
        ends = found.mean - found.half_width, found.mean + found.half_width
        assert ends == pytest.approx(expected, rel=1e-3, abs=1e-3)


def tiny_data(count: int = 64, side: int = 8) -> Dataset:
    part = Pictures(torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8), torch.arange(count) % 3)
    return Dataset(part, part, part)


def test_a_classifier_is_kept_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    data = tiny_data()
    first = classifier(data, tmp_path, 2)
    again = classifier(data, tmp_path, 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="remove it"):
        classifier(data, tmp_path, 2)


def test_the_classifier_learns_the_digits(tmp_path: Path, digits: Dataset) -> None:
    assert accuracy(classifier(digits, tmp_path, 100), digits) > 0.8


# codec and training


def fresh(**named: object) -> StudyCodec:
    settings = StudySettings(diffusion=str(named.pop("diffusion", "ddim")), **named)  # type: ignore[arg-type]
    return StudyCodec(settings, layout(settings, 1, 8)).eval()


@pytest.mark.parametrize(("net", "diffusion"), [("mlp", "ddpm"), ("cnn", "ddim"), ("mlp", "sde"), ("cnn", "ode")])
@torch.no_grad()
def test_an_untrained_conditional_decoder_changes_nothing_in_one_step(net: str, diffusion: str) -> None:
    codec = fresh(net=net, diffusion=diffusion, conditional=True)
    z = torch.randn(3, *codec.layout.latent_shape)
    assert torch.equal(codec.restored(z, 0.0, 1), codec.autoencoder.decode(z))


@torch.no_grad()
def test_realism_adds_the_remainder_s_deviation() -> None:
    """A velocity of zero leaves N(0, ρ²) in the reverse process, so the picture gets noise of ρ·remainder."""
    codec = fresh(conditional=True)
    codec.remainder.fill_(0.25)  # type: ignore[operator]
    z = torch.zeros(60, *codec.layout.latent_shape)
    for realism in (0.5, 1.0):
        added = codec.restored(z, realism, 1) - codec.autoencoder.decode(z)
        assert float(added.abs().max()) == 0  # one step is −v, whatever the start
        many = codec.restored(z, realism, 64) - codec.autoencoder.decode(z)
        assert float(many.std()) == pytest.approx(realism * 0.25, rel=0.05)


@torch.no_grad()
def test_generated_latents_of_an_untrained_prior_are_standard_normal() -> None:
    codec = fresh(prior="diffusion", diffusion="ode")
    z = codec.generated(500, 24)
    assert abs(float(z.std()) - 1) < 0.03 and abs(float(z.mean())) < 0.06


@torch.no_grad()
def test_delta_latents_of_the_standard_normal_have_the_noise_of_rounding() -> None:
    """Variance 1 + Δ²/12: the prior in the bound is N(0, I) smeared over a cell of width Δ."""
    codec = fresh(diffusion="none", latent="delta")
    step = float(codec.autoencoder.width().exp().mean())
    assert float(codec.generated(2000, 1).var()) == pytest.approx(1 + step**2 / 12, rel=0.03)


@pytest.mark.parametrize(
    ("latent", "prior", "net"),
    [("gaussian", "normal", "cnn"), ("delta", "mixed", "cnn"), ("gaussian", "diffusion", "mlp")],
)
def test_training_lowers_the_bound(latent: str, prior: str, net: str, digits: Dataset) -> None:
    settings = StudySettings(latent=latent, prior=prior, net=net, diffusion="ddim", steps=30, batch=32)
    pictures = digits.train.part(slice(0, 100)).floats()
    before = bound(StudyCodec(settings, layout(settings, 1, 8)), pictures)[1]
    after = bound(train(settings, digits, lambda line: None), pictures)[1]
    assert after.distortion + after.rate < 0.7 * (before.distortion + before.rate)


def test_the_conditional_decoder_s_loss_is_least_for_the_right_velocity() -> None:
    """With u known, v = α·ε − σ·u; the untrained one's miss is E v² = E u² + …, one for a unit remainder."""
    codec = fresh(conditional=True)
    x = torch.rand(256, 1, 8, 8)
    z = torch.zeros(256, *codec.layout.latent_shape)
    with torch.no_grad():
        codec.remainder.fill_(float((x - codec.autoencoder.decode(z)).square().mean().sqrt()))  # type: ignore[operator]
        assert float(restoration(codec, x, z).mean()) == pytest.approx(1, abs=0.05)


def test_runs_follow_from_their_seed() -> None:
    data = tiny_data()
    settings = StudySettings(diffusion="ddpm", conditional=True, prior="mixed", steps=4, batch=8)
    first, again = (train(settings, data, lambda line: None).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


# measures of a run


def test_seeds_share_no_picture_while_there_are_enough() -> None:
    part = Pictures(torch.zeros(100, 1, 4, 4), torch.arange(100))
    seen = torch.cat([share(part, 25, seed).labels for seed in range(4)])
    assert sorted(seen.tolist()) == list(range(100))
    assert share(part, 30, 3).labels.tolist() == [*range(90, 100), *range(20)]


def measured(way: str, psnr: float, distance: float) -> Measured:
    return Measured(way, psnr, Distances(distance, distance, distance), 0.001)


def test_changes_are_of_pairs_and_not_widened_by_what_they_share() -> None:
    """Seeds differ by 10, the pairs by 0.01: the interval of the change is of the latter."""
    hard = [0.0, 10.0, 20.0]
    decoder = [measured("decoder", 20 + seed, 30 + seed) for seed in hard]
    one_step = [measured("one step", 21 + seed, 28 + seed + 0.01 * k) for k, seed in enumerate(hard)]
    assert quality_of(decoder, decoder).change is None
    found = quality_of(one_step, decoder)
    assert found.change is not None and found.frechet.half_width > 10
    assert found.change.psnr.mean == pytest.approx(1) and found.change.psnr.half_width < 1e-9
    assert found.change.frechet.mean == pytest.approx(-1.99) and found.change.frechet.half_width < 0.03


# the command

QUICK = ["--steps", "3", "--batch", "8", "--pictures", "20", "--seeds", "2", "--sample-steps", "2"]
QUICK += ["--classifier-steps", "3", "--realism", "1"]


def pairwise() -> list[dict[str, object]]:
    """14 runs in which every two named values that can go together do so at least once."""
    runs: list[dict[str, object]] = [
        {"diffusion": "none", "net": net, "latent": latent, "conditional": False, "prior": "normal", "mixing": None}
        | {"weighting": "likelihood"}
        for net, latent in (("mlp", "delta"), ("cnn", "gaussian"))
    ]
    for (i, diffusion), (j, prior) in itertools.product(enumerate(SAMPLER_OF), enumerate(CHOICES["prior"])):
        runs.append(
            {
                "diffusion": diffusion,
                "net": CHOICES["net"][(i + j) % 2],
                "latent": CHOICES["latent"][(i // 2 + j) % 2],
                "conditional": (i + j // 2) % 2 == 0,
                "prior": prior,
                "mixing": 0.5 if prior == "mixed" and i % 2 else None,
                "weighting": CHOICES["weighting"][(i + j) % 3],
            }
        )
    return runs


def test_the_runs_are_few_and_have_every_pair_of_values() -> None:
    runs = pairwise()
    assert len(runs) == 14
    assert {run["mixing"] for run in runs if run["prior"] == "mixed"} == {None, 0.5}
    named = {"conditional": (False, True)} | {k: v for k, v in CHOICES.items() if k != "dataset"}
    for (one, firsts), (two, seconds) in itertools.combinations(named.items(), 2):
        seen = {(run[one], run[two]) for run in runs}
        for pair in itertools.product(firsts, seconds):
            impossible = "none" in pair and not {"normal", "likelihood", False, "mlp", "cnn", "gaussian", "delta"} & {
                *pair
            }
            assert pair in seen or impossible, (one, two, pair)


def arguments(run: dict[str, object], folder: Path) -> list[str]:
    words = ["run", *QUICK, "--out", str(folder)]
    for name, value in run.items():
        if name == "conditional":
            words += ["--conditional"] if value else []
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the study's command quick: few digits, few times, and a critic that trains briefly."""
    part = tiny_data(60)
    monkeypatch.setattr(command, "load", lambda settings: part if settings.dataset == "digits" else load(settings))
    monkeypatch.setattr(perception, "CRITIC_STEPS", 10)
    monkeypatch.setattr(evaluation, "TIMES", (0.01, 0.5, 0.99))


@pytest.fixture(scope="module")
def result_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.mark.parametrize("run", pairwise(), ids=lambda run: "-".join(str(value) for value in run.values()))
@pytest.mark.usefixtures("quick")
def test_every_named_setting_runs_to_a_row(run: dict[str, object], result_folder: Path) -> None:
    done = CliRunner().invoke(main, arguments(run, result_folder), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    settings = StudySettings(**{**run, "dataset": "digits"})  # type: ignore[arg-type]
    (found,) = results.read([results.path_of(result_folder, settings)])
    ways = [quality.way for quality in found.qualities]
    assert ways == ["floor", "decoder", *(["one step", "realism 1"] if run["conditional"] else []), "generated"]
    assert found.coded.mean > 0 and math.isfinite(found.bound) and math.isfinite(found.distortion)
    assert all(math.isfinite(quality.frechet.mean) for quality in found.qualities)
    assert (result_folder / f"{settings.name}.png").stat().st_size > 100
    assert settings.name in done.output


@pytest.mark.usefixtures("quick")
def test_other_samplers_are_measured_with_the_same_networks(tmp_path: Path) -> None:
    words = arguments({"diffusion": "ddim", "conditional": True}, tmp_path)
    done = CliRunner().invoke(main, [*words, "--also", "sde,ode"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = results.read([tmp_path])
    assert {result.settings.diffusion for result in found} == {"ddim", "sde", "ode"}
    assert len({result.quality("one step").psnr for result in found}) == 1  # type: ignore[union-attr]
    assert len({result.quality("realism 1").psnr for result in found}) == 3  # type: ignore[union-attr]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dataset", FILES)
def test_every_dataset_runs_to_a_row(tmp_path: Path, dataset: str) -> None:
    FILES[dataset](tmp_path)
    words = ["run", *QUICK, "--pictures", "16", "--dataset", dataset, "--data", str(tmp_path), "--side", "16"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (found,) = results.read([tmp_path / "out"])
    assert str(tmp_path) not in json.dumps(found.settings.data)


@pytest.mark.usefixtures("quick")
def test_the_table_has_a_row_for_each_decoding_and_the_plots(result_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = {"diffusion": "ddim", "conditional": True}
    CliRunner().invoke(main, arguments(run, result_folder), catch_exceptions=False)
    words = ["table", str(result_folder), "--plots", str(tmp_path / "new"), "--changes", "--entropies", "--markdown"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0
    found = results.read([result_folder])
    assert done.output.count("| generated |") == len(found)
    assert done.output.count("| one step |") == 2 * sum(result.settings.conditional for result in found)
    assert done.output.count("| t | H note |") == len(found)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"plane.png", "entropies.png"}


def test_list_names_every_value_and_every_reason() -> None:
    done = CliRunner().invoke(main, ["list"], catch_exceptions=False)
    assert all(f"    {choice} " in done.output for choice in itertools.chain(*CHOICES.values()))
    assert "1168 combinations" in done.output and "are refused" in done.output
    assert "github.com/rasbt/mnist-pngs" in done.output


WRONG_USE = {
    "run --conditional": "needs --diffusion",
    "run --dataset mnist": "needs --data",
    "run --realism much": "--realism must be numbers",
    "run --also sde": "--also names",
    "run --diffusion ddim --also none": "--also names",
    "run --diffusion ddim --also euler": "euler",
    "run --dataset cifar10 --data nowhere": "nothing to read",
    "table nowhere.run.json": "not a result",
    "table .": "no results",
    "mixing small x.png --indices few": "--indices must be whole numbers",
    "mixing small x.png --indices 5000": "--indices are from 0 to 4095",
}


def test_wrong_use_ends_in_a_line_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words, reason in WRONG_USE.items():
        with pytest.raises(LdcodecError, match=rf"^[^\n]*{reason}[^\n]*$") as caught:
            CliRunner().invoke(main, words.split(), catch_exceptions=False, standalone_mode=False)
        assert caught.value.exit_code == 2, words


def test_the_program_ends_with_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["study", "run", "--conditional"])
    with pytest.raises(SystemExit) as ended:
        command.start()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.run.json"
    for content in ("", "[]", '{"settings": {}}', '{"settings": {"colour": 1}}'):
        path.write_text(content)
        with pytest.raises(UsageError, match=r"x\.run\.json"):
            results.read([path])


# the product's own model


@pytest.mark.parametrize(("mean", "scale", "fixed", "alpha"), [(1.5, 0.7, 3.0, 0.6), (-2.0, 2.0, 0.5, 0.9)])
def test_the_mixture_is_the_normalised_product(mean: float, scale: float, fixed: float, alpha: float) -> None:
    x = np.linspace(-30, 30, 60_001)
    density = stats.norm(0, fixed).pdf(x) ** (1 - alpha) * stats.norm(mean, scale).pdf(x) ** alpha
    density /= density.sum()
    found = mixture(torch.tensor(mean), torch.tensor(scale), torch.tensor(fixed), alpha)
    expected_mean = float(density @ x)
    assert float(found[0]) == pytest.approx(expected_mean, rel=1e-4)
    assert float(found[1]) == pytest.approx(math.sqrt(float(density @ (x - expected_mean) ** 2)), rel=1e-4)


def test_alpha_one_is_the_product_as_it_is(model: Model) -> None:
    pixels = some_pixels(70, 130, 3)
    bits = dict(zip(ALPHAS, mixed_bits(model, [pixels], 1500).bits, strict=True))
    t = torch.tensor([quality.fraction(1500)])
    with torch.no_grad():
        y = model.networks.scaled_latent(
            model.networks.analysis.base(padded(pixels[:64, :128], torch.device("cpu"))), t
        )
        rated = model.networks.rate(y, t, model.networks.scales(t).expected)
        plain = information(torch.round(y - rated.mean), rated.scale).double().sum()
    assert bits[1.0] == pytest.approx(float(plain) / (64 * 128), rel=1e-5)
    assert len(set(bits.values())) == len(ALPHAS)


def test_mixing_prints_a_line_for_each_index(tiny_model_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(some_pixels(64, 64, 3)).save(tmp_path / "x.png")
    words = ["mixing", str(tiny_model_folder / "tiny"), str(tmp_path / "x.png"), "--indices", "10,3000"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert [line.split()[0] for line in done.output.splitlines()] == ["index", "10", "3000"]


def test_an_earlier_result_is_not_overwritten_unasked(tmp_path: Path) -> None:
    kept = results.path_of(tmp_path, StudySettings())
    kept.write_text("kept")
    with pytest.raises(UsageError, match="--force"):
        CliRunner().invoke(main, ["run", "--out", str(tmp_path)], catch_exceptions=False)
    assert kept.read_text() == "kept"
