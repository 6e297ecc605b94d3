"""Where the time of a training step goes, and how near its arithmetic comes to what the device can do.

The time of each part is the best of several steps (see also `precision.now`): on a busy machine, other processes only
ever make it longer.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

import numpy as np
from torch.profiler import profile

from ldcodec.nets.precision import arithmetic, autocast, dense_speed, fastest_type, now
from ldcodec.training.crops import Crops
from ldcodec.training.learning import WARM_UP as RECORDED
from ldcodec.training.learning import Learner
from ldcodec.training.optimiser import ClippedAdam, stage_optimiser
from ldcodec.training.stages import Stage, qualities

WARM_UP = 2  # steps that are not counted
OPERATORS = 20  # rows of the table
TINY_RATE = 1e-9  # learning rate; the weights hardly change, so that every step does the same work


@dataclass(frozen=True)
class Times:
    """Seconds that the parts of one step take."""

    data: float
    forward: float
    backward: float
    optimiser: float

    @property
    def total(self) -> float:
        """Seconds that the step takes."""
        return self.data + self.forward + self.backward + self.optimiser


class TimedStep:
    """A step of the last phase of a stage on `count` crops of size×size pixels, as the training loop makes it."""

    def __init__(self, stage: Stage, crops: Crops, count: int, size: int) -> None:
        self.stage, self.crops, self.count, self.size = stage, crops, count, size
        self.device = stage.networks.std.device
        self.optimiser: ClippedAdam = stage_optimiser(stage)
        for group in self.optimiser.param_groups:
            group["lr"] = TINY_RATE
        self.phase = len(stage.phases) - 1
        stage.enter(self.phase)

    def run(self, number: int = 0) -> Times:
        """Make the step; the number seeds its crops."""
        marks = [now(self.device)]
        x = self.crops.batch(self.count, self.size, np.random.default_rng(number))
        marks.append(now(self.device))
        with autocast(self.device):
            loss = self.stage.loss(x, qualities(self.count, self.device), self.phase).loss
        marks.append(now(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        marks.append(now(self.device))
        self.optimiser.clipped_step()
        marks.append(now(self.device))
        return Times(*np.diff(marks).tolist())


def report(step: TimedStep, steps: int) -> Iterator[str]:
    """Lines: speed, shares of the parts, arithmetic against the device's peak, the operators that take longest."""
    for _ in range(WARM_UP):
        step.run()
    best = best_times([step.run(number) for number in range(steps)])
    seconds = best.total if step.device.type == "cpu" else replayed(step, steps)
    yield f"{step.count} crops of {step.size}x{step.size}: {1 / seconds:.2f} steps/s"
    shares = [f"{field.name} {100 * getattr(best, field.name) / best.total:.0f} %" for field in fields(best)]
    yield ", ".join(shares) + ("" if step.device.type == "cpu" else ", of a step that is not compiled")
    kind = fastest_type(step.device)
    work, peak = arithmetic(step.run), dense_speed(step.device, kind)
    speed = work / seconds
    reached = f"{100 * speed / peak:.0f} % of a dense 3x3 convolution's {peak / 1e9:.0f} in {str(kind).split('.')[1]}"
    yield f"{work / 1e9:.1f} GFLOP a step, {speed / 1e9:.0f} GFLOP/s, {reached}"
    yield operators(step)


def replayed(step: TimedStep, steps: int, compiled: bool = True) -> float:
    """Seconds per step, data included, as in training: on a GPU compiled, recorded, and replayed without waiting."""
    learner = Learner(step.stage, step.optimiser, compiled)
    for number in range(RECORDED + 1 + steps):
        if number == RECORDED + 1:
            begun = now(step.device)
        x = step.crops.batch(step.count, step.size, np.random.default_rng(number))
        learner.step(x, qualities(step.count, step.device), step.phase, TINY_RATE)
    return (now(step.device) - begun) / steps


def best_times(measured: list[Times]) -> Times:
    """The shortest time of each part."""
    return Times(*np.array([astuple(times) for times in measured]).min(0).tolist())


def operators(step: TimedStep) -> str:
    """A table of the operators that take longest in one step."""
    with profile() as profiled:
        step.run()
    key = "self_cpu_time_total" if step.device.type == "cpu" else "self_device_time_total"
    return str(profiled.key_averages().table(sort_by=key, row_limit=OPERATORS, max_name_column_width=40))
