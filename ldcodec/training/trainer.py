"""The training loop of a stage: batches, learning rate, running average of the weights, checkpoints, progress."""

import copy
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ldcodec.bitstream.quality import psnr
from ldcodec.errors import UsageError
from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels
from ldcodec.training.checkpoint import Progress, read_state, write_state, write_weights
from ldcodec.training.crops import Crops
from ldcodec.training.learning import Learner
from ldcodec.training.optimiser import stage_optimiser
from ldcodec.training.settings import TrainingSettings
from ldcodec.training.stages import Moment, Stage, batch_and_crop, descends, learning_rate, moment, qualities
from ldcodec.training.validation import validate

WEIGHTS, STATE, FLAT_STATE = "weights.safetensors", "state.safetensors", "flat.safetensors"
AVERAGED_EVERY = 4  # steps: the running average takes a pass over all weights
AVERAGE_DECAY = 0.996  # of one update; 0.999 a step


@dataclass
class Window:
    """Figures since the last progress line."""

    sums: dict[str, Tensor]
    counts: dict[str, int]
    steps: int
    minutes: float


class Trainer:
    """A run of one stage, until its time is over or `stop` is set. Either way it leaves weights and a state."""

    def __init__(
        self,
        stage: Stage,
        crops: Crops,
        minutes: float,
        settings: TrainingSettings,
        folder: Path,
        *,
        held_out: list[Pixels] | None = None,
        clock: Callable[[], float] = time.monotonic,
        report: Callable[[str], None] = print,
        compiled: bool = True,
        saved: Callable[["Trainer"], None] | None = None,
    ) -> None:
        """minutes: the time of the stage, including that of the run it was resumed from; clock: gives seconds.

        compiled: see `Learner`; saved: called after every checkpoint.
        """
        self.stage, self.crops, self.minutes, self.settings, self.folder = stage, crops, minutes, settings, folder
        self.held_out, self.clock, self.report = held_out or [], clock, report
        self.device = stage.networks.std.device
        self.parameters = stage.parameters()
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimiser = stage_optimiser(stage)
        self.learner, self.saved = Learner(stage, self.optimiser, compiled), saved
        self.progress, self.stop = Progress(stage.name), False
        self.skipped = torch.zeros((), device=self.device)
        self.window = Window(defaultdict(lambda: torch.zeros((), device=self.device)), defaultdict(int), 0, 0.0)

    def resume(self, path: Path) -> None:
        """Continues from a state whose weights the networks already have. Raises UsageError if its time is over."""
        self.progress = read_state(
            path, self.parameters, self.average, self.optimiser, self.stage.name, self.stage.held()
        )
        self.window.minutes = self.progress.minutes
        if self.progress.minutes >= self.minutes:
            spent = f"{self.progress.minutes:.1f} minutes"
            raise UsageError(f"{path}: {spent} of {self.minutes:g} are already spent; give more --minutes to continue")

    def run(self) -> None:
        """Train until the time is over."""
        begun = self.clock() - 60 * self.progress.minutes
        saved = validated = self.progress.minutes
        flat = self._place()
        self.stage.enter(flat.phase)
        before = flat
        while self.progress.minutes < self.minutes and not self.stop:
            here = self._place()
            self._turn(before, here)
            before = here
            self._update(here)
            self.progress = replace(self.progress, step=self.progress.step + 1, minutes=(self.clock() - begun) / 60)
            if self.progress.step % self.settings.run.report_steps == 0:
                self.report(self._line())
            if self.progress.minutes - saved >= self.settings.run.checkpoint_minutes:
                saved = self.progress.minutes
                self.save()
            interval = self.settings.run.validate_minutes
            if interval and self.progress.minutes - validated >= interval:
                validated = self.progress.minutes
                self.validate()
        self.save()
        if not self.stop:
            self.validate()

    def save(self) -> None:
        """Write the averaged weights and the state."""
        write_weights(self.folder / WEIGHTS, self.averaged(), self.progress)
        self._write_state(STATE)
        if self.saved is not None:
            self.saved(self)

    def averaged(self) -> Networks:
        """A copy of the networks with the running average of their weights, in evaluation mode."""
        networks = copy.deepcopy(self.stage.networks).eval().requires_grad_(False)
        for name, parameter in networks.named_parameters():
            if name in self.average:
                parameter.copy_(self.average[name])
        return networks

    @property
    def descending(self) -> bool:
        """Whether the rate is on its way down for the last time."""
        return self._descends(self._place())

    def validate(self) -> None:
        """Reports bits and PSNR on the held-out pictures."""
        if not self.held_out:
            return
        for forecast in validate(self.averaged(), self.held_out, self.stage.coder):
            figures = f"{forecast.bpp:.4f} bpp  {forecast.psnr:.3f} dB  (centroid {forecast.centroid_psnr:.3f} dB)"
            self.report(f"validation: t {forecast.quality:.1f}  {figures}")

    def _place(self) -> Moment:
        return moment(self.stage.phases, self.progress.minutes / self.minutes, self.progress.phase)

    def _turn(self, before: Moment, here: Moment) -> None:
        """Between two steps: enters the next phase, and keeps the state from which the final descent begins."""
        if here.phase != self.progress.phase:
            self.progress = replace(self.progress, phase=here.phase, phase_step=self.progress.step)
            self.stage.enter(here.phase)
            self.report(f"phase {here.phase + 1} of {len(self.stage.phases)} begins after {self.progress.step} steps")
        if self._descends(here) and not self._descends(before):
            self._write_state(FLAT_STATE)

    def _descends(self, here: Moment) -> bool:
        phases = self.stage.phases
        return here.phase == len(phases) - 1 and descends(phases[here.phase], here.done)

    def _update(self, here: Moment) -> None:
        phase, step = self.stage.phases[here.phase], self.progress.step
        rate = learning_rate(phase, here.done, step - self.progress.phase_step)
        torch.manual_seed(self.settings.run.seed * 1_000_003 + step)
        count, size = batch_and_crop(phase, here.done)
        x = self.crops.batch(count, size, np.random.default_rng((self.settings.run.seed, step)))
        t = qualities(count, self.device)
        self._count(self.learner.step(x, t, here.phase, rate))
        if (step + 1) % AVERAGED_EVERY == 0:
            self._average(step + 1)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Move the running average, fast at first, so that it does not keep the initial weights for long."""
        weight = 1 - min(AVERAGE_DECAY, step / (40 + step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.parameters.values()], weight)

    def _count(self, figures: dict[str, Tensor]) -> None:
        self.window.steps += 1
        self.skipped += figures["skipped"]
        for name, value in figures.items():
            self.window.sums[name] += value
            self.window.counts[name] += 1

    def _line(self) -> str:
        """The progress line since the last one."""
        window, now = self.window, self.progress.minutes
        means = {name: (sum_ / window.counts[name]).item() for name, sum_ in window.sums.items() if name != "skipped"}
        speed = window.steps / max(1e-9, 60 * (now - window.minutes))
        window.sums.clear()
        window.counts.clear()
        window.steps, window.minutes = 0, now
        parts = [f"{self.progress.step} steps", *(_figure(*pair) for pair in means.items())]
        skipped = [f"{self.skipped:.0f} steps skipped"] if self.skipped else []
        return ", ".join([*parts, f"{speed:.2f} steps/s", *skipped, f"{max(0.0, self.minutes - now):.1f} min left"])

    def _write_state(self, name: str) -> None:
        record = json.dumps(asdict(self.settings))
        held = self.stage.held()
        write_state(self.folder / name, self.stage.networks, self.average, self.optimiser, self.progress, record, held)


def _figure(name: str, value: float) -> str:
    if name == "mse":  # PSNR of the mean error, which is lower than the mean PSNR
        return f"PSNR {psnr(value):.2f} dB"
    return f"{value:.4f} bpp" if name == "bpp" else f"{name} {value:.4f}"
