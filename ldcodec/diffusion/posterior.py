"""What a decoded symbol says about the latent behind it: mean and deviation of a Gaussian cut to one cell.

Both moments are integrals over a cell of width 1. The textbook formulas subtract nearly equal numbers when the cell is
narrow beside the scale, and divide zero by zero in far tails. So only the cell around zero, about 19 of 20 latents at
usual rates, is done in closed form; the others by Gauss-Legendre quadrature measured from the inner edge, where every
term is positive.
"""

import math

import numpy as np
import torch
from torch import Tensor

NODES, WEIGHTS = (array.tolist() for array in np.polynomial.legendre.leggauss(12))
REACH = 20.0  # the density is followed until it has fallen by e⁻²⁰; the rest changes d by less than a millionth
BLOCK = 16384  # elements at a time: the temporaries then stay in the cache


@torch.no_grad()
def truncated_moments(symbol: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean m and standard deviation d of r ~ N(0, scale²) restricted to [symbol − ½, symbol + ½].

    symbol: whole numbers, |symbol| ≤ 32767; scale: 0.01 … 1e4, the same shape; both in quantisation steps.
    Returns float32 tensors of that shape, |m − symbol| ≤ ½ and 0 < d ≤ 1/√12, exact to a few 1e-7. No gradient.
    """
    mean, scales = symbol.float().flatten().clone(), scale.float().flatten()
    deviation = centre_deviation(scales)
    for coded in torch.split(mean.nonzero()[:, 0], BLOCK):
        s = mean[coded]
        offset, deviation[coded] = edge_moments(s.abs() - 0.5, scales[coded])
        mean[coded] = s + (offset - 0.5) * s.sign()
    return mean.view(symbol.shape), deviation.view(symbol.shape)


def centre_deviation(scale: Tensor) -> Tensor:
    """Standard deviation of N(0, scale²) restricted to [−½, ½], float32 of any shape.

    d² = σ²·(1 − √(2/π)·h·exp(−h²/2) / erf(h/√2)) with h = 1/(2σ) (Johnson, Kotz and Balakrishnan 1994,
    section 13.10.1). In float64, because the difference is only h²/3 where the scale is wide.
    """
    variance = scale.new_empty(scale.shape)
    for out, part in zip(torch.split(variance, BLOCK), torch.split(scale, BLOCK), strict=True):
        wide = part.double()
        k = math.sqrt(0.125) / wide  # h/√2
        out.copy_(1 - (2 / math.sqrt(math.pi)) * k * torch.exp(-k * k) / torch.erf(k))
        out.mul_(part * part)
    return variance.sqrt_()


def edge_moments(edge: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the distance y in 0..1 from the inner edge of a cell that lies at edge ≥ ½.

    The density falls as exp(−βy − y²/2σ²), β = edge/σ²; it is integrated up to where the exponent is −REACH, or to 1.
    """
    slope, bend = edge / scale.square(), 0.5 / scale.square()
    length = (2 * REACH / (slope + (slope.square() + 4 * REACH * bend).sqrt())).clamp_(max=1)
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
