"""The encoder's choice of symbols: scalar with a dead zone, or the best path through the trellis.

The path of least cost is found by the Viterbi algorithm in all lanes at once. The cost of a symbol is the bits that the
tables charge plus `WEIGHT` times the squared distance, in steps, to the mean of the values that become this symbol.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.quality import STEP_CONSTANT
from ldcodec.entropy.integer import LATENT_BITS
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import SKIPPED_SCALES, SYMBOL_LIMIT, edge_shifts
from ldcodec.entropy.trellis import (
    EVEN,
    FIRST_SCALE,
    LARGEST_MOMENT,
    ROWS,
    STATES,
    STEP,
    Lanes,
    Quantised,
    following,
    reconstructed,
)

# Bits that a squared error of one step weighs. By the slope of rate and distortion it would be a third of STEP_CONSTANT
# (nets.quantise), but errors also mislead the prediction of other elements; measured in docs/experiments.md.
WEIGHT = 1.3 * STEP_CONSTANT / 3
PRICED = 2048  # |k| from here on is priced as the last one below
WIDEST = 0.95  # shift of a dead zone: at 1 a symbol could no longer be said
GRID = 1024.0  # bits are multiples of 1/1024, so that every machine compares the same costs
HALF = STATES // 2

Floats = NDArray[np.float32]
CLASSES = [(quantiser, parity) for quantiser in (0, 1) for parity in (0, 1)]


class Prices(NamedTuple):
    """Bits of each |k| with its sign, and where the values that become it are, in steps: float32 [ROWS, 2, PRICED]."""

    bits: Floats
    centre: Floats


def chosen(
    values: NDArray[np.float64], index: NDArray[np.uint8], coder: Coder, weights: Floats | None = None
) -> Quantised:
    """Choose symbols for values in steps from their means, [n], given the scale index of each.

    With tables of a trellis, all but small scales are coded by it. weights: of the squared errors, [n], 1 on average.
    """
    weights = np.ones(len(values), np.float32) if weights is None else weights
    symbols, kind = np.zeros(values.shape, np.int32), np.zeros(values.shape, np.uint8)
    plain = index >= SKIPPED_SCALES
    if coder.trellis is not None:
        path = index >= FIRST_SCALE
        plain &= ~path
        symbols[path], kind[path] = best_path(values[path], index[path], coder, weights[path])
    symbols[plain] = np.clip(rounded(values[plain], index[plain], weights[plain]), -SYMBOL_LIMIT, SYMBOL_LIMIT)
    return Quantised(symbols, kind)


def rounded(
    values: NDArray[np.float64], index: NDArray[np.uint8], weights: Floats | float = 1.0
) -> NDArray[np.float64]:
    """The symbols of the scalar quantiser with its dead zone, as `nets.quantise.quantise` chooses them in training.

    The zone is wider where errors weigh less, up to the next symbol.
    """
    nearest, shifts = np.rint(values), edge_shifts()
    magnitude = np.abs(nearest)
    shift = shifts[index, np.minimum(magnitude, shifts.shape[1] - 1).astype(np.intp)]
    shift = np.minimum(shift / weights, WIDEST)
    symbols: NDArray[np.float64] = nearest - np.sign(nearest) * (np.abs(values) < magnitude - 0.5 + shift)
    return symbols


def best_path(
    values: NDArray[np.float64], scale: NDArray[np.uint8], coder: Coder, weights: Floats | None = None
) -> Quantised:
    """The symbols of least cost for values in steps from their means, [n], given the scale index of each.

    weights: of the squared errors, [n], or None for 1.
    """
    magnitude = np.abs(values).astype(np.float32)
    weight = np.float32(WEIGHT) * (np.ones_like(magnitude) if weights is None else weights)
    cost, symbols = _classes(magnitude, scale.astype(np.intp) - FIRST_SCALE, prices(coder), weight)
    taken = _walk(cost)
    best = np.take_along_axis(symbols, taken[None], 0)[0]
    signed = np.where(values < 0, -best, best)
    return Quantised(signed.astype(np.int32), (EVEN + (taken >> 1)).astype(np.uint8))


def _classes(
    magnitude: Floats, row: NDArray[np.intp], tables: Prices, weights: Floats
) -> tuple[Floats, NDArray[np.int32]]:
    """For each class, the smaller cost of the two nearest symbols, and that symbol: [4, n] each."""
    steps = magnitude * np.float32(2.0**LATENT_BITS / STEP)
    costs, symbols = np.empty((4, len(row)), np.float32), np.empty((4, len(row)), np.int32)
    for number, (quantiser, parity) in enumerate(CLASSES):
        # Symbols 2j + parity mean 4j + 2·parity − quantiser steps of Δ, but for zero.
        below = np.floor((steps + np.float32(quantiser - 2 * parity)) * np.float32(0.25))
        near = np.clip(2 * below.astype(np.int32) + parity, parity, SYMBOL_LIMIT - 3 + parity)
        first, second = (_cost(magnitude, row, quantiser, k, tables, weights) for k in (near, near + 2))
        costs[number] = np.minimum(first, second)
        symbols[number] = np.where(second < first, near + 2, near)
    return costs, symbols


def _cost(
    magnitude: Floats, row: NDArray[np.intp], quantiser: int, k: NDArray[np.int32], tables: Prices, weights: Floats
) -> Floats:
    entry = (2 * row + quantiser) * PRICED + np.minimum(k, PRICED - 1)
    beyond = k >= PRICED
    error = magnitude - tables.centre.ravel()[entry]
    if beyond.any():
        error[beyond] = magnitude[beyond] - _meaning(k[beyond], quantiser)
    error *= error
    error *= weights
    error += tables.bits.ravel()[entry]
    return error


def _walk(costs: Floats) -> NDArray[np.intp]:
    """The classes on the path of least cost from state 0 in each lane, [n]; costs: of each class, [4, n]."""
    before, lanes = _predecessors(), Lanes(costs.shape[1])
    total = np.full((STATES, lanes.number), np.inf, np.float32)
    total[0] = 0
    even, odd = np.empty_like(total), np.empty_like(total)
    decisions = np.empty((lanes.length, *total.shape), np.bool_)
    # Beyond the end of a lane all costs are 0: the paths go on, but the least one stays the same.
    for here, decision in zip(lanes.split(costs), decisions, strict=True):
        for parity, reached in enumerate((even, odd)):
            np.take(total, before[parity], 0, out=reached, mode="clip")
            reached[:HALF] += here[parity]
            reached[HALF:] += here[2 + parity]
        np.less(odd, even, out=decision)
        np.minimum(even, odd, out=total)
    state, every = total.argmin(0), np.arange(lanes.number)
    taken = np.empty((lanes.length, lanes.number), np.intp)
    for position in reversed(range(lanes.length)):
        parity = decisions[position, state, every].astype(np.intp)
        taken[position] = 2 * (state >= HALF) + parity
        state = before[parity, state]
    return lanes.joined(taken)


@lru_cache
def _predecessors() -> NDArray[np.intp]:
    """The states from which each state is reached by an even symbol, and by an odd one: [2, STATES].

    States of the first half are reached from those of quantiser 0, the others from those of quantiser 1.
    """
    states = np.arange(STATES)
    return np.stack([np.argsort(following(states, np.full(STATES, parity))) for parity in (0, 1)])


def _meaning(k: NDArray[np.int32], quantiser: int) -> Floats:
    """What |k| means in steps."""
    kind = np.full(k.shape, EVEN + quantiser, np.uint8)
    return (reconstructed(k, kind) * 2.0**-LATENT_BITS).astype(np.float32)


@lru_cache(maxsize=4)
def prices(coder: Coder) -> Prices:
    """The prices of a model with a trellis."""
    k, shape = np.arange(PRICED, dtype=np.int32), (ROWS, PRICED)
    index = np.broadcast_to(FIRST_SCALE + np.arange(ROWS, dtype=np.uint8)[:, None], shape)
    trellis, bits, centre = coder.trellis, [], []
    if trellis is None:
        raise ValueError("the model has no trellis")
    for quantiser in (0, 1):
        listed = Quantised(np.broadcast_to(k, shape), np.full(shape, EVEN + quantiser, np.uint8))
        bits.append(np.rint(coder.latent_bits(listed, index) * GRID) / GRID)
        centre.append(_meaning(k, quantiser) - trellis.inwards[:, quantiser, np.minimum(k, LARGEST_MOMENT)])
    return Prices(*(np.stack(part, 1).astype(np.float32) for part in (bits, centre)))
