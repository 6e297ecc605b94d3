"""Networks of other sizes that take over the parts of trained ones which fit: a start for stage 1."""

import torch
from torch import nn

from ldcodec.entropy.config import Config
from ldcodec.errors import UsageError
from ldcodec.nets.networks import Networks
from ldcodec.training.start import untrained

PARTS = ("analysis", "gain", "rate", "synthesis")


def grafted(networks: Networks, config: Config, seed: int = 0) -> tuple[Networks, list[str]]:
    """Networks of a configuration, and the names of the parts in it that are trained.

    A part whose tensors all have their sizes is taken over, any other begins afresh; both shortcuts are taken over in
    any case, so that a fresh synthesis draws as the linear branch does. Denoiser and second synthesis begin afresh.
    Raises UsageError where the latents have different channels.
    """
    before, after = networks.config.latent, config.latent
    if before != after:
        raise UsageError(f"a latent of {before} channels cannot become one of {after}")
    other = untrained(config, seed)
    fitting = [name for name in PARTS if _shapes(getattr(other, name)) == _shapes(getattr(networks, name))]
    with torch.no_grad():
        other.std.copy_(networks.std)
        other.analysis.klt.copy_(networks.analysis.klt)
        other.synthesis.klt.copy_(networks.synthesis.klt)
        for name in fitting:
            getattr(other, name).load_state_dict(getattr(networks, name).state_dict())
    return other, fitting


def _shapes(part: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in part.state_dict().items()}
