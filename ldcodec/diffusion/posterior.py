"""The posterior of a latent given its symbol: mean and deviation of a Gaussian truncated to the symbol's cell.

That holds for the scalar quantiser. The values that a trellis turns into a symbol are no interval; their moments are
counted and stored with the model.

Both depend on the symbol's magnitude and its scale index only. The textbook formulas subtract nearly equal numbers if
the cell is narrow compared with the scale, and divide zero by zero far out in the tail. So they are used for the cell
around zero only, which holds about 19 of 20 latents at usual rates. Other cells are integrated by Gauss–Legendre
quadrature from their inner edge, where every term is positive. Everything is computed in float64 and in NumPy, so that
decoding needs no torch.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.integer import LATENT_BITS, Parsed
from ldcodec.entropy.tables import SCALE_COUNT, SCALES, cell_edges
from ldcodec.entropy.trellis import KINDS, SCALAR, Quantised, TrellisTables

TAIL = 20.0  # the density is integrated until it has fallen by e⁻²⁰; the rest changes d by less than a millionth
FARTHEST = 255  # largest |s| in `moment_table`: beyond it, means of symbols within 8σ differ by less than 0.006 steps
GRAIN_STEP = 2**32 - 1  # the step whose noise becomes grain: no sampler takes that many

Floats = NDArray[np.float64]
Array = Any  # float32, of NumPy or PyTorch
A = TypeVar("A")


@dataclass(frozen=True)
class Condition(Generic[A]):
    """The condition of the reverse diffusion: what the decoder knows of each latent element, in quantisation steps.

    centre: the centroid μ + m; deviation: d > 0 around it; scale: σ > 0 of the rate model; all float32 [B, M, h, w].
    quality: t in 0..1, [B].
    """

    centre: A
    deviation: A
    scale: A
    quality: A


@dataclass(frozen=True)
class Known:
    """The part of a `Condition` that depends on the symbols, for one latent and in NumPy: each float32 [M, h, w]."""

    centre: NDArray[np.float32]
    deviation: NDArray[np.float32]
    scale: NDArray[np.float32]


def known_of(parsed: Parsed, trellis: TrellisTables | None = None) -> Known:
    """The posterior of each element of a parsed latent. trellis: the tables of its model."""
    centre = parsed.mean.astype(np.float32)
    centre *= np.float32(2.0**-LATENT_BITS)
    offset, deviation = moments_of(Quantised(parsed.symbols, parsed.kind), parsed.index, trellis)
    centre += offset
    return Known(centre, deviation, np.array(SCALES, np.float32)[parsed.index])


def moments_of(
    quantised: Quantised, index: NDArray[np.uint8], trellis: TrellisTables | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of the values that become each symbol, measured from the Gaussian's mean, in steps.

    index: scale indices, of the symbols' shape.
    """
    # Each case of magnitude, kind and scale that occurs is computed once: a picture has a few hundred of them.
    cases = (np.abs(quantised.symbols) * KINDS + quantised.kind) * SCALE_COUNT + index
    seen = np.zeros(int(cases.max(initial=0)) + 1, np.bool_)
    seen[cases] = True
    places = seen.nonzero()[0]
    kinds, scale = np.divmod(places, SCALE_COUNT)
    magnitude, kind = np.divmod(kinds, KINDS)
    offsets, deviations = np.zeros((2, len(seen)), np.float32)
    plain = kind == SCALAR
    offsets[places[plain]], deviations[places[plain]] = moments(magnitude[plain], scale[plain])
    if trellis is not None:
        path = places[~plain]
        offsets[path], deviations[path] = trellis.moments(magnitude[~plain], scale[~plain], kind[~plain])
    signed: NDArray[np.float32] = np.sign(quantised.symbols) * offsets[cases]
    return signed, deviations[cases]


@lru_cache
def moment_table() -> NDArray[np.float32]:
    """The moments of |s| = 0 … FARTHEST under each scale: float32 [2, 64, FARTHEST + 1].

    Row 0 is how far the mean lies inwards of |s|, row 1 the deviation. For the encoder and training, which need the
    same pairs again and again.
    """
    index, magnitude = np.indices((SCALE_COUNT, FARTHEST + 1)).reshape(2, -1)
    mean, deviation = moments(magnitude, index)
    return np.array([magnitude - mean, deviation], np.float32).reshape(2, SCALE_COUNT, FARTHEST + 1)


def moments(magnitude: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of |r|, r ~ N(0, σ²) truncated to the cell of |s|: each [n], accurate to about 1e-6.

    For |s| = 0 they are the moments of r itself, whose mean is 0.
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
    """Standard deviation of N(0, scale²) truncated to [−edge, edge].

    d² = σ²·(1 − √(2/π)·h·exp(−h²/2) / erf(h/√2)), h = edge/σ (Johnson, Kotz and Balakrishnan 1994, section 13.10.1).
    """
    k = edge / scale * math.sqrt(0.5)  # h/√2
    return scale * math.sqrt(1 - 2 / math.sqrt(math.pi) * k * math.exp(-k * k) / math.erf(k))


def _edge(edge: Floats, width: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the distance y in 0..width from the inner edge of a cell, edge ≥ ½.

    The density falls as exp(−βy − y²/2σ²), β = edge/σ². It is integrated from 0 to the width, or to the y at which the
    exponent reaches −TAIL if that is nearer.
    """
    slope, bend = edge / scale**2, 0.5 / scale**2
    # The root of bend·y² + slope·y = TAIL, in the form without cancellation.
    length = np.minimum(2 * TAIL / (slope + np.sqrt(slope**2 + 4 * TAIL * bend)), width)
    nodes, weights = _quadrature()
    y = (1 + nodes) / 2  # the nodes moved to 0..1; the constant weight cancels in the ratios
    density = weights * np.exp(-slope * length * y - bend * length**2 * y**2)
    total = density.sum(0)
    mean = (density * y).sum(0) / total
    return length * mean, length * np.sqrt((density * y**2).sum(0) / total - mean**2)


@lru_cache
def _quadrature() -> tuple[Floats, Floats]:
    """Nodes and weights on −1..1, [12, 1] each. Pictures of a trellis need none, and to find them takes 3 ms."""
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(12)
    return nodes[:, None], weights[:, None]


def grained(latent: Array, known: Condition[Array], noise: Array, grain: int) -> Array:
    """Add the noise from which the second synthesis makes texture to a restored latent in steps, [B, M, h, w].

    noise: standard normal, [B, M, h, w]; grain: hundredths, 0..4096, from the model's configuration.

    A latent of deviation σ that its symbol leaves uncertain by d has lost energy, which noise replaces. Transport from
    the estimate of least error needs less noise the narrower the cell (Freirich et al. 2021, arXiv 2107.02555): the
    factor d²/σ² falls from 1, where a zero in a wide cell says nothing, towards 0.
    """
    share = known.deviation / known.scale
    share *= share
    return latent + grain / 100 * known.deviation * share * noise
