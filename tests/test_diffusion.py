"""The diffusion decoder: moments, schedule, noise, denoiser, and samplers against a posterior known in closed form."""

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from ldcodec.diffusion.noise import gaussian, logarithm, normal_quantile, philox
from ldcodec.diffusion.posterior import FARTHEST, Condition, known_of, moments
from ldcodec.diffusion.samplers import (
    SAMPLERS,
    Denoise,
    Sampler,
    alpha_sigma,
    sample_ddim,
    sample_ddpm,
    sample_heun,
    sample_sde,
    times,
)
from ldcodec.entropy.config import Config
from ldcodec.entropy.integer import Parsed
from ldcodec.entropy.tables import SCALE_COUNT, SCALES, cell_edges
from ldcodec.entropy.trellis import SCALAR
from ldcodec.errors import UsageError
from ldcodec.nets.denoiser import Denoiser
from ldcodec.nets.quantise import centroid, deviation, scale_of

TINY = Config(latent=8, denoiser=16, denoiser_blocks=2)
EVERY_SAMPLER = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
QUADRATURE = np.polynomial.legendre.leggauss(400)  # nodes and weights
MAGNITUDES = np.array([0, 1, 2, 3, 7, 16, 20, 150, 1000, 32767])


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def reference_moments(inner: float, outer: float, scale: float) -> tuple[float, float]:
    """Mean and deviation by 400-node quadrature in float64 over the part of the cell that has any density."""
    start = -outer if inner == 0 else inner
    slope, bend = start / scale**2, 0.5 / scale**2
    nodes, weights = QUADRATURE
    y = (nodes + 1) / 2 * (min(outer - start, 60 / slope) if slope > 0 else outer - start)
    exponent = -slope * y - bend * y * y
    density = weights * np.exp(exponent - exponent.max())
    density /= density.sum()
    offset = float(density @ y)
    return start + offset, math.sqrt(float(density @ (y - offset) ** 2))


# posterior


def test_reference_agrees_with_scipy_where_scipy_is_exact() -> None:
    for inner, outer, scale in [(0, 0.7, 0.2), (0.6, 1.6, 0.6), (1.5, 2.5, 1.0), (6.5, 7.5, 5.0), (2.7, 3.6, 2.0)]:
        low = -outer if inner == 0 else inner
        cut = stats.truncnorm(low / scale, outer / scale, scale=scale)
        assert reference_moments(inner, outer, scale) == pytest.approx((cut.mean(), cut.std()), rel=1e-6, abs=1e-9)


def test_moments_follow_the_integral_into_far_tails() -> None:
    index = np.arange(0, SCALE_COUNT, 3)
    magnitude, index = (x.ravel() for x in np.meshgrid(MAGNITUDES, index))
    cells = zip(*cell_edges(magnitude, index), np.array(SCALES)[index], strict=True)
    expected = np.array([reference_moments(*cell) for cell in cells])
    mean, deviation = moments(magnitude, index)
    assert np.allclose(mean, expected[:, 0], rtol=2e-7, atol=2e-7)
    assert np.allclose(deviation, expected[:, 1], rtol=5e-6)


def test_moments_stay_in_their_cell_for_every_symbol_and_scale() -> None:
    magnitude = np.concatenate([np.arange(71), [255, 4096, 20000, 32767]])
    magnitude, index = (x.ravel() for x in np.meshgrid(magnitude, np.arange(SCALE_COUNT)))
    inner, outer = cell_edges(magnitude, index)
    mean, deviation = moments(magnitude, index)
    assert np.all((inner <= mean) & (mean <= outer))
    width = np.where(magnitude == 0, 2 * outer, outer - inner)
    assert np.all(deviation > 0) and np.all(deviation <= (1 + 1e-6) * width / math.sqrt(12))


# schedule


def test_schedule_is_exact_at_both_ends_and_preserves_variance() -> None:
    for dtype in (torch.float32, torch.float64):
        alpha, sigma = alpha_sigma(torch.tensor([0.0, 0.25, 1.0], dtype=dtype))
        assert alpha[[0, 2]].tolist() == [1, 0] and sigma[[0, 2]].tolist() == [0, 1]
        assert float(alpha[1] ** 2 + sigma[1] ** 2) == pytest.approx(1, rel=1e-6)
        assert float(sigma[1]) == pytest.approx(math.sin(math.pi / 8), rel=1e-6)


def test_times_fall_evenly_from_one_to_zero() -> None:
    assert times(4) == [1, 0.75, 0.5, 0.25, 0]
    assert times(1) == [1, 0]
    assert np.all(np.diff(times(1000)) < 0)


def test_times_refuse_an_impossible_number_of_steps() -> None:
    for steps in (0, -1, 1001):
        with pytest.raises(UsageError, match="1 to 1000"):
            times(steps)


# noise

RANDOM123 = [  # from the known-answer file of the Random123 library: counter, key, answer
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def test_philox_gives_the_published_answers() -> None:
    for counter, key, answer in RANDOM123:
        words = [np.array([int(word, 16)], np.uint64) for word in counter.split()]
        low, high = (int(word, 16) for word in key.split())
        assert [f"{int(word[0]):08x}" for word in philox(words, (low, high))] == answer.split()


def test_quantile_agrees_with_scipy_to_the_ends() -> None:
    words = np.random.default_rng(3).integers(0, 2**32, 200_000).astype(np.uint64)
    words[:6] = 0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1
    share = (words + 0.5) / 2**32
    expected = np.where(share < 0.5, 1, -1) * special.ndtri(np.minimum(share, 1 - share))
    assert np.abs(normal_quantile(words) - expected).max() < 1e-13


def test_logarithm_is_as_exact_as_the_library() -> None:
    x = np.concatenate([np.logspace(-10, 10, 4001), [0.5, 1.0, 1 - 2**-53, 2.0]])
    assert np.all(np.abs(logarithm(x) - np.log(x)) <= 4e-16 * np.maximum(1, np.abs(np.log(x))))


def test_noise_bits_never_change() -> None:
    """Seeds in users' notes must keep giving the same picture: a change of this sum is a breaking change."""
    field = gaussian(2**63 + 17, 3, (10, 6, 7), top=1000, left=20)
    assert hashlib.sha256(field.astype("<f4").tobytes()).hexdigest()[:16] == "351d7baec4acfc48"


def test_crop_of_noise_equals_noise_of_the_crop() -> None:
    whole = gaussian(5, 2, (22, 40, 53))
    for top, left, height, width in [(0, 0, 5, 9), (7, 3, 20, 11), (39, 52, 1, 1)]:
        part = gaussian(5, 2, (22, height, width), top, left)
        assert part.dtype == np.float32
        assert np.array_equal(whole[:, top : top + height, left : left + width], part)


def test_noise_is_standard_normal() -> None:
    z = gaussian(1, 0, (320, 32, 48))
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / z.size)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / z.size)
    assert stats.kstest(z[:, ::2, ::3].ravel(), "norm").pvalue > 1e-3


def test_noise_is_independent_across_seeds_steps_channels_and_positions() -> None:
    z = gaussian(9, 1, (16, 64, 64))
    others = [gaussian(10, 1, z.shape), gaussian(9 + 2**32, 1, z.shape), gaussian(9, 2, z.shape)]
    others += [np.roll(z, 1, axis) for axis in range(3)]
    for other in others:
        assert abs(float((z * other).mean())) < 5 / math.sqrt(z.size)


def test_noise_refuses_a_seed_out_of_range() -> None:
    for seed in (-1, 2**64):
        with pytest.raises(UsageError, match="seed"):
            gaussian(seed, 0, (4, 1, 1))


# denoiser


def some_condition(latent: int = TINY.latent) -> Condition:
    shape = (2, latent, 6, 5)
    symbol, index = torch.randint(-3, 4, shape), torch.randint(SCALE_COUNT // 2, shape)
    centre = centroid(symbol, index) + torch.randn(shape)
    return Condition(centre, deviation(symbol, index), scale_of(index), torch.tensor([0.2, 0.9]))


def trained_denoiser() -> Denoiser:
    """A denoiser in which every parameter does something."""
    denoiser = Denoiser(TINY)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return denoiser


def test_untrained_denoiser_returns_exactly_zero() -> None:
    v = Denoiser(TINY)(torch.randn(2, TINY.latent, 6, 5), torch.rand(2), some_condition())
    assert v.dtype == torch.float32 and v.shape == (2, TINY.latent, 6, 5)
    assert torch.count_nonzero(v) == 0


@EVERY_SAMPLER
def test_untrained_decoder_is_the_centroid_after_one_step(sampler: Sampler) -> None:
    denoiser, condition = Denoiser(TINY), some_condition()
    prepared = denoiser.prepare(condition)
    start = torch.randn(condition.centre.shape)
    u0 = sampler(lambda u, t: denoiser(u, torch.full((2,), t), prepared), start, times(1), unexpected_noise)
    assert torch.equal(condition.centre + condition.deviation * u0, condition.centre)


def test_hidden_signals_of_the_untrained_denoiser_have_unit_order() -> None:
    config = Config()
    denoiser, shape = Denoiser(config), (1, config.latent, 8, 8)
    index = torch.linspace(0, SCALE_COUNT - 7, shape[1]).round()[:, None, None].expand(shape)
    symbol = (torch.randn(shape) * scale_of(index)).round()
    known = centroid(symbol, index), deviation(symbol, index), scale_of(index), torch.tensor([0.5])
    prepared = denoiser.prepare(Condition(*known))
    hidden = denoiser.blocks(denoiser.noisy(torch.randn(shape)) + prepared.features)
    assert torch.all(prepared.factor == 1)
    assert 0.5 < float(hidden.detach().std()) < 4


def test_prepared_condition_gives_the_same_answer() -> None:
    denoiser, condition = trained_denoiser(), some_condition()
    u, time = torch.randn(condition.centre.shape), torch.tensor([0.3, 1.0])
    assert torch.equal(denoiser(u, time, denoiser.prepare(condition)), denoiser(u, time, condition))


def test_denoiser_listens_to_every_input() -> None:
    denoiser, condition = trained_denoiser(), some_condition()
    u, time = torch.randn(condition.centre.shape), torch.tensor([0.3, 1.0])
    inputs = (u, time, condition.centre, condition.deviation, condition.scale, condition.quality)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    (denoiser(leaves[0], leaves[1], Condition(*leaves[2:])) ** 2).sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all() and leaf.grad.abs().sum() > 0


def test_every_parameter_learns_once_the_head_has_moved() -> None:
    denoiser = Denoiser(TINY)
    torch.nn.init.normal_(denoiser.head.weight, std=0.1)
    for name, parameter in denoiser.named_parameters():
        if name.endswith(("second.weight", "out.weight")):
            torch.nn.init.normal_(parameter, std=0.1)
    v = denoiser(torch.randn(2, TINY.latent, 6, 5), torch.tensor([0.3, 0.7]), some_condition())
    ((v - 1) ** 2).mean().backward()
    idle = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_denoiser_in_bfloat16_and_channels_last_stays_near_float32() -> None:
    denoiser, condition = trained_denoiser(), some_condition()
    u, time = torch.randn(condition.centre.shape), torch.tensor([0.3, 1.0])
    exact = denoiser(u, time, condition)
    for parameter in denoiser.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        rough = denoiser(u.to(memory_format=torch.channels_last), time, condition)
    assert rough.dtype == torch.float32
    assert float((rough - exact).detach().norm() / exact.detach().norm()) < 0.05


def test_a_file_tells_the_decoder_what_encoder_and_training_assume() -> None:
    """Every pair of symbol and scale index, through the decoder's arrays and through the table in torch."""
    values = np.arange(-FARTHEST, FARTHEST + 1, dtype=np.int32)
    symbols, index = np.meshgrid(values, np.arange(SCALE_COUNT, dtype=np.uint8))
    mean = np.random.default_rng(0).integers(-3000, 3000, symbols.shape).astype(np.int32)
    known = known_of(Parsed(symbols[None], mean[None], index[None], np.full_like(index, SCALAR)[None]))
    s, i = torch.from_numpy(symbols).float(), torch.from_numpy(index)
    assert known.centre.dtype == known.deviation.dtype == known.scale.dtype == np.float32
    assert np.allclose(known.scale[0], scale_of(i), rtol=1e-6)
    assert np.allclose(known.deviation[0], deviation(s, i), rtol=1e-6)
    assert np.allclose(known.centre[0], torch.from_numpy(mean) / 512 + centroid(s, i), rtol=1e-6, atol=1e-5)


def test_symbols_beyond_the_table_differ_little() -> None:
    """All that lie within eight σ."""
    magnitude, index = np.meshgrid(np.arange(FARTHEST + 1, 2049), np.arange(SCALE_COUNT))
    near = magnitude < 8 * np.array(SCALES)[index]
    magnitude, index = magnitude[near], index[near]
    s, i = torch.from_numpy(magnitude), torch.from_numpy(index)
    mean, width = moments(magnitude, index)
    assert np.abs(centroid(-s, i).numpy() + mean).max() < 0.006
    assert np.abs(deviation(s, i).numpy() / width - 1).max() < 1e-3


# samplers


def unexpected_noise(index: int) -> Tensor:
    raise AssertionError(f"noise {index} asked for")


def gaussian_denoiser(mean: float, deviation: float) -> Denoise:
    """The best v for u0 ~ N(mean, deviation²): both E[u0 | u_t] and E[ε | u_t] are linear in u_t."""

    def denoise(u: Tensor, time: float) -> Tensor:
        alpha, sigma = alpha_sigma(torch.tensor(time, dtype=torch.float64))
        surprise = (u - alpha * mean) / (alpha**2 * deviation**2 + sigma**2)
        v: Tensor = alpha * sigma * surprise - sigma * (mean + alpha * deviation**2 * surprise)
        return v

    return denoise


def response(sampler: Sampler, steps: int, mean: float, deviation: float) -> tuple[float, float]:
    """Mean and deviation of what a sampler draws, without sampling error.

    With a linear denoiser the result is a linear function of the start and of every noise. Element k of the tensor gets
    a 1 as noise k and nothing else, so the squared coefficients add up to the variance; the last element gets no noise.
    """

    def unit(k: int) -> Tensor:
        return torch.eye(steps + 1, dtype=torch.float64)[k]

    u0 = sampler(gaussian_denoiser(mean, deviation), unit(0), times(steps), unit)
    return float(u0[-1]), float((u0[:-1] - u0[-1]).norm())


@EVERY_SAMPLER
def test_one_step_is_minus_v(sampler: Sampler) -> None:
    u = torch.randn(50)
    called: list[int] = []
    u0 = sampler(lambda u, t: u.sin() + t, u, times(1), unexpected_noise, called.append)
    assert torch.equal(u0, -(u.sin() + 1))
    assert called == [1]


ORDER = [  # sampler, error of the deviation at 32 steps, how much smaller it is at 128
    (sample_ddim, 0.08, 3.5),
    (sample_ddpm, 0.14, 3.0),
    (sample_heun, 0.011, 14.0),
    (sample_sde, 0.05, 3.5),
]


@pytest.mark.parametrize(("sampler", "error", "gain"), ORDER, ids=SAMPLERS)
def test_samplers_converge_to_the_posterior(sampler: Sampler, error: float, gain: float) -> None:
    for mean, spread in [(0.5, 0.3), (0.3, 0.8), (-0.2, 1.5)]:
        found = [response(sampler, steps, mean, spread) for steps in (32, 64, 128)]
        misses = [abs(d / spread - 1) for _, d in found]
        assert all(m == pytest.approx(mean, abs=1e-9) for m, _ in found)
        assert misses[0] < error and misses[0] > misses[1] > misses[2]
        assert misses[0] / misses[2] > gain


def test_second_order_samplers_beat_first_order_ones() -> None:
    miss = {name: abs(response(sampler, 64, 0.5, 0.3)[1] / 0.3 - 1) for name, sampler in SAMPLERS.items()}
    assert miss["heun"] < miss["sde"] < miss["ddim"] < miss["ddpm"]


@EVERY_SAMPLER
def test_samples_have_the_posterior_s_mean_variance_and_shape(sampler: Sampler) -> None:
    mean, deviation, steps, count = 0.3, 0.8, 40, 200_000
    draws = torch.from_numpy(np.stack([gaussian(4, k, (40, 50, 100)).ravel() for k in range(steps)]))
    u0 = sampler(gaussian_denoiser(mean, deviation), draws[0], times(steps), lambda k: draws[k]).numpy()
    expected = response(sampler, steps, mean, deviation)[1]
    assert abs(u0.mean() - mean) < 5 * deviation / math.sqrt(count)
    assert abs(u0.std() / expected - 1) < 5 / math.sqrt(2 * count)
    assert abs(expected / deviation - 1) < 0.07
    assert stats.kstest((u0[::10] - mean) / expected, "norm").pvalue > 1e-3


@EVERY_SAMPLER
def test_without_noise_every_sampler_gives_the_mean(sampler: Sampler) -> None:
    start = torch.zeros(3, 4)
    for steps in (1, 2, 7):
        u0 = sampler(gaussian_denoiser(0.4, 0.6), start, times(steps), lambda k: torch.zeros(3, 4))
        assert u0.tolist() == pytest.approx(np.full((3, 4), 0.4), abs=1e-6)


@pytest.mark.parametrize("sampler", [sample_ddim, sample_heun], ids=["ddim", "heun"])
def test_scaled_start_noise_scales_the_spread(sampler: Sampler) -> None:
    z = torch.linspace(-3, 3, 61, dtype=torch.float64)
    for realism in (0.25, 0.5, 1.0):
        u0 = sampler(gaussian_denoiser(0.3, 0.8), realism * z, times(400), unexpected_noise)
        assert torch.allclose(u0, 0.3 + realism * 0.8 * z, atol=0.004 * 3)


@EVERY_SAMPLER
def test_noise_is_asked_for_once_a_step_and_never_in_the_last(sampler: Sampler) -> None:
    asked: list[int] = []
    reported: list[int] = []

    def noise(k: int) -> Tensor:
        asked.append(k)
        return torch.zeros(4)

    sampler(lambda u, t: -u, torch.ones(4), times(5), noise, reported.append)
    assert reported == [1, 2, 3, 4, 5]
    assert asked == ([1, 2, 3, 4] if sampler in (sample_ddpm, sample_sde) else [])


@EVERY_SAMPLER
def test_samplers_stay_finite_in_float32_with_a_careless_denoiser(sampler: Sampler) -> None:
    for steps in (1, 2, 3, 100, 1000):
        u0 = sampler(lambda u, t: torch.tanh(u) - 0.5, torch.randn(16), times(steps), lambda k: torch.randn(16))
        assert u0.dtype == torch.float32 and torch.isfinite(u0).all() and u0.abs().max() < 20
