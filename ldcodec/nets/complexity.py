"""The size and cost of each part of a model: parameters and multiply-accumulates per pixel."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ldcodec.diffusion.posterior import Condition
from ldcodec.entropy.config import Config
from ldcodec.nets.model import load_model
from ldcodec.nets.networks import Networks

SIDE = 128  # pixels of the square picture that is measured


@dataclass(frozen=True)
class Part:
    """One part of a model: number of parameters, thousands of multiply-accumulates per pixel, and where it runs."""

    name: str
    parameters: int
    kmac_per_pixel: float
    encoding: bool
    decoding: bool


def parts(config: Config) -> list[Part]:
    """Measure the parts of a model of this configuration."""
    networks = Networks(config).eval()
    x, t = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1)
    y, z = torch.ones(1, config.latent, SIDE // 16, SIDE // 16), torch.zeros(1, config.hyper, SIDE // 64, SIDE // 64)
    rate, condition = networks.rate, Condition(y, y, y, t)
    steps = nn.ModuleList([rate.synthesis, rate.quality, rate.steps, *([rate.scales] if rate.scales else [])])
    return [
        _part("analysis", networks.analysis, lambda: networks.analysis(x, t, networks.std), True, False),
        _part("hyper analysis", rate.analysis, lambda: rate.hyper_latent(y, t), True, False),
        _part("rate model", steps, lambda: _parse(networks, z, y, t), True, True),
        _part("denoiser, a step", networks.denoiser, lambda: networks.denoiser(y, t, condition), False, True),
        _part("synthesis", networks.synthesis, lambda: networks.synthesis(y, t, networks.std), False, True),
    ]


def _parse(networks: Networks, z: Tensor, y: Tensor, t: Tensor) -> None:
    """The multiplications of parsing: a step computes only the quarter of each head's outputs that it uses."""
    features = networks.rate.features(z, t)
    if networks.rate.scales is not None:
        networks.rate.scales(features)
    for k, step in enumerate(networks.rate.steps):
        inputs = torch.cat([features, y], 1) if k else features
        hidden = step.spatial(step.mix(inputs))  # type: ignore[operator]
        step.head(hidden[..., ::2, ::2])  # type: ignore[operator]


def _part(name: str, module: nn.Module, run: Callable[[], object], encoding: bool, decoding: bool) -> Part:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    parameters = sum(p.numel() for p in module.parameters())
    kmac = counter.get_total_flops() / 2 / SIDE**2 / 1000  # a multiply-accumulate counts as two operations
    return Part(name, parameters, kmac, encoding, decoding)


def summary(name_or_path: str) -> list[Part]:
    """Measure the parts of a model given by name or path. Raises ModelError if it cannot be loaded."""
    return parts(load_model(name_or_path, "cpu").networks.config)
