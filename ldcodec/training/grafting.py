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

    A part is taken over if all its tensors have a place of their size, any other begins afresh; what is new in a part
    that is taken over, such as the factors of a tuning, has no effect before it is trained. Both shortcuts are taken
    over in any case, so that a fresh synthesis draws as the linear branch does. Denoiser and second synthesis begin
    afresh. Raises UsageError where the latents have different channels.
    """
    before, after = networks.config.latent, config.latent
    if before != after:
        raise UsageError(f"a latent of {before} channels cannot become one of {after}")
    other = untrained(config, seed)
    fitting = [name for name in PARTS if _shapes(getattr(networks, name)) <= _shapes(getattr(other, name))]
    with torch.no_grad():
        other.std.copy_(networks.std)
        other.analysis.klt.copy_(networks.analysis.klt)
        other.synthesis.klt.copy_(networks.synthesis.klt)
        for name in fitting:
            getattr(other, name).load_state_dict(getattr(networks, name).state_dict(), strict=False)
    return other, fitting


def _shapes(part: nn.Module) -> set[tuple[str, torch.Size]]:
    return {(name, tensor.shape) for name, tensor in part.state_dict().items()}
