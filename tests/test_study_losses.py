"""The study's settings and losses: each term of the bound against what is known in closed form."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.errors import UsageError
from ldcodec.study.losses import (
    FIRST,
    LAST,
    Velocity,
    cross_entropy_cells,
    cross_entropy_denoising,
    cross_entropy_normal,
    denoising,
    deviation_of,
    diffused_entropy,
    gaussian_entropy,
    likelihood_times,
    log_snr,
    noise_error,
    reconstruction,
    uniform_entropy,
    uniform_times,
    weight,
)
from ldcodec.study.priors import MixedVelocity, entropy_at_start, prior_losses, still
from ldcodec.study.runs import CHOICES, MEANINGS, StudySettings, as_json, from_json, named_combinations, why_not
from ldcodec.study.toynets import layout, velocity

DRAWS = 400_000
DIGITS = layout(StudySettings(), 1, 8)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def agrees(draws: Tensor, expected: float) -> bool:
    """Whether the mean of independent draws is within five standard errors of what is expected."""
    return abs(float(draws.double().mean()) - expected) < 5 * float(draws.double().std()) / math.sqrt(len(draws))


def gaussian_velocity(mean: float, deviation: float) -> Velocity:
    """The exact v of p(z) = N(mean, deviation²), from its score."""

    def velocity(z: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = (part.view(-1, *[1] * (z.dim() - 1)) for part in alpha_sigma(time))
        noise = sigma * (z - alpha * mean) / (alpha**2 * deviation**2 + sigma**2)
        return (noise - sigma * z) / alpha

    return velocity


# settings


def test_every_choice_has_a_meaning_and_no_more_do() -> None:
    assert set(itertools.chain(*CHOICES.values())) == set(MEANINGS)


def test_every_combination_is_valid_or_refused_in_a_line() -> None:
    reasons = [why_not(combination) for combination in named_combinations()]
    assert len(reasons) == 2 * math.prod(len(choices) for choices in CHOICES.values())
    assert reasons.count(None) == 4 * 2 * 2 * (1 + 4 * 2 * 3 * 3)  # a VAE, or four diffusions of 2 · 3 · 3 kinds
    assert all(reason is None or ("\n" not in reason and len(reason) > 20) for reason in reasons)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"net": "transformer"}, "net must be one of mlp, cnn, not 'transformer'"),
    ({"conditional": True}, "needs --diffusion"),
    ({"prior": "mixed"}, "needs --diffusion"),
    ({"weighting": "simple"}, "has no such loss"),
    ({"diffusion": "ddim", "mixing": 0.5}, "the prior 'normal' has none"),
    ({"diffusion": "ddim", "prior": "mixed", "mixing": 1.5}, "0 to 1"),
    ({"dataset": "mnist"}, "needs --data PATH; the files train-images"),
    ({"data": "somewhere"}, "leave --data out"),
    ({"multiplier": 0.0}, "1e-6 to 1"),
    ({"minutes": 0.0}, "positive"),
    ({"share": 1.0}, "--share"),
    ({"side": 30}, "multiple of 4"),
    ({"realism": (2.0,)}, "0 to 1"),
    ({"seeds": 1}, "--seeds 2"),
]


def test_wrong_settings_are_refused_with_the_reason() -> None:
    for wrong, reason in WRONG:
        with pytest.raises(UsageError, match=reason):
            StudySettings(**wrong)


def test_settings_survive_json_and_unknown_ones_do_not() -> None:
    settings = StudySettings(diffusion="sde", conditional=True, prior="mixed", mixing=0.25, realism=(0.0, 1.0))
    assert from_json(as_json(settings)) == settings
    with pytest.raises(UsageError, match="colour"):
        from_json({"colour": 1})


def test_names_differ_where_the_named_settings_do() -> None:
    plain = StudySettings(diffusion="ddim", prior="mixed")
    changes: list[dict[str, Any]] = [{}, {"net": "mlp"}, {"latent": "delta"}, {"conditional": True}, {"mixing": 0.5}]
    changes.append({"multiplier": 0.01})
    assert len({replace(plain, **change).name for change in changes}) == len(changes)


# the terms of the bound, on x = z + noise, z ~ N(0, 1)

SCALE = 0.4  # standard deviation of p(x|z)
TOY = torch.tensor([[0.7], [-1.9]])  # two observations of one number
MEAN, LOG_SIGMA = torch.tensor([[0.3], [-1.0]]), torch.tensor([math.log(0.6)])


def test_reconstruction_agrees_with_its_expectation() -> None:
    for x, mean in zip(TOY, MEAN, strict=True):
        z = mean + 0.6 * torch.randn(DRAWS, 1)
        expected = 0.5 * math.log(2 * math.pi * SCALE**2) + ((x - mean).item() ** 2 + 0.6**2) / (2 * SCALE**2)
        assert agrees(reconstruction(x.expand(DRAWS, 1), z, SCALE), expected)


def test_entropies_agree_with_minus_the_mean_log_density() -> None:
    widths = torch.tensor([0.3, 2.0])
    normal = torch.distributions.Normal(0.0, widths)
    assert agrees(-normal.log_prob(normal.sample((DRAWS,))).sum(1), float(gaussian_entropy(widths.log())))
    assert float(uniform_entropy(widths.log())) == pytest.approx(math.log(0.6))


def test_cross_entropy_with_the_standard_normal_agrees_with_draws() -> None:
    found = cross_entropy_normal(MEAN, LOG_SIGMA)
    for k, mean in enumerate(MEAN):
        z = mean + 0.6 * torch.randn(DRAWS)
        assert agrees(-torch.distributions.Normal(0.0, 1.0).log_prob(z), float(found[k]))


def test_the_bound_is_the_evidence_where_q_is_the_posterior() -> None:
    mean, variance = TOY / (1 + SCALE**2), SCALE**2 / (1 + SCALE**2)
    log_sigma = torch.tensor([0.5 * math.log(variance)])
    rate = cross_entropy_normal(mean, log_sigma) - gaussian_entropy(log_sigma)
    for k, x in enumerate(TOY):
        z = mean[k] + math.sqrt(variance) * torch.randn(DRAWS, 1)
        evidence = -torch.distributions.Normal(0.0, math.sqrt(1 + SCALE**2)).log_prob(x).item()
        assert agrees(reconstruction(x.expand(DRAWS, 1), z, SCALE) + rate[k], evidence)


@pytest.mark.parametrize("step", [0.2, 1.5, 6.0])
def test_cells_of_the_standard_normal_agree_with_quadrature(step: float) -> None:
    z = torch.tensor([[0.1], [1.3], [-2.0]])
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    offsets = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 - 0.5
    density = normal.log_prob(z.double() + step * offsets).exp().mean(1)
    found = cross_entropy_cells(z, torch.tensor([math.log(step)]))
    assert torch.allclose(found.double(), -density.log(), atol=1e-4)


def test_multiplier_makes_nats_proportional_to_the_products_loss() -> None:
    x, decoded = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    deviation = deviation_of(0.002, 3)
    nats = reconstruction(x, decoded, deviation) - reconstruction(x, x, deviation)
    mse = (x - decoded).square().flatten(1).mean(1)
    assert torch.allclose(nats / math.log(2) / 64, 0.002 * 255**2 * mse, rtol=1e-4)


# the cross-entropy by denoising

PRIORS = [(0.0, 1.0), (0.5, 0.7), (-0.3, 1.6)]


@pytest.mark.parametrize(("prior_mean", "prior_deviation"), PRIORS)
def test_cross_entropy_by_denoising_is_the_analytic_one(prior_mean: float, prior_deviation: float) -> None:
    z = (0.8 + 0.5 * torch.randn(DRAWS, 1, dtype=torch.float64)).contiguous()
    time = likelihood_times(DRAWS, torch.float64)
    found = cross_entropy_denoising(z, gaussian_velocity(prior_mean, prior_deviation), time, torch.randn_like(z))
    alpha, sigma = (float(part) for part in alpha_sigma(torch.tensor(FIRST, dtype=torch.float64)))
    variance = alpha**2 * prior_deviation**2 + sigma**2
    spread = alpha**2 * ((0.8 - prior_mean) ** 2 + 0.5**2) + sigma**2
    expected = 0.5 * (math.log(2 * math.pi * variance) + spread / variance)
    assert agrees(found, expected)
    assert float(found.std()) / math.sqrt(DRAWS) < 0.02  # the test is as sharp as that


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.7, 0.3), (-1.5, 2.0), (0.4, 0.05)])
def test_the_networks_velocity_is_that_of_the_gaussian_it_names(mean: float, deviation: float) -> None:
    u, time = torch.randn(50, 2, 3, 3), torch.linspace(0.02, 0.98, 50)
    named = torch.full_like(u, mean), torch.full_like(u, math.log(deviation))
    assert torch.allclose(velocity(u, time, *named), gaussian_velocity(mean, deviation)(u, time), atol=1e-4)
    assert torch.allclose(velocity(u, torch.ones(50), *named), torch.full_like(u, -mean), atol=1e-5)


@pytest.mark.slow
def test_mixed_prior_with_alpha_zero_is_the_standard_normal() -> None:
    mixed = MixedVelocity(DIGITS, "mixed", 0.0)
    torch.nn.init.normal_(mixed.network.head.weight)  # whatever the network says
    z, noise = torch.randn(1000, *DIGITS.latent_shape), torch.randn(1000, *DIGITS.latent_shape)
    time = likelihood_times(len(z))
    with torch.no_grad():
        assert torch.count_nonzero(mixed(z, time)) == 0
        found = cross_entropy_denoising(z, mixed, time, noise)
    assert agrees(found, z[0].numel() * 0.5 * (math.log(2 * math.pi) + 1))


def test_mixing_is_of_the_noise_predictions() -> None:
    """LSGM's ε = (1 − α)·σ·z_t + α·ε_θ against this project's v = α·v_θ."""
    z, time = torch.randn(6, *DIGITS.latent_shape), torch.linspace(0.1, 0.9, 6)
    alone, mixed = MixedVelocity(DIGITS, "diffusion", None), MixedVelocity(DIGITS, "mixed", 0.3)
    torch.nn.init.normal_(alone.network.head.weight)
    mixed.network.load_state_dict(alone.network.state_dict())
    alpha, sigma = (part.view(-1, 1, 1, 1) for part in alpha_sigma(time))
    noise_of = {name: sigma * z + alpha * net(z, time) for name, net in (("alone", alone), ("mixed", mixed))}
    assert torch.allclose(noise_of["mixed"], 0.7 * sigma * z + 0.3 * noise_of["alone"], atol=1e-5)


def test_learned_alpha_starts_near_the_standard_normal_and_learns() -> None:
    mixed = MixedVelocity(DIGITS, "mixed", None)
    assert 0 < float(mixed.mixing().detach().max()) < 0.2
    torch.nn.init.normal_(mixed.network.head.weight)
    prior_losses(mixed, torch.randn(16, *DIGITS.latent_shape), "likelihood")[0].sum().backward()
    assert mixed.logit is not None and mixed.logit.grad is not None and mixed.logit.grad.abs().min() > 0


def test_entropy_at_the_first_time_is_exact_for_gaussians_and_a_bound_for_uniforms() -> None:
    alpha, sigma = (float(part) for part in alpha_sigma(torch.tensor(FIRST)))
    log_sigma = torch.tensor([-3.0, 0.2])
    expected = gaussian_entropy(0.5 * (alpha**2 * (2 * log_sigma).exp() + sigma**2).log())
    assert float(entropy_at_start("gaussian", log_sigma)) == pytest.approx(float(expected), rel=1e-5)
    step = 0.03
    x = torch.linspace(-0.2, 0.2, 40_001, dtype=torch.float64)
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), sigma)
    density = (normal.cdf(x + alpha * step / 2) - normal.cdf(x - alpha * step / 2)) / (alpha * step)
    true = -torch.trapezoid(torch.special.xlogy(density, density), x)
    bound = diffused_entropy(torch.tensor(math.log(step), dtype=torch.float64))
    assert float(true) - 0.06 < float(bound) <= float(true)


# weightings


def test_weights_are_the_schedules_derivatives() -> None:
    time = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    slope = -torch.autograd.grad(log_snr(time).sum(), time)[0]
    assert torch.allclose(weight("likelihood", time), slope)
    assert torch.allclose(weight("lsgm", time), slope * alpha_sigma(time)[1].square())
    assert torch.equal(weight("simple", time), torch.ones_like(time))


def test_importance_sampling_of_times_gives_the_weighted_integral() -> None:
    """w/2·‖ε − ε_θ‖² over uniform times has the mean of the importance-sampled form, in closed form here."""
    z = torch.full((DRAWS, 1), 0.8, dtype=torch.float64)
    velocity = gaussian_velocity(0.5, 0.7)
    time = uniform_times(DRAWS).double()
    even = 0.5 * (LAST - FIRST) * weight("likelihood", time) * noise_error(z, velocity, time, torch.randn_like(z))
    importance = cross_entropy_denoising(z, velocity, likelihood_times(DRAWS, torch.float64), torch.randn_like(z))
    most, least = (float(log_snr(torch.tensor(t, dtype=torch.float64))) for t in (FIRST, LAST))
    error = noise_error(z, velocity, likelihood_times(DRAWS, torch.float64), torch.randn_like(z))
    integral = 0.5 * (most - least) * error
    assert agrees(even - float(integral.mean()), 0.0)
    assert float(importance.std()) < float(even.std())


@pytest.mark.parametrize("weighting", CHOICES["weighting"])
def test_the_encoder_is_trained_by_the_cross_entropy_whatever_the_weighting(weighting: str) -> None:
    mixed = MixedVelocity(DIGITS, "diffusion", None)
    torch.nn.init.normal_(mixed.network.head.weight, std=0.1)
    z = torch.randn(8, *DIGITS.latent_shape, requires_grad=True)
    cross, own = prior_losses(mixed, z, weighting)
    assert own.requires_grad == (weighting != "likelihood")
    if own.requires_grad:
        own.sum().backward()
        assert z.grad is None
    cross.sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0


def test_a_network_held_still_gets_no_gradient() -> None:
    mixed = MixedVelocity(DIGITS, "diffusion", None)
    torch.nn.init.normal_(mixed.network.head.weight)
    z = torch.randn(8, *DIGITS.latent_shape, requires_grad=True)
    cross_entropy_denoising(z, still(mixed), likelihood_times(8), torch.randn_like(z)).sum().backward()
    assert all(parameter.grad is None for parameter in mixed.parameters())


@pytest.mark.parametrize("weighting", CHOICES["weighting"])
def test_every_weighting_is_least_at_the_true_velocity(weighting: str) -> None:
    z = 0.5 + 0.7 * torch.randn(40_000, 1)
    losses = []
    for one in (gaussian_velocity(0.5, 0.7), gaussian_velocity(0.0, 1.0)):
        torch.manual_seed(5)
        losses.append(float(denoising(z, one, weighting).mean()))
    assert losses[0] < losses[1]
