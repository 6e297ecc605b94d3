"""The floating-point type that training computes in: the one in which the device is fastest at convolutions.

bfloat16 halves the work only where the processor multiplies it itself. x86 processors without AVX512-BF16 or AMX take
several times as long as for float32, and torch does not say which kind a processor is. So both are tried.
"""

import functools
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

Sizes = tuple[int, int, int]  # batch, channels and side of a convolution
DENSE: Sizes = (8, 256, 64)  # large enough to reach the speed of the device
TRIAL: Sizes = (1, 128, 32)  # takes milliseconds, and is large enough to tell the types apart


def autocast(device: torch.device) -> torch.autocast:
    """The context to train in: convolutions and products in the device's `fastest_type`; weights stay in float32.

    No cache on a GPU: a recorded step must not keep converted weights from one replay to the next.
    """
    kind = fastest_type(device)
    enabled = kind != torch.float32
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=device.type != "cuda")


@functools.cache
def fastest_type(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU; on a CPU bfloat16 or float32, whichever finishes a trial first."""
    if device.type != "cpu":
        return torch.bfloat16
    return max((torch.bfloat16, torch.float32), key=lambda kind: dense_speed(device, kind, TRIAL))


@torch.enable_grad()
def dense_speed(device: torch.device, kind: torch.dtype, sizes: Sizes | None = None, repeats: int = 5) -> float:
    """FLOP/s of a 3×3 convolution in channels-last memory, forward and backward; sizes: DENSE by default.

    It draws no random numbers: a trial in the middle of a run must not change what the next step draws.
    """
    batch, channels, side = sizes or DENSE
    x, weight = torch.ones(batch, channels, side, side), torch.ones(channels, channels, 3, 3)
    x, weight = (t.to(device, kind).to(memory_format=torch.channels_last).requires_grad_() for t in (x, weight))
    gradient = torch.ones_like(x)

    def run() -> None:
        torch.autograd.grad(F.conv2d(x, weight, padding=1), (x, weight), gradient)

    run()
    return arithmetic(run) / min(seconds(run, device) for _ in range(repeats))


def arithmetic(run: Callable[[], object]) -> float:
    """Floating-point operations in matrix products and convolutions; a multiplication and its addition are two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that `run` takes, by `now`."""
    begun = now(device)
    run()
    return now(device) - begun


def now(device: torch.device) -> float:
    """The time in seconds, after a GPU has finished its work; with a single CPU thread, the time it has computed.

    On a busy machine the wall clock would measure the other processes.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if alone else time.perf_counter()
