"""What the symbols of a file say of the latents behind them, without torch: see `posterior` for the moments.

They depend on the symbol's magnitude and the scale index alone, so each pair that occurs is computed once, in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.cells import edges
from ldcodec.entropy.integer import LATENT_BITS, Parsed
from ldcodec.entropy.tables import SCALE_COUNT, SCALES

NODES, WEIGHTS = (array.tolist() for array in np.polynomial.legendre.leggauss(12))
REACH = 20.0  # the density is followed until it has fallen by e⁻²⁰; the rest changes d by less than a millionth

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """Centroid, deviation > 0 around it and scale σ of each latent, in quantisation steps: float32 [M, h, w]."""

    centre: NDArray[np.float32]
    deviation: NDArray[np.float32]
    scale: NDArray[np.float32]


def known_of(parsed: Parsed) -> Known:
    """What a parsed latent says of each element."""
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


def moments(magnitude: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and deviation of |r| for r ~ N(0, σ²) in the cell of |s| under a scale index, [n] each; where |s| is 0, of r
    itself, whose mean is 0.
    """
    inner, outer = edges(magnitude, index)
    scale = np.array(SCALES)[index]
    zero, mean, deviation = magnitude == 0, np.zeros(len(scale)), np.empty(len(scale))
    deviation[zero] = [_centre(*pair) for pair in zip(scale[zero].tolist(), outer[zero].tolist(), strict=True)]
    near = inner[~zero]
    offset, deviation[~zero] = _edge(near, outer[~zero] - near, scale[~zero])
    mean[~zero] = near + offset
    return mean, deviation


def _centre(scale: float, edge: float) -> float:
    """As `posterior.centre_deviation`."""
    k = edge / scale * math.sqrt(0.5)
    return scale * math.sqrt(1 - 2 / math.sqrt(math.pi) * k * math.exp(-k * k) / math.erf(k))


def _edge(edge: Floats, width: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """As `posterior.edge_moments`."""
    slope, bend = edge / scale**2, 0.5 / scale**2
    length = np.minimum(2 * REACH / (slope + np.sqrt(slope**2 + 4 * REACH * bend)), width)
    y = (1 + np.array(NODES)[:, None]) / 2
    density = np.array(WEIGHTS)[:, None] * np.exp(-slope * length * y - bend * length**2 * y**2)
    total = density.sum(0)
    mean = (density * y).sum(0) / total
    return length * mean, length * np.sqrt((density * y**2).sum(0) / total - mean**2)
