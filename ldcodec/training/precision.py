"""In which floating-point type a device computes convolutions fastest: what training runs in.

Half of the bytes are only half of the work where the processor multiplies bfloat16 itself. x86 processors without
AVX512-BF16 or AMX take several times as long for it as for float32, and no name of a device tells which it is.
"""

import functools
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

Sizes = tuple[int, int, int]  # batch, channels and side of a convolution
DENSE: Sizes = (8, 256, 64)  # stands for what the device can do
TRIAL: Sizes = (1, 128, 32)  # milliseconds, and large enough to tell the types apart


def autocast(device: torch.device) -> torch.autocast:
    """The context that a stage's loss is computed in: `fastest_type` of the device, weights kept in float32.

    A recorded step must not keep converted weights from one replay to the next, hence no cache on a GPU.
    """
    kind = fastest_type(device)
    enabled = kind != torch.float32
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=device.type != "cuda")


@functools.cache
def fastest_type(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU; on a processor float32 or bfloat16, whichever has computed a trial faster."""
    if device.type != "cpu":
        return torch.bfloat16
    return max((torch.bfloat16, torch.float32), key=lambda kind: dense_speed(device, kind, TRIAL))


def dense_speed(device: torch.device, kind: torch.dtype, sizes: Sizes | None = None, repeats: int = 5) -> float:
    """FLOP a second of a 3×3 convolution in channels-last memory, forward and backward; of DENSE by default.

    Draws no random numbers: a trial in the middle of a run must not change what the next step draws.
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
    """Floating-point operations of matrix products and convolutions, two for a product and its sum."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that `run` takes, by `now`."""
    begun = now(device)
    run()
    return now(device) - begun


def now(device: torch.device) -> float:
    """Seconds, once a GPU has done what it still had to do; of a single CPU thread those that it computed.

    On a machine that others use too, the wall clock measures the others.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if alone else time.perf_counter()
