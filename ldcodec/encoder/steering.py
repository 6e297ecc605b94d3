"""Codes a slice in a given number of bits: the weight of errors follows what the context steps have taken so far.

A lower weight makes the encoder choose cheaper and coarser symbols. To move the bits of a file by six per cent costs
less than one per cent of them at equal PSNR (docs/experiments.md), and far less time than to code it again.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import quality
from ldcodec.encoder.interface import Floats
from ldcodec.encoder.viterbi import chosen
from ldcodec.entropy.rangecoder import STATE_BITS, Coder
from ldcodec.entropy.trellis import Quantised

# Shares of a latent's bits that its context steps take, at the lowest and the highest quality: straight lines through
# the means of 26 validation pictures. The shares of a picture deviate from these by 3 to 7 %.
SHARES = (0.322, 0.276, 0.199, 0.203), (0.263, 0.249, 0.246, 0.242)
ELASTICITY = 0.25  # of the bits by the weight; 0.15 at high rates, 0.4 at low ones
WIDEST = 1.5  # times the weight, or as little
HOPELESS = 0.3  # off in the logarithm of a step's bits: then the slice is coded as it comes
REACH = 0.11, 0.06  # off in the logarithm of the bits, from where on another index is better; as `SHARES`
LOOSE = 0.015  # by how much a step may miss its share, for which later ones make up
TIGHT = 0.003  # by how much a slice may fall short of its bits, or by …
SLACK = 24.0  # … so many bits
TRIALS = 2, 5  # of weights in a step, and in the last one


@dataclass(frozen=True)
class Budget:
    """What a file or a slice is to take. amount: bytes of a file, bits of a slice's payload; infinite to measure only.

    shares: of the bits of a latent, by context step; reach: how far off, in logarithms, what is left to code may be
    before `OutOfBudget` is raised.
    """

    amount: float
    shares: tuple[float, ...]
    reach: float = math.inf


class OutOfBudget(Exception):
    """What was begun would take so many times its budget, by what is known so far."""

    def __init__(self, ratio: float) -> None:
        super().__init__(f"{ratio:.3f} times its budget")
        self.ratio = ratio


def shares_at(index: int) -> tuple[float, ...]:
    """The usual shares at a quality index."""
    return tuple(_between(low, high, index) for low, high in zip(*SHARES, strict=True))


def reach_at(index: int) -> float:
    """How far off steering reaches at a quality index, in logarithms. Nothing is given up at the ends of the range."""
    return _between(*REACH, index) if 0 < index < quality.TOP_INDEX else math.inf


def _between(low: float, high: float, index: int) -> float:
    t = quality.fraction(index)
    return (1 - t) * low + t * high


class Steering:
    """The choice of symbols in one slice. natural: about the bits of each step so far, had the weight been 1."""

    def __init__(self, coder: Coder, budget: Budget, hyper_bits: float) -> None:
        """budget: of the slice; hyper_bits: what its hyper-latent takes of it."""
        self._coder, self._budget, self._shares, self._hyper = coder, budget, budget.shares, hyper_bits
        self._left = budget.amount - hyper_bits - STATE_BITS / 2  # with what the coder adds at the end, on average
        self._factor, self._elasticity = 1.0, ELASTICITY
        self.natural: list[float] = []

    def choose(self, values: NDArray[np.float64], index: NDArray[np.uint8], weights: Floats | None) -> Quantised:
        """The symbols of the next context step; arguments as of `viterbi.chosen`.

        Raises OutOfBudget before the last step, if what is left is out of reach.
        """
        step = len(self.natural)
        goal, last = self._left * self._shares[step] / sum(self._shares[step:]), step == len(self._shares) - 1
        best, trials = self._tried(values, index, weights), 1
        natural = best[1] / self._factor**self._elasticity
        if not last and abs(math.log(max(goal, 1.0) / natural)) > self._budget.reach:
            rest = natural * sum(self._shares[step:]) / self._shares[step]
            raise OutOfBudget((self._hyper + sum(self.natural) + rest) / max(self._budget.amount, 1.0))
        while (factor := self._next(goal, last, trials, best[1])) is not None:
            before, taken = self._factor, best[1]
            self._factor, trials = factor, trials + 1
            best = self._tried(values, index, weights)
            if best[1] != taken:
                slope = math.log(best[1] / taken) / math.log(factor / before)
                self._elasticity = min(max(slope, ELASTICITY / 4), 4 * ELASTICITY)
        self.natural.append(best[1] / self._factor**self._elasticity)
        self._left -= best[1]
        return best[0]

    def _tried(
        self, values: NDArray[np.float64], index: NDArray[np.uint8], weights: Floats | None
    ) -> tuple[Quantised, float]:
        """Symbols at the present weight, and their bits, more than 0."""
        if self._factor != 1:
            weights = np.float32(self._factor) * (np.ones(len(values), np.float32) if weights is None else weights)
        found = chosen(values, index, self._coder, weights)
        return found, max(1.0, float(self._coder.latent_bits(found, index).sum()))

    def _next(self, goal: float, last: bool, trials: int, taken: float) -> float | None:
        """The weight to try next in a step; None where what it takes now will do, or nothing will."""
        if trials >= TRIALS[last] or math.isinf(goal):
            return None
        off = math.log(max(goal, 1.0) / taken)
        if abs(off) > HOPELESS:
            self._left = math.inf
            return 1.0 if self._factor != 1 else None
        near = max(TIGHT * self._budget.amount, SLACK) if last else LOOSE * taken
        factor = min(max(self._factor * math.exp(off / self._elasticity), 1 / WIDEST), WIDEST)
        return None if abs(goal - taken) <= near or factor == self._factor else factor
