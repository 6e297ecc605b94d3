"""Gaussian scales in tensors: what a symbol costs under one, and which of the 64 is nearest."""

import math

import torch
from torch import Tensor

from ldcodec.entropy.tables import LOG_RATIO, SCALE_COUNT, SCALE_MIN


class LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still lifts x from below the bound; a plain clamp would leave such channels dead."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), elementwise, with the gradient of `LowerBound`."""
    return LowerBound.apply(x, bound)  # type: ignore[no-any-return, no-untyped-call]


def information(symbol: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the mass of N(0, scale²) on [symbol − ½, symbol + ½], elementwise, in bits; at most 30."""
    magnitude = symbol.abs()
    upper = torch.erfc((magnitude - 0.5) / (scale * math.sqrt(2)))
    lower = torch.erfc((magnitude + 0.5) / (scale * math.sqrt(2)))
    return -torch.log2(lower_bound(0.5 * (upper - lower), 1e-9))


def nearest_scale(log_scale: Tensor) -> Tensor:
    """The index in 0..63 of the scale nearest to exp(log_scale), elementwise, as floats."""
    return torch.clamp(torch.round((log_scale - math.log(SCALE_MIN)) / LOG_RATIO), 0, SCALE_COUNT - 1)


def scale_of(index: Tensor) -> Tensor:
    """σ of each scale index in 0..63, elementwise, float32."""
    return torch.exp(index.float() * LOG_RATIO + math.log(SCALE_MIN))
