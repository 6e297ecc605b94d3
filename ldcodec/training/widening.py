"""Larger networks that at first compute what smaller, trained ones do.

As in Net2Net (Chen, Goodfellow and Shlens 2016, "Net2WiderNet" and "Net2DeeperNet"), except that new channels are not
copies: they have random inputs and outputs of zero, so that nothing changes at first and no two are the same.
"""

import torch
from torch import Tensor

from ldcodec.entropy.config import Config
from ldcodec.errors import UsageError
from ldcodec.nets.networks import Networks
from ldcodec.training.start import initialise

QUIET = 0.1  # scale of new weights: Adam's first steps move all new channels by the same amount, useful or not
SILENT = -6.0  # log scale of a new channel of the hyper-latent: the smallest σ there is, which costs no bits


def widened(networks: Networks, config: Config, seed: int = 0) -> Networks:
    """Networks of larger sizes with the same latents, bits and pictures, up to rounding.

    The denoiser starts afresh and a second synthesis is left out: they are trained after stage 1. Raises UsageError
    where a size would shrink or the number of latent channels would change.
    """
    _check(networks.config, config)
    torch.manual_seed(seed)
    larger = Networks(config)
    for part in (larger.analysis, larger.synthesis, larger.rate, larger.gain):
        initialise(part)
    known = networks.state_dict()
    with torch.no_grad():
        _silence(larger)
        for name, tensor in larger.state_dict().items():
            if name in known and not name.startswith("denoiser."):
                _place(tensor, known[name], _features_before(name, networks.config, config))
    return larger


def _check(before: Config, after: Config) -> None:
    if before.latent != after.latent:
        raise UsageError(f"a latent of {before.latent} channels cannot become one of {after.latent}")
    if before.one_shot != after.one_shot:
        raise UsageError(f"one_shot is {before.one_shot} and cannot become {after.one_shot}")
    sizes = _growing(after)
    for name, size in _growing(before).items():
        if sizes[name] < size:
            raise UsageError(f"{name} is {size} and cannot become {sizes[name]}")


def _growing(config: Config) -> dict[str, int]:
    """The sizes that may grow."""
    synthesis = {f"synthesis {name}": size for name, size in config.synthesis._asdict().items()}
    return {"context": config.context, "hyper": config.hyper, **config.analysis._asdict(), **synthesis}


def _silence(larger: Networks) -> None:
    """Make new channels of the hyper-latent zero at first."""
    last = larger.rate.analysis[-1]
    last.weight.zero_()  # type: ignore[operator]
    larger.rate.z_log_scale.fill_(SILENT)


def _place(tensor: Tensor, known: Tensor, features: tuple[int, int] | None) -> None:
    """Write a trained tensor into the corner of a larger one; its outputs have weight zero for new inputs."""
    outputs = tensor[: len(known)] if known.ndim else tensor
    if known.ndim < 2:
        outputs.copy_(known)
        return
    tensor.mul_(QUIET)
    outputs.zero_()
    before, after = features or (known.shape[1], tensor.shape[1])
    outputs[:, :before] = known[:, :before]
    outputs[:, after : after + known.shape[1] - before] = known[:, before:]


def _features_before(name: str, before: Config, after: Config) -> tuple[int, int] | None:
    """The number of features before and after, for a layer whose inputs are features followed by something else."""
    return (before.context, after.context) if name.startswith("rate.steps.") and name.endswith("mix.weight") else None
