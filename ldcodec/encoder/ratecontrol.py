"""Which quality index meets a target: searches that know functions of the index and no codec."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ldcodec.bitstream.quality import TOP_INDEX

MAX_PROBES = 8
SIZE_TOLERANCE = 0.01  # a file may stay this share below its target …
SLACK_BYTES = 8  # … or this many bytes, whichever is more
PSNR_TOLERANCE = 0.1  # dB above the target
TYPICAL_SLOPE = 3.8 / TOP_INDEX  # of the logarithm of the file size over the index, on photographs
TYPICAL_PSNR_SLOPE = 17.0 / TOP_INDEX  # dB an index, likewise


@dataclass(frozen=True)
class Goal:
    """A window of a growing function of the index, in a unit in which that function is nearly straight.

    `low` ≤ value ≤ `high` is wanted; `aim` lies between; `slope` is a first guess of the growth for each index.
    """

    low: float
    high: float
    aim: float
    slope: float

    def reached(self, value: float) -> bool:
        """Whether a value lies in the window."""
        return self.low <= value <= self.high

    def safe(self, value: float) -> bool:
        """Whether an estimate lies so far inside the window that the true value should be in it too."""
        width = self.high - self.low
        return self.low + 0.1 * width <= value <= self.high - 0.25 * width


def size_goal(size: int) -> Goal:
    """The window of log(bytes) for a file of at most `size` bytes."""
    lowest = max(1.0, min(size * (1 - SIZE_TOLERANCE), size - SLACK_BYTES))
    return Goal(math.log(lowest), math.log(size), 0.35 * math.log(lowest) + 0.65 * math.log(size), TYPICAL_SLOPE)


def psnr_goal(psnr: float) -> Goal:
    """The window of PSNR in dB for a picture of at least `psnr`."""
    return Goal(psnr, psnr + PSNR_TOLERANCE, psnr + 0.4 * PSNR_TOLERANCE, TYPICAL_PSNR_SLOPE)


def guess(rough: Callable[[int], float], aim: float) -> tuple[int, float]:
    """Where a rough function of the index, which must grow, is nearest to the aim, and how steep it is there."""
    low, high = 0, TOP_INDEX
    while high - low > TOP_INDEX // 32:
        middle = (low + high) // 2
        low, high = (middle, high) if rough(middle) <= aim else (low, middle)
    slope = (rough(high) - rough(low)) / (high - low)
    return (low + high) // 2, max(slope, TYPICAL_SLOPE / 8)


class Search:
    """Safeguarded secant search over the indices 0..4095 for a function that grows, apart from small unevenness.

    `propose` gives the next index, `tell` its value; probed indices are never proposed again. Where two probes in a
    row brought little, as where the function bends sharply, the bracket is halved instead, or first closed at the
    end of the range.
    """

    def __init__(self, goal: Goal, start: int) -> None:
        self.goal, self.start = goal, start
        self.values: dict[int, float] = {}
        self._progress: list[tuple[int, float]] = []  # after each probe: width of the bracket, distance to the aim

    def tell(self, index: int, value: float) -> None:
        """Records a probe."""
        self.values[index] = value
        below, above = self._bracket()
        self._progress.append((above - below, self._distance(self.nearest())))

    def shift(self, amount: float) -> None:
        """Adds a constant to all values: what a more exact measure of one index has taught of the others."""
        self.values = {index: value + amount for index, value in self.values.items()}
        self._progress.clear()

    def propose(self) -> int | None:
        """The most promising index not yet probed; None when the bracket around the aim is used up."""
        below, above = self._bracket()
        if above - below <= 1:
            return None
        guess = self._secant() if self.values else self.start
        if below < 0 or above > TOP_INDEX:
            end = below + 1 if below < 0 else above - 1
            return end if self._stalled() else min(max(guess, below + 1), above - 1)
        return (below + above) // 2 if self._stalled() or not below < guess < above else guess

    def _bracket(self) -> tuple[int, int]:
        """The probed indices around the aim; −1 and 4096 where there is none."""
        below = max((i for i, v in self.values.items() if v <= self.goal.aim), default=-1)
        return below, min((i for i, v in self.values.items() if v > self.goal.aim and i > below), default=TOP_INDEX + 1)

    def _stalled(self) -> bool:
        """Whether the last two probes neither halved the bracket nor brought the aim four times nearer."""
        if len(self._progress) < 3:
            return False
        (width, distance), (now, left) = self._progress[-3], self._progress[-1]
        return 2 * now > width and 4 * left > distance

    def _secant(self) -> int:
        nearest = sorted(self.values, key=self._distance)[:2]
        first = nearest[0]
        slope = self.goal.slope
        if len(nearest) == 2:
            measured = (self.values[nearest[1]] - self.values[first]) / (nearest[1] - first)
            slope = min(max(measured, self.goal.slope / 8), self.goal.slope * 8)
        return first + round((self.goal.aim - self.values[first]) / slope)

    def _distance(self, index: int) -> float:
        return abs(self.values[index] - self.goal.aim)

    def nearest(self) -> int:
        """The probed index whose value is closest to the aim."""
        return min(self.values, key=self._distance)


def find_index(measure: Callable[[int], float], goal: Goal, start: int, probes: int = MAX_PROBES) -> Search:
    """Probes `measure` until a value is safely in the window, the bracket is used up or the
    probes are spent.
    """
    search = Search(goal, start)
    for _ in range(probes):
        index = search.propose()
        if index is None:
            break
        search.tell(index, measure(index))
        if goal.safe(search.values[index]):
            break
    return search
