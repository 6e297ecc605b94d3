"""Rate control: find the quality index whose file meets a target.

An encoder offers three measures of a quality index, from cheap to exact: a guess of the size, an estimate by the float
rate model, and the coded file. The search uses the first two to decide which indices to code; few files are coded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from ldcodec.bitstream import quality
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.encoder.target import Target

MAX_PROBES = 8  # estimates in one search
MAX_CODINGS = 6  # files coded for one picture
SIZE_TOLERANCE = 0.01  # a file may be smaller than its target by this share …
SLACK_BYTES = 8  # … or by this many bytes, whichever is more
PSNR_TOLERANCE = 0.1  # dB above the target
TYPICAL_SLOPE = 3.8 / TOP_INDEX  # growth of log(bytes) per index on photographs
TYPICAL_PSNR_SLOPE = 17.0 / TOP_INDEX  # growth of the PSNR in dB per index on photographs
TYPICAL_POINT = 0.448, 31.9  # t and PSNR in dB of an ordinary photograph: where a search for a PSNR starts


@dataclass(frozen=True)
class Coded:
    """A coded file as a container and as its bytes."""

    container: Container
    data: bytes

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return len(self.data)

    @property
    def payload(self) -> int:
        """Length of the slices' payloads in bytes, without header and chunks."""
        return sum(len(piece.payload) for piece in self.container.slices)


File = TypeVar("File", bound=Coded)


class Encoder(Protocol[File]):
    """A picture that can be coded at any quality index, with the measures that rate control needs."""

    width: int
    height: int

    def guess_size(self, index: int) -> float:
        """A rough prediction of the file size in bytes, cheap enough to call many times."""

    def estimate_size(self, index: int) -> float:
        """A good prediction of the file size in bytes."""

    def estimate_psnr(self, index: int) -> float:
        """A good prediction of the PSNR in dB."""

    def code(self, index: int) -> File:
        """Code the picture at a quality index."""

    def psnr(self, coded: File, /) -> float:
        """PSNR in dB of the picture that a decoder makes of a file."""


def encode_to(encoder: Encoder[File], target: Target) -> tuple[File, str | None]:
    """Code a picture to meet a target. Also returns what is wrong where that is out of reach, or None.

    Then the file is the nearest one: the smallest, or that with the least error.
    """
    if target.quality is not None:
        return encoder.code(quality.nearest_index(target.quality / 100)), None
    if target.psnr is not None:
        return _encode_to_psnr(encoder, target.psnr)
    return _encode_to_size(encoder, target.most_bytes(encoder.width * encoder.height) or 0)


def out_of_reach(size: int, nearest: int) -> str:
    """The complaint that no file of at most `size` bytes exists."""
    return f"a file of {size} bytes is out of reach; the smallest has {nearest}"


def _encode_to_size(encoder: Encoder[File], size: int) -> tuple[File, str | None]:
    goal = size_goal(max(size, 1))
    start, slope = guess(lambda i: math.log(encoder.guess_size(i)), goal.aim)
    search = find_index(lambda i: math.log(encoder.estimate_size(i)), replace(goal, slope=slope), start)
    files = _confirm(encoder, search, lambda coded: math.log(coded.size))
    fitting = [coded for coded in files if coded.size <= size]
    if not fitting:  # nothing is called out of reach before its end of the range was tried
        files = _with_index(encoder, files, 0)
        fitting = [coded for coded in files if coded.size <= size]
    best = max(fitting or files, key=lambda coded: coded.size if fitting else -coded.size)
    return best, None if fitting else out_of_reach(size, best.size)


def _encode_to_psnr(encoder: Encoder[File], psnr: float) -> tuple[File, str | None]:
    goal = psnr_goal(psnr)
    t, typical = TYPICAL_POINT
    start = t + (psnr - typical) / (goal.slope * TOP_INDEX)
    search = find_index(encoder.estimate_psnr, goal, quality.nearest_index(start))
    coded = _confirm(encoder, search, encoder.psnr)
    files = {encoder.psnr(file): file for file in coded}
    if max(files) < psnr:  # as above
        files |= {encoder.psnr(file): file for file in _with_index(encoder, coded, TOP_INDEX)[len(coded) :]}
    reached = [value for value in files if value >= psnr]
    value = min(reached) if reached else max(files)
    return files[value], None if reached else f"{psnr:.2f} dB are out of reach; the nearest is {value:.2f} dB"


def _with_index(encoder: Encoder[File], files: list[File], index: int) -> list[File]:
    """Coded files, and the one at a quality index unless that is among them."""
    known = any(coded.container.header.quality == index for coded in files)
    return files if known else [*files, encoder.code(index)]


def _confirm(encoder: Encoder[File], search: "Search", measure: Callable[[File], float]) -> list[File]:
    """Continue a search on estimates with coded files until the goal is reached, and return all files coded."""
    files: list[File] = []
    index: int | None = search.nearest()
    while index is not None and len(files) < MAX_CODINGS:
        files.append(encoder.code(index))
        value = measure(files[-1])
        if search.goal.reached(value):
            break
        if len(files) == 1:  # estimates at other indices are off by about as much as this one
            search.shift(value - search.values[index])
        search.tell(index, value)
        index = search.propose()
    return files


@dataclass(frozen=True)
class Goal:
    """The window low … high that an increasing function of the index should hit, in a unit that makes it nearly linear.

    aim: the value to aim for, within the window; slope: a first guess of the growth per index.
    """

    low: float
    high: float
    aim: float
    slope: float

    def reached(self, value: float) -> bool:
        return self.low <= value <= self.high

    def safe(self, value: float) -> bool:
        """Whether an estimate lies so far inside the window that the true value should lie in the window too."""
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
    """Bisect a rough, increasing function for the index where it meets the aim. Returns that index and the slope."""
    low, high = 0, TOP_INDEX
    while high - low > TOP_INDEX // 32:
        middle = (low + high) // 2
        low, high = (middle, high) if rough(middle) <= aim else (low, middle)
    slope = (rough(high) - rough(low)) / (high - low)
    return (low + high) // 2, max(slope, TYPICAL_SLOPE / 8)


class Search:
    """Safeguarded secant search over the indices 0..4095 for a function that increases but for small irregularities.

    `propose` returns the index to probe next, `tell` records its value; no index is proposed twice. If two probes in a
    row bring little progress, as where the function bends sharply, the bracket is halved, or, while it is open, closed
    at the end of the range.
    """

    def __init__(self, goal: Goal, start: int) -> None:
        self.goal, self.start = goal, start
        self.values: dict[int, float] = {}
        self._progress: list[tuple[int, float]] = []  # after each probe: width of the bracket, distance to the aim

    def tell(self, index: int, value: float) -> None:
        """Record a probe."""
        self.values[index] = value
        below, above = self._bracket()
        self._progress.append((above - below, self._distance(self.nearest())))

    def shift(self, amount: float) -> None:
        """Add a constant to all values: the error of the estimates, known from one coded file."""
        self.values = {index: value + amount for index, value in self.values.items()}
        self._progress.clear()

    def propose(self) -> int | None:
        """The most promising index not yet probed; None if none is left in the bracket around the aim."""
        below, above = self._bracket()
        if above - below <= 1:
            return None
        guess = self._secant() if self.values else self.start
        if below < 0 or above > TOP_INDEX:
            end = below + 1 if below < 0 else above - 1
            return end if self._stalled() else min(max(guess, below + 1), above - 1)
        return (below + above) // 2 if self._stalled() or not below < guess < above else guess

    def _bracket(self) -> tuple[int, int]:
        """The probed indices on either side of the aim; −1 and 4096 while there is none."""
        below = max((i for i, v in self.values.items() if v <= self.goal.aim), default=-1)
        return below, min((i for i, v in self.values.items() if v > self.goal.aim and i > below), default=TOP_INDEX + 1)

    def _stalled(self) -> bool:
        """Whether the last two probes neither halved the bracket nor quartered the distance to the aim."""
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
            slope = min(max(measured, self.goal.slope / 8), self.goal.slope * 8)  # close indices mislead
        return first + round((self.goal.aim - self.values[first]) / slope)

    def _distance(self, index: int) -> float:
        return abs(self.values[index] - self.goal.aim)

    def nearest(self) -> int:
        """The probed index whose value is closest to the aim."""
        return min(self.values, key=self._distance)


def find_index(measure: Callable[[int], float], goal: Goal, start: int, probes: int = MAX_PROBES) -> Search:
    """Probe `measure` until a value is safely in the window, the bracket is exhausted or the probes are used up."""
    search = Search(goal, start)
    for _ in range(probes):
        index = search.propose()
        if index is None:
            break
        search.tell(index, measure(index))
        if goal.safe(search.values[index]):
            break
    return search
