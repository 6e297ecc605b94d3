"""Rate control: find the quality index whose file meets a target.

A guess from the linear shortcut says where to begin. Every file that is coded forecasts the size and the PSNR at all
other indices (`encoder.outlook`), so that the next one is usually the last. Towards a size it is steered on the way
(`encoder.steering`), and given up early where that does not suffice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from ldcodec.bitstream import chunktypes, quality
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.encoder.outlook import Forecast
from ldcodec.encoder.steering import Budget, OutOfBudget, reach_at, shares_at
from ldcodec.encoder.target import Target

MAX_CODINGS = 12  # files coded for one picture
STEERED = 2  # codings that are steered towards a size, before others are searched for the index that meets it
REHEARSALS = 2  # of samples, before a large picture is coded
SIZE_TOLERANCE = 0.01  # a file may be smaller than its target by this share …
SLACK_BYTES = 8  # … or by this many bytes, whichever is more
PSNR_TOLERANCE = 0.1  # dB above the target

Measure = Callable[[int], float]


@dataclass(frozen=True)
class Coded:
    """A coded file as a container and as its bytes, and what it forecasts of others."""

    container: Container
    data: bytes
    forecast: Forecast

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return len(self.data)

    @property
    def payload(self) -> int:
        """Bytes that the colours take: the slices' payloads, patches and drafted squares, without all the rest."""
        beside = (self.container.chunk(kind) or b"" for kind in (chunktypes.PATCHES, chunktypes.DRAFTED))
        return sum(len(piece.payload) for piece in self.container.slices) + sum(map(len, beside))


File = TypeVar("File", bound=Coded)


class Encoder(Protocol[File]):
    """A picture that can be coded at any quality index, with what rate control needs to know of it."""

    width: int
    height: int

    def guess_size(self, index: int) -> float:
        """A rough prediction of the file size in bytes, cheap enough to call many times."""

    def guess_psnr(self, index: int) -> float:
        """A rough prediction of the PSNR in dB."""

    def rehearse(self, index: int, drawn: bool) -> Forecast | None:
        """Code samples of a large picture; None for a small one. drawn: whether to measure their error."""

    def code(self, index: int, budget: Budget | None = None) -> File:
        """Code the picture at a quality index. budget: of the file, if it is to be steered towards a size.

        Raises OutOfBudget where that is out of its reach.
        """

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
    files, start = _steered(encoder, goal, crossing(encoder.guess_size, size))

    def measure(index: int) -> tuple[float, Measure]:
        files.append(encoder.code(index))
        size = files[-1].forecast.size
        return math.log(files[-1].size), lambda other: math.log(size(other))

    tried = {} if start is None else find(measure, goal, start).values
    if start is not None and 0 not in tried and min(coded.size for coded in files) > size:
        measure(0)  # nothing is called out of reach before its end of the range was tried
    fitting = [coded for coded in files if coded.size <= size]
    best = max(fitting or files, key=lambda coded: coded.size if fitting else -coded.size)
    return best, None if fitting else out_of_reach(size, best.size)


def _steered(encoder: Encoder[File], goal: "Goal", start: int) -> tuple[list[File], int | None]:
    """Files that are steered towards a size, and where to go on: None if the last one meets it, or no file does."""
    aim, shares, files = math.exp(goal.aim), shares_at(start), list[File]()
    forecast, given_up = encoder.rehearse(start, drawn=False), False
    while len(files) < STEERED:
        if forecast is not None:
            start, shares = crossing(forecast.size, aim), forecast.shares
        try:
            reach = math.inf if given_up or files else reach_at(start)
            files.append(encoder.code(start, Budget(aim, shares, reach)))
        except OutOfBudget as told:
            start, forecast, given_up = _corrected(encoder, start, told.ratio), None, True
            continue
        forecast = files[-1].forecast
        following = crossing(forecast.size, aim)
        if goal.reached(math.log(files[-1].size)) or following == start in (0, TOP_INDEX):
            return files, None
    return files, following


def _corrected(encoder: Encoder[File], index: int, ratio: float) -> int:
    """The index that meets a size, if the one given is known to miss it by a ratio."""
    guessed = encoder.guess_size(index)
    return crossing(lambda other: encoder.guess_size(other) / guessed, 1 / ratio)


def _encode_to_psnr(encoder: Encoder[File], psnr: float) -> tuple[File, str | None]:
    goal, start = psnr_goal(psnr), crossing(encoder.guess_psnr, psnr)
    for _ in range(REHEARSALS):
        forecast = encoder.rehearse(start, drawn=True)
        start = crossing(forecast.psnr, goal.aim) if forecast else start
    files: dict[float, File] = {}

    def measure(index: int) -> tuple[float, Measure]:
        coded = encoder.code(index)
        value = encoder.psnr(coded)
        files[value] = coded
        return value, replace(coded.forecast, squared_error=quality.error_of_psnr(value)).psnr

    if TOP_INDEX not in find(measure, goal, start).values and max(files) < psnr:
        measure(TOP_INDEX)  # as above
    reached = [value for value in files if value >= psnr]
    value = min(reached) if reached else max(files)
    return files[value], None if reached else f"{psnr:.2f} dB are out of reach; the nearest is {value:.2f} dB"


@dataclass(frozen=True)
class Goal:
    """The window low … high that an increasing function of the index should hit; aim: the value to aim for, within."""

    low: float
    high: float
    aim: float

    def reached(self, value: float) -> bool:
        return self.low <= value <= self.high


def size_goal(size: int) -> Goal:
    """The window of log(bytes) for a file of at most `size` bytes."""
    lowest = max(1.0, min(size * (1 - SIZE_TOLERANCE), size - SLACK_BYTES))
    return Goal(math.log(lowest), math.log(size), 0.35 * math.log(lowest) + 0.65 * math.log(size))


def psnr_goal(psnr: float) -> Goal:
    """The window of PSNR in dB for a picture of at least `psnr`."""
    return Goal(psnr, psnr + PSNR_TOLERANCE, psnr + 0.4 * PSNR_TOLERANCE)


def crossing(function: Measure, aim: float, low: int = 0, high: int = TOP_INDEX + 1) -> int:
    """The largest index in low … high − 1 at which an increasing function does not exceed the aim, or low."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if function(middle) <= aim else (low, middle)
    return low


def find(measure: Callable[[int], tuple[float, Measure]], goal: Goal, start: int) -> "Search":
    """Measure indices until a value is in the window, nothing is left between two of them, or the files are used up.

    measure: an index → its value, and a forecast of the values at all others.
    """
    search, index = Search(goal), start
    for _ in range(MAX_CODINGS):
        value, forecast = measure(index)
        search.tell(index, value)
        proposed = None if goal.reached(value) else search.propose(search.suggested(forecast))
        if proposed is None:
            break
        index = proposed
    return search


class Search:
    """A bracket around the aim on the indices 0..4095, for a function that increases but for small irregularities.

    `propose` returns an index to measure next, near the one that is suggested, `tell` records its value; no index is
    proposed twice. If two values in a row bring little progress, as where the function bends sharply, the bracket is
    halved, or, while it is open, closed at the end of the range.
    """

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.values: dict[int, float] = {}
        self._progress: list[tuple[int, float]] = []  # after each value: width of the bracket, distance to the aim

    def tell(self, index: int, value: float) -> None:
        """Record a value."""
        self.values[index] = value
        below, above = self._bracket()
        self._progress.append((above - below, self._distance(self.nearest())))

    def propose(self, suggested: int) -> int | None:
        """An index not yet measured; None if none is left in the bracket around the aim."""
        below, above = self._bracket()
        if above - below <= 1:
            return None
        if below < 0 or above > TOP_INDEX:
            end = below + 1 if below < 0 else above - 1
            return end if self._stalled() else min(max(suggested, below + 1), above - 1)
        return (below + above) // 2 if self._stalled() else min(max(suggested, below + 1), above - 1)

    def suggested(self, forecast: Measure) -> int:
        """Where a forecast meets the aim, once it is right at what was measured."""
        below, above = self._bracket()  # beyond which a corrected forecast need not increase
        return crossing(self._corrected(forecast), self.goal.aim, max(below, 0), above)

    def _corrected(self, forecast: Measure) -> Measure:
        """A forecast to which a line is added, so that it is right at both ends of the bracket.

        While that is open, it is right at the one or two values nearest the aim.
        """
        ends = [index for index in self._bracket() if index in self.values]
        near, *rest = ends if len(ends) == 2 else sorted(self.values, key=self._distance)[:2]
        error = self.values[near] - forecast(near)
        slope = (self.values[rest[0]] - forecast(rest[0]) - error) / (rest[0] - near) if rest else 0.0
        return lambda index: forecast(index) + error + slope * (index - near)

    def _bracket(self) -> tuple[int, int]:
        """The measured indices on either side of the aim; −1 and 4096 while there is none."""
        below = max((i for i, v in self.values.items() if v <= self.goal.aim), default=-1)
        return below, min((i for i, v in self.values.items() if v > self.goal.aim and i > below), default=TOP_INDEX + 1)

    def _stalled(self) -> bool:
        """Whether the last two values neither halved the bracket nor quartered the distance to the aim."""
        if len(self._progress) < 3:
            return False
        (width, distance), (now, left) = self._progress[-3], self._progress[-1]
        return 2 * now > width and 4 * left > distance

    def _distance(self, index: int) -> float:
        return abs(self.values[index] - self.goal.aim)

    def nearest(self) -> int:
        """The measured index whose value is closest to the aim."""
        return min(self.values, key=self._distance)
