"""What a calling program has set in PyTorch for networks of its own, and what is done so that it does not reach ours.

Default type and device: every tensor that is made here names both, and networks are built by `built`. Autocast and
inference mode: `undisturbed`. Forks: `survive_forks`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from torch import nn

Networks = TypeVar("Networks", bound=nn.Module)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without autocast, which would blur what networks compute, and inference mode, in which nothing is refined."""
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@cache
def survive_forks() -> None:
    """Let children of a fork compute in one thread: OpenMP would wait for ever for the others, which do not exist."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def built(networks: Callable[[], Networks]) -> Networks:
    """Networks in float32 on the CPU, initialised without a draw from the caller's random numbers."""
    # The meta device would avoid the draws, but its first use takes a second of imports.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return networks().float()
