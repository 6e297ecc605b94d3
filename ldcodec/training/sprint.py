"""Stage 1 on a GPU that is at hand for minutes: the fastest way to make a step is found first, and its results travel.

Such machines come and go: what a run leaves must fit the way back, so it is written again after every checkpoint, as
half-precision weights in several small files. The next run starts from them with fresh moments.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ldcodec.training.checkpoint import write_parts
from ldcodec.training.crops import Crops
from ldcodec.training.profiling import TimedStep, replayed
from ldcodec.training.stages import Stage
from ldcodec.training.start import load_networks
from ldcodec.training.trainer import FLAT_STATE, Trainer

STEPS = 8  # timed in a trial
WORTH = 1.05  # how much faster a larger batch must be, since more steps teach more
FACTORS = (1.0, 0.5, 2.0)  # of the batch in the settings
PARTS_BYTES = 15 << 20


@dataclass(frozen=True)
class Way:
    """A way to make steps: crops in a batch, whether the step is compiled, and pixels a second."""

    batch: int
    compiled: bool
    speed: float


def fastest(
    stage: Stage,
    crops: Crops,
    seconds: float,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Way:
    """Try batches and then compilation for so many seconds, and return the best way to make steps.

    Batches are tried without compilation, which takes a minute; a way that fails or does not fit into memory is left
    out. Raises RuntimeError if none works.
    """
    begun, found = clock(), list[Way]()
    size, crop = stage.phases[-1].batch, stage.phases[-1].crop
    plain = [(max(1, round(size * factor)), False) for factor in FACTORS]
    for batch, compiled in [*dict.fromkeys(plain), (0, True)]:
        if found and clock() - begun > seconds:
            break
        if compiled and (stage.networks.std.device.type != "cuda" or not found):
            continue
        batch = batch or best(found).batch
        try:
            found.append(Way(batch, compiled, batch * crop**2 / timed(stage, crops, batch, crop, compiled)))
        except RuntimeError as error:  # out of memory, or a compiler that is missing
            report(f"{batch} crops, {'compiled' if compiled else 'as it is'}: {str(error).splitlines()[0]}")
            continue
        report(f"{batch} crops, {'compiled' if compiled else 'as it is'}: {found[-1].speed / 1e6:.2f} Mpixel/s")
    if not found:
        raise RuntimeError("no step could be made")
    return best(found)


def timed(stage: Stage, crops: Crops, batch: int, crop: int, compiled: bool) -> float:
    """Seconds that a step takes."""
    try:
        step = TimedStep(stage, crops, batch, crop)
        if step.device.type == "cuda":
            return replayed(step, STEPS, compiled)
        return min(step.run(number).total for number in range(2))
    finally:
        for parameter in stage.parameters().values():
            parameter.grad = None  # it may lie in the memory of a recorded step
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def best(ways: list[Way]) -> Way:
    """The fastest way; of two nearly as fast the one with the smaller batch."""
    top = max(way.speed for way in ways)
    return min((way for way in ways if way.speed * WORTH >= top), key=lambda way: (way.batch, -way.speed))


def adapt(stage: Stage, way: Way) -> None:
    """Let every phase of a stage make steps of as many pixels as this way does."""
    share = way.batch / stage.phases[-1].batch
    stage.phases = tuple(replace(phase, batch=max(1, round(phase.batch * share))) for phase in stage.phases)


def hand_back(trainer: Trainer) -> None:
    """Write what travels: the averaged weights, and those from which a next run goes on, of before the last descent."""
    write_parts(trainer.folder, "average", trainer.averaged(), trainer.progress, PARTS_BYTES)
    flat = load_networks(trainer.folder / FLAT_STATE) if trainer.descending else trainer.stage.networks
    write_parts(trainer.folder, "flat", flat, trainer.progress, PARTS_BYTES)
