"""What a decoded symbol says about the latent behind it: mean and deviation of a Gaussian cut to one cell.

Both moments are integrals over a cell of width 1. The textbook formulas subtract nearly equal numbers when the cell is
narrow beside the scale, and divide zero by zero in far tails. So only the cell around zero, about 19 of 20 latents at
usual rates, is done in closed form; the others by Gauss-Legendre quadrature measured from the inner edge, where every
term is positive. This form takes any scale, on any device; what a file says of its latents is in `moments`.
"""

import math

import torch
from torch import Tensor

from ldcodec.diffusion.posterior import NODES, REACH, WEIGHTS
from ldcodec.nets.quantise import Cell

BLOCK = 16384  # elements at a time: the temporaries then stay in the cache


@torch.no_grad()
def truncated_moments(symbol: Tensor, scale: Tensor, cell: Cell | None = None) -> tuple[Tensor, Tensor]:
    """Mean m and standard deviation d of r ~ N(0, scale²) restricted to the cell of a symbol.

    symbol: whole numbers, |symbol| ≤ 32767; scale: 0.01 … 1e4, the same shape; both in quantisation steps. cell:
    inner and outer
    magnitude of r, that of rounding, |symbol| ∓ ½, if not given; ½ ≤ outer ≤ 1 where symbol is 0, outer − inner ≤
    1.5 elsewhere.
    Returns float32 tensors of that shape, m inside the cell and d > 0, to about 1e-6 of 1 and of d. No gradient.
    """
    mean, scales = symbol.float().flatten().clone(), scale.float().flatten()
    known = cell or Cell((mean.abs() - 0.5).clamp_(min=0), mean.abs() + 0.5)
    inner, outer = known.inner.float().flatten(), known.outer.float().flatten()
    deviation = centre_deviation(scales, outer)
    for coded in torch.split(mean.nonzero()[:, 0], block_of(mean)):
        near = inner[coded]
        offset, deviation[coded] = edge_moments(near, outer[coded] - near, scales[coded])
        mean[coded] = (near + offset) * mean[coded].sign()
    return mean.view(symbol.shape), deviation.view(symbol.shape)


def block_of(values: Tensor) -> int:
    """How many elements to work on at a time: on a GPU, where each call costs more than the memory, all of them."""
    return BLOCK if values.device.type == "cpu" else max(1, values.numel())


def centre_deviation(scale: Tensor, edge: Tensor) -> Tensor:
    """Standard deviation of N(0, scale²) restricted to [−edge, edge], float32 of any shape.

    d² = σ²·(1 − √(2/π)·h·exp(−h²/2) / erf(h/√2)) with h = edge/σ (Johnson, Kotz and Balakrishnan 1994, section
    13.10.1).
    In float64, because the difference is only h²/3 where the scale is wide.
    """
    variance = scale.new_empty(scale.shape)
    for out, part, end in zip(*(torch.split(x, block_of(scale)) for x in (variance, scale, edge)), strict=True):
        k = end.double().div_(part).mul_(math.sqrt(0.5))  # h/√2
        out.copy_(1 - (2 / math.sqrt(math.pi)) * k * torch.exp(-k * k) / torch.erf(k))
        out.mul_(part * part)
    return variance.sqrt_()


def edge_moments(edge: Tensor, width: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the distance y in 0..width from the inner edge of a cell that lies at edge ≥ ½.

    The density falls as exp(−βy − y²/2σ²), β = edge/σ²; it is integrated over 0 … min(width, the y where the exponent
    is −REACH).
    """
    slope, bend = edge / scale.square(), 0.5 / scale.square()
    length = (2 * REACH / (slope + (slope.square() + 4 * REACH * bend).sqrt())).minimum(width)
    slope, bend = -slope * length, -bend * length.square()
    total, first, second = torch.zeros_like(edge), torch.zeros_like(edge), torch.zeros_like(edge)
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        y = (1 + node) / 2
        density = (slope * y).add_(bend, alpha=y * y).exp_()
        total.add_(density, alpha=weight)
        first.add_(density, alpha=weight * y)
        second.add_(density, alpha=weight * y * y)
    mean = first.div_(total)
    variance = second.div_(total) - mean.square()
    return length * mean, length * variance.sqrt_()
