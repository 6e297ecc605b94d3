"""Tables of the trellis: design by iteration on pictures.

Choosing symbols needs tables, and tables are counted from chosen symbols. As in the design of entropy-constrained
quantisers (Chou, Lookabaugh and Gray 1989), the encoder codes pictures with one set of tables and counts the next. The
first set is that of ideal Gaussians.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec.bitstream import layout
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.encoder.viterbi import chosen
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.integer import LATENT_BITS, Prior
from ldcodec.entropy.tables import PRECISION, SCALE_SPREAD, SCALES, TABLE_REACH, Tables, spread_scales
from ldcodec.entropy.trellis import (
    EVEN,
    FIRST_SCALE,
    LARGEST_MOMENT,
    MOMENT_BITS,
    ROWS,
    SCALAR,
    STEP,
    Quantised,
    TrellisTables,
)
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Pixels
from ldcodec.training.counting import middle

ROUNDS = (0.1,) * 6 + (1.0,) * 2  # the share of the pictures that each round codes
BANDS = 4  # of quality, in each of which a picture is coded once a round
LARGEST = 1535  # |k| that is counted; beyond it the escape of any table
CONFIDENCE = 200.0  # symbols that the ideal Gaussian weighs as much as, in the tables of one scale and quantiser
MOMENT_CONFIDENCE = 50.0  # values that the expectation weighs as much as, in the moments of one symbol
DELTA = STEP * 2.0**-LATENT_BITS
FIRST_DEVIATION = 0.55 * DELTA  # of the values that become a symbol, before any are known

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """How often |k| was chosen, and the sums of the values with the sign of k and of their squares: [ROWS, 2, 1536]."""

    count: Floats
    value: Floats
    square: Floats

    def add(self, values: Floats, row: NDArray[np.intp], quantised: Quantised) -> None:
        """Add symbols of a trellis, given the values in steps from the means, and the rows of their scales: all [n]."""
        place = row, quantised.kind.astype(np.intp) - EVEN, np.minimum(np.abs(quantised.symbols), LARGEST)
        outwards = values * np.sign(quantised.symbols)
        for total, amount in ((self.count, 1.0), (self.value, outwards), (self.square, values**2)):
            np.add.at(total, place, amount)


def designed(model: Model, pictures: Sequence[Pixels], seed: int = 0) -> TrellisTables:
    """Tables of the trellis for a model in evaluation mode, which may have others."""
    encoders = [PictureEncoder(middle(pixels), model) for pixels in pictures]
    tables = first_tables()
    for share in ROUNDS:
        coder = replace(model.coder, trellis=tables)
        number = max(1, round(share * len(encoders)))
        sums = Sums(*np.zeros((3, *_shape())))
        rng = np.random.default_rng(seed)  # the same qualities in every round
        for encoder in encoders[:: len(encoders) // number][:number]:
            for band in range(BANDS):
                _count(
                    encoder,
                    replace(model, coders={model.parse_id: coder}),
                    int((band + rng.random()) / BANDS * TOP_INDEX),
                    sums,
                )
        tables = _tables(sums)
    return tables


def first_tables() -> TrellisTables:
    """The tables that suit ideal Gaussians."""
    return _tables(Sums(*np.zeros((3, *_shape()))))


def trellis_tensors(tables: TrellisTables) -> dict[str, Tensor]:
    """The entries `trellis.*` and `moments.*` of a model file."""
    moments = {
        name: torch.from_numpy(np.rint(values * 2.0**MOMENT_BITS).astype(np.int16))
        for name, values in (("moments.inwards", tables.inwards), ("moments.deviation", tables.deviation))
    }
    counts = {"odd": tables.odd, "counts": tables.halves.counts, "reach": tables.halves.reach}
    return {f"trellis.{name}": torch.from_numpy(array).int() for name, array in counts.items()} | moments


def _shape() -> tuple[int, int, int]:
    return ROWS, 2, LARGEST + 1


def _count(encoder: PictureEncoder, model: Model, index: int, sums: Sums) -> None:
    """Code a picture at a quality index and count its symbols."""
    latents = encoder.latents(index)

    def choose(prior: Prior) -> Quantised:
        values = latents.centred(prior)
        quantised = chosen(values, prior.index, model.coder)
        path = quantised.kind != SCALAR
        row = prior.index[path].astype(np.intp) - FIRST_SCALE
        sums.add(values[path], row, Quantised(quantised.symbols[path], quantised.kind[path]))
        return quantised

    model.integers.parse(latents.hyper, index, layout.coded_size(encoder.width, encoder.height), choose)


def _tables(sums: Sums) -> TrellisTables:
    chances = sums.count + CONFIDENCE * _ideal()
    chances /= chances.sum(2, keepdims=True)
    odd = np.rint(chances[:, :, 1::2].sum(2) * 2.0**PRECISION).clip(1, 2.0**PRECISION - 1).astype(np.int64)
    halves = [
        _half(chances[row, quantiser], parity, _reach(row))
        for row in range(ROWS)
        for quantiser in (0, 1)
        for parity in (0, 1)
    ]
    tables = Tables(np.concatenate(halves), np.array([len(half) - 2 for half in halves]))
    return TrellisTables(odd, tables, *_moments(sums))


def _reach(row: int) -> int:
    """The largest (|k| + parity) / 2 in the tables of a scale, at which |k| means about 4Δ times as much."""
    return max(2, math.ceil(TABLE_REACH * SCALES[FIRST_SCALE + row] / (4 * DELTA)))


def _half(chances: Floats, parity: int, reach: int) -> NDArray[np.int64]:
    """The counts of (|k| + parity) / 2 = 0 … reach, one sign of each, and of the escape symbol, from those of |k|."""
    own = np.concatenate([[0.0], chances[1::2]]) if parity else chances[::2]
    own = own / own.sum()
    free = (1 << PRECISION) - 2 * reach - 2  # every entry gets a count of 1, so that no symbol is impossible
    outer = 1 + (free * own[1 : reach + 1] / 2).astype(np.int64)
    escape = 1 + int(free * own[reach + 1 :].sum())
    return np.concatenate([[(1 << PRECISION) - escape - 2 * outer.sum()], outer, [escape]])


def _meanings() -> Floats:
    """What |k| means under each quantiser, in steps: [2, 1536]."""
    k = np.arange(LARGEST + 1)
    return DELTA * np.stack([2 * k, 2 * k - (k > 0)])


@lru_cache
def _ideal() -> Floats:
    """The chance of each |k| if a Gaussian of uncertain σ is rounded to what the quantiser can say: [ROWS, 2, 1536]."""
    edges = np.pad((_meanings()[:, 1:] + _meanings()[:, :-1]) / 2, ((0, 0), (1, 0)))  # the inner one of each |k|
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    beyond = np.zeros(_shape())
    for share, factor in spread_scales(SCALE_SPREAD):
        scale = np.array(SCALES[FIRST_SCALE:])[:, None, None] * factor
        beyond += share * erfc(edges / (scale * math.sqrt(2)))
    chances: Floats = beyond - np.pad(beyond[:, :, 1:], ((0, 0), (0, 0), (0, 1)))
    return chances


def _moments(sums: Sums) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How far the mean of each symbol's values lies inwards of its meaning, and their deviation: [ROWS, 2, 64]."""
    kept = np.s_[:, :, : LARGEST_MOMENT + 1]
    count, value, square = sums.count[kept], sums.value[kept], sums.square[kept]
    meaning, scale = _meanings()[None, :, : LARGEST_MOMENT + 1], np.array(SCALES[FIRST_SCALE:])[:, None, None]
    expected = np.full(count.shape, FIRST_DEVIATION**2)
    expected[:, :, 0] = np.minimum(scale[:, :, 0] ** 2, DELTA**2 / 2)
    # Where the density of a Gaussian falls, the mean lies inwards by the variance times the slope of its logarithm.
    centre = (value + MOMENT_CONFIDENCE * meaning * (1 - np.minimum(expected / scale**2, 0.5))) / (
        count + MOMENT_CONFIDENCE
    )
    centre[:, :, 0] = 0
    spread = square - 2 * centre * value + count * centre**2  # about the centre, summed
    variance = (spread + MOMENT_CONFIDENCE * expected) / (count + MOMENT_CONFIDENCE)
    inwards = np.clip(meaning - centre, -1, 1)  # stored with 14 fractional bits in 16
    return inwards.astype(np.float32), np.sqrt(np.clip(variance, 1e-4, 2)).astype(np.float32)
