"""Choose the floating-point type for training: the one in which the device is fastest at convolutions.

bfloat16 halves the work only on processors that multiply it in hardware. x86 processors without AVX512-BF16 or AMX take
several times as long as for float32, and torch does not report what a processor can do. So both types are timed.
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
    """A context in which convolutions and matrix products use the device's `fastest_type`; weights stay in float32."""
    kind = fastest_type(device)
    enabled = kind != torch.float32
    # No cache on a GPU: a recorded step (CUDA graph) must not keep converted weights from one replay to the next.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=device.type != "cuda")


@functools.cache
def fastest_type(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU; on a CPU whichever of bfloat16 and float32 is faster in a trial."""
    if device.type != "cpu":
        return torch.bfloat16
    return max((torch.bfloat16, torch.float32), key=lambda kind: dense_speed(device, kind, TRIAL))


@torch.enable_grad()
def dense_speed(device: torch.device, kind: torch.dtype, sizes: Sizes | None = None, repeats: int = 5) -> float:
    """Measure FLOP/s of a 3×3 convolution in channels-last memory, forward and backward; sizes: DENSE by default."""
    batch, channels, side = sizes or DENSE
    # Ones, not random numbers: a trial in the middle of a run must not change the numbers that the next step draws.
    x, weight = torch.ones(batch, channels, side, side), torch.ones(channels, channels, 3, 3)
    x, weight = (t.to(device, kind).to(memory_format=torch.channels_last).requires_grad_() for t in (x, weight))
    gradient = torch.ones_like(x)

    def run() -> None:
        torch.autograd.grad(F.conv2d(x, weight, padding=1), (x, weight), gradient)

    run()
    return arithmetic(run) / min(seconds(run, device) for _ in range(repeats))


def arithmetic(run: Callable[[], object]) -> float:
    """Count floating-point operations in matrix products and convolutions, two per multiply-accumulate."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def seconds(run: Callable[[], object], device: torch.device) -> float:
    begun = now(device)
    run()
    return now(device) - begun


def now(device: torch.device) -> float:
    """A time in seconds for measuring durations, taken after a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    # With a single thread, processor time: the wall clock would count what other processes take.
    return time.process_time() if alone else time.perf_counter()
