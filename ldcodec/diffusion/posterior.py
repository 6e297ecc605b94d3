"""What a decoded symbol says about the latent behind it: mean and deviation of a Gaussian cut to one cell.

Both depend only on the symbol's magnitude and its scale index. The textbook formulas subtract nearly equal numbers
where the cell is narrow beside the scale, and divide zero by zero in far tails. So only the cell around zero, about 19
of 20 latents at usual rates, is done in closed form; the others by Gauss–Legendre quadrature measured from the inner
edge, where every term is positive. All in float64, in NumPy, so that decoding needs no torch.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.integer import LATENT_BITS, Parsed
from ldcodec.entropy.tables import SCALE_COUNT, SCALES, cell_edges

NODES, WEIGHTS = (array.tolist() for array in np.polynomial.legendre.leggauss(12))
REACH = 20.0  # the density is followed until it has fallen by e⁻²⁰; the rest changes d by less than a millionth
FARTHEST = 255  # of `moment_table`; beyond it means of symbols within 8σ differ by less than 0.006 steps
GRAIN_STEP = 2**32 - 1  # of the counter-based noise: no sampler takes as many

Floats = NDArray[np.float64]
Array = Any  # float32, of NumPy or PyTorch
A = TypeVar("A")


@dataclass(frozen=True)
class Condition(Generic[A]):
    """What the decoder knows of each latent, in quantisation steps.

    centre: μ + m, the centroid; deviation: d > 0 around it; scale: σ > 0 of the rate model; all [B, M, h, w] float32.
    quality: t in 0..1, [B].
    """

    centre: A
    deviation: A
    scale: A
    quality: A


@dataclass(frozen=True)
class Known:
    """Centroid, deviation > 0 around it and scale σ of each latent, in quantisation steps: float32 [M, h, w]."""

    centre: NDArray[np.float32]
    deviation: NDArray[np.float32]
    scale: NDArray[np.float32]


def known_of(parsed: Parsed) -> Known:
    """What a parsed latent says about each element; each pair of magnitude and scale that occurs is computed once."""
    pairs = np.abs(parsed.symbols) * SCALE_COUNT + parsed.index
    seen = np.zeros(int(pairs.max(initial=0)) + 1, np.bool_)
    seen[pairs] = True
    places = seen.nonzero()[0]
    offsets, deviations = np.zeros((2, len(seen)), np.float32)
    offsets[places], deviations[places] = moments(*np.divmod(places, SCALE_COUNT))
    centre = parsed.mean.astype(np.float32)
    centre *= np.float32(2.0**-LATENT_BITS)
    centre += np.sign(parsed.symbols) * offsets[pairs]
    return Known(centre, deviations[pairs], np.array(SCALES, np.float32)[parsed.index])


@lru_cache
def moment_table() -> NDArray[np.float32]:
    """How far the mean lies inwards of |s| = 0 … FARTHEST, and the deviation, under each scale: [2, 64, FARTHEST + 1].

    For encoder and training, which meet the same few pairs again and again.
    """
    index, magnitude = np.indices((SCALE_COUNT, FARTHEST + 1)).reshape(2, -1)
    mean, deviation = moments(magnitude, index)
    return np.array([magnitude - mean, deviation], np.float32).reshape(2, SCALE_COUNT, FARTHEST + 1)


def moments(magnitude: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and deviation of |r| for r ~ N(0, σ²) in the cell of |s| under a scale index, [n] each, to about 1e-6.

    Where |s| is 0 they are those of r itself, whose mean is 0.
    """
    inner, outer = cell_edges(magnitude, index)
    scale = np.array(SCALES)[index]
    zero, mean, deviation = magnitude == 0, np.zeros(len(scale)), np.empty(len(scale))
    deviation[zero] = [_centre(*pair) for pair in zip(scale[zero].tolist(), outer[zero].tolist(), strict=True)]
    near = inner[~zero]
    offset, deviation[~zero] = _edge(near, outer[~zero] - near, scale[~zero])
    mean[~zero] = near + offset
    return mean, deviation


def _centre(scale: float, edge: float) -> float:
    """Standard deviation of N(0, scale²) restricted to [−edge, edge].

    d² = σ²·(1 − √(2/π)·h·exp(−h²/2) / erf(h/√2)) with h = edge/σ (Johnson, Kotz and Balakrishnan 1994, section
    13.10.1).
    """
    k = edge / scale * math.sqrt(0.5)  # h/√2
    return scale * math.sqrt(1 - 2 / math.sqrt(math.pi) * k * math.exp(-k * k) / math.erf(k))


def _edge(edge: Floats, width: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the distance y in 0..width from the inner edge of a cell that begins at edge ≥ ½.

    The density falls as exp(−βy − y²/2σ²), β = edge/σ². It is integrated from 0 to the width, or to the y where the
    exponent is −REACH if that comes first.
    """
    slope, bend = edge / scale**2, 0.5 / scale**2
    length = np.minimum(2 * REACH / (slope + np.sqrt(slope**2 + 4 * REACH * bend)), width)
    y = (1 + np.array(NODES)[:, None]) / 2
    density = np.array(WEIGHTS)[:, None] * np.exp(-slope * length * y - bend * length**2 * y**2)
    total = density.sum(0)
    mean = (density * y).sum(0) / total
    return length * mean, length * np.sqrt((density * y**2).sum(0) / total - mean**2)


def grained(latent: Array, known: Condition[Array], noise: Array, grain: int) -> Array:
    """A restored latent in steps with noise, [B, M, h, w]: what the second synthesis makes texture from.

    noise: standard normal, [B, M, h, w]; grain: hundredths, 0..4096, as in the model's configuration. A latent of
    deviation σ of which a symbol leaves d open needs noise for what is lost of its energy, and transport from the
    estimate of least error needs less of it the narrower the cell (Freirich et al. 2021, arXiv 2107.02555). The factor
    d²/σ² falls from 1, where the symbol is a zero of a wide cell, to nothing.
    """
    share = known.deviation / known.scale
    share *= share
    return latent + grain / 100 * known.deviation * share * noise
