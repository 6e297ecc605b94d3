"""The search for a quality index, on made-up functions of the index."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.encoder.ratecontrol import (
    MAX_CODINGS,
    PSNR_TOLERANCE,
    SIZE_TOLERANCE,
    SLACK_BYTES,
    Goal,
    Search,
    crossing,
    find,
    psnr_goal,
    size_goal,
)

Measure = Callable[[int], float]
Coding = Callable[[int], tuple[float, Measure]]

STARTS = 0, 700, 2048, 4095


def photograph(index: int) -> float:
    """log(bytes) of an ordinary picture: nearly linear, a little steeper in the middle."""
    t = index / TOP_INDEX
    return 8.6 + 3.8 * t + 0.3 * math.sin(3 * t)


def flat_start(index: int) -> float:
    """Constant over the lowest third, where only the header and empty symbols cost anything, then steep growth."""
    return math.log(90 + 4000 * max(0.0, index / TOP_INDEX - 0.35) ** 2)


def steep(index: int) -> float:
    """A graphic: nearly all growth falls within a fifth of the range."""
    return 7 + 4 / (1 + math.exp(-(index - 2900) / 150))


def noisy(index: int) -> float:
    """Jitter of ± 0.15 % around the trend: files grow by words, and the encoder's choices jump."""
    return photograph(index) + 0.0015 * math.sin(index * 12.9898) * math.cos(index * 78.233)


def straight_db(index: int) -> float:
    """PSNR that grows linearly by 20 dB."""
    return 24 + 20 * index / TOP_INDEX


def bent_db(index: int) -> float:
    """PSNR that levels off at the top, where the analysis is the limit."""
    return 22 + 14 * (1 - math.exp(-3 * index / TOP_INDEX))


def skewed(measure: Measure, near: int) -> Measure:
    """A forecast from one index: right there, and the further off the further away, by up to a tenth."""
    return lambda index: measure(index) * (1 + 0.1 * (index - near) / TOP_INDEX)


def counted(measure: Measure, forecast: Callable[[Measure, int], Measure] = skewed) -> tuple[Coding, list[int]]:
    coded: list[int] = []

    def code(index: int) -> tuple[float, Measure]:
        coded.append(index)
        return measure(index), forecast(measure, index)

    return code, coded


def check_codings(coded: list[int]) -> None:
    assert len(coded) <= MAX_CODINGS
    assert len(set(coded)) == len(coded), "an index was coded twice"
    assert all(0 <= index <= TOP_INDEX and isinstance(index, int) for index in coded)


def sizes_within_reach(measure: Measure) -> list[Goal]:
    lowest, highest = math.exp(measure(0)), math.exp(measure(TOP_INDEX))
    return [size_goal(round(lowest * (highest / lowest) ** share)) for share in np.linspace(0.02, 0.98, 25)]


@pytest.mark.parametrize("measure", [photograph, noisy, flat_start, steep])
def test_sizes_within_reach_are_met(measure: Measure) -> None:
    for goal, start in itertools.product(sizes_within_reach(measure), STARTS):
        code, coded = counted(measure)
        search = find(code, goal, start)
        check_codings(coded)
        assert goal.reached(search.values[search.nearest()])


@pytest.mark.parametrize("measure", [straight_db, bent_db])
def test_psnr_within_reach_is_met(measure: Measure) -> None:
    targets = np.linspace(measure(0) + 0.2, measure(TOP_INDEX) - 0.2, 25)
    for psnr, start in itertools.product(targets, STARTS):
        code, coded = counted(measure)
        search = find(code, psnr_goal(float(psnr)), start)
        check_codings(coded)
        assert psnr <= search.values[search.nearest()] <= psnr + PSNR_TOLERANCE


@pytest.mark.parametrize("measure", [photograph, noisy, straight_db])
def test_a_good_start_needs_few_codings(measure: Measure) -> None:
    for middle in range(1600, 4000, 200):
        value = measure(middle)
        goal = psnr_goal(value) if measure is straight_db else size_goal(int(math.exp(value)))
        code, coded = counted(measure)
        find(code, goal, middle - 150)
        assert len(coded) <= 3


def test_a_forecast_that_knows_nothing_is_survived() -> None:
    for goal, start in itertools.product(sizes_within_reach(photograph), STARTS):
        code, coded = counted(photograph, lambda measure, near: lambda index: 0.0)
        search = find(code, goal, start)
        check_codings(coded)
        assert abs(search.values[search.nearest()] - goal.aim) < 0.1


@pytest.mark.parametrize("size, end", [(1, 0), (50, 0), (10**7, TOP_INDEX)])
def test_what_is_out_of_reach_ends_at_the_nearest_end(size: int, end: int) -> None:
    for start in STARTS:
        code, coded = counted(photograph)
        search = find(code, size_goal(size), start)
        check_codings(coded)
        assert search.nearest() == end, start


def test_the_search_in_a_constant_function_ends() -> None:
    for size, start in itertools.product((40, 98, 100, 3000), STARTS):
        code, coded = counted(lambda index: math.log(100))
        find(code, size_goal(size), start)
        check_codings(coded)


def test_a_search_that_never_stops_tries_every_index_once() -> None:
    """With pure noise for values, the bracket still shrinks with every value and no index comes twice."""
    rng = np.random.default_rng(0)
    for trial in range(200):
        search = Search(Goal(-0.1, 0.1, 0.0))
        for _ in range(5000):
            index = search.propose(int(rng.integers(0, TOP_INDEX + 1)))
            if index is None:
                break
            assert 0 <= index <= TOP_INDEX and index not in search.values
            search.tell(index, float(rng.normal()))
        assert search.propose(0) is None, trial


def test_where_an_increasing_function_crosses() -> None:
    assert crossing(lambda index: index, 1234.5) == 1234
    assert crossing(lambda index: index, -1) == 0
    assert crossing(lambda index: index, 5000) == TOP_INDEX


def test_the_window_of_a_size() -> None:
    for size in (1, 5, 9, 100, 799, 801, 50_000):
        goal = size_goal(size)
        assert math.exp(goal.high) == pytest.approx(size)
        allowed = max(size * SIZE_TOLERANCE, SLACK_BYTES)
        assert math.exp(goal.low) == pytest.approx(max(1, size - allowed))
        assert goal.low <= goal.aim <= goal.high
        assert not goal.reached(math.log(size + 1))
        assert goal.reached(math.log(size))


def test_the_window_of_a_psnr() -> None:
    goal = psnr_goal(33.0)
    assert (goal.low, goal.high) == (33.0, 33.0 + PSNR_TOLERANCE)
    assert goal.reached(33.0) and not goal.reached(32.999) and not goal.reached(33.11)
