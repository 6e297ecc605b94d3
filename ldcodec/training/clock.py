"""The learning rate follows the clock, so that a run ends when it should on any machine."""

from dataclasses import dataclass

from ldcodec.training.settings import Phase


@dataclass(frozen=True)
class Moment:
    """A point of a stage: which of its phases, and how much of that phase is over (0..1)."""

    phase: int
    done: float


def moment(phases: tuple[Phase, ...], done: float, earliest: int = 0) -> Moment:
    """Where a stage stands when the share `done` of its time is over; never in a phase before `earliest`.

    A run that goes on with more time than was planned would otherwise fall back into a phase that it has left.
    """
    total = sum(phase.share for phase in phases) or 1.0
    start = 0.0
    for index, phase in enumerate(phases):
        length = phase.share / total
        last = index == len(phases) - 1
        if index >= earliest and (last or done < start + length):
            return Moment(index, min(1.0, max(0.0, (done - start) / length if length else 1.0)))
        start += length
    return Moment(len(phases) - 1, 1.0)


def learning_rate(phase: Phase, done: float, step: int) -> float:
    """The learning rate when the share `done` (0..1) of a phase is over and `step` steps of it were made.

    Rises over the warm-up, stays, falls to zero in a straight line over the last `descent` of the phase.
    """
    rise = (step + 1) / phase.warm_up if phase.warm_up else 1.0
    fall = (1 - done) / phase.descent if phase.descent else 1.0
    return phase.rate * max(0.0, min(1.0, rise, fall))


def descends(phase: Phase, done: float) -> bool:
    """Whether the rate of a phase is on its way down."""
    return phase.descent > 0 and done > 1 - phase.descent


def batch_and_crop(phase: Phase, done: float) -> tuple[int, int]:
    """Crops a step and their side in pixels; in the descent larger crops and fewer."""
    if not descends(phase, done):
        return phase.batch, phase.crop
    return max(1, round(phase.batch * phase.crop**2 / phase.descent_crop**2)), phase.descent_crop
