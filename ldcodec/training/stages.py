"""A stage of training as its loop sees it: networks, phases with their learning rates, and a loss.

The learning rate follows the clock and not the count of steps, so that a run ends on time on any machine.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ldcodec.bitstream import quality
from ldcodec.entropy.rangecoder import Coder
from ldcodec.nets.networks import Networks
from ldcodec.training.settings import Phase

NEUTRAL = 0.017  # the λ whose loss keeps its size: about the middle of the range


class StageLoss(NamedTuple):
    """The loss of one step, with gradient, and figures to report, without."""

    loss: Tensor
    figures: dict[str, Tensor]


class Stage(ABC):
    """Networks, the phases of their training and the loss of each phase."""

    name: str
    muon = False  # hidden layers move by Muon instead of AdamW
    coder: Coder | None = None  # of a model whose trellis quantises, where there is one
    steady = True  # the loss runs the same operations whatever the data, so that a step can be compiled and recorded

    def __init__(self, networks: Networks, phases: tuple[Phase, ...], shortcut_rate: float) -> None:
        self.networks, self.phases, self.shortcut_rate = networks, phases, shortcut_rate

    @abstractmethod
    def trained(self) -> tuple[nn.Module, ...]:
        """The networks that any phase of this stage changes."""

    @abstractmethod
    def enter(self, phase: int) -> None:
        """Prepare the networks for a phase: which parameters learn, and which parts are in training mode."""

    @abstractmethod
    def loss(self, x: Tensor, t: Tensor, phase: int) -> StageLoss:
        """The loss of pictures x [B, 3, H, W] in 0..1 at qualities t [B] in 0..1."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that this stage may change, by their names in a weights file."""
        chosen = {id(p) for part in self.trained() for p in part.parameters()}
        return {name: p for name, p in self.networks.named_parameters() if id(p) in chosen}

    def held(self) -> dict[str, Tensor]:
        """Tensors beside the networks and their optimiser that a resumed run gets back, by name, where they lie."""
        return {}

    def rate_factor(self, name: str) -> float:
        """Learning rate of a parameter relative to the phase's: K and Kᵀ, orthonormal from the start, move slowly."""
        return self.shortcut_rate if name.endswith(".klt") else 1.0


def qualities(count: int, device: torch.device) -> Tensor:
    """One quality from each of `count` equal parts of 0..1, [count], so that every step sees low rates and high."""
    return (torch.arange(count, device=device) + torch.rand(1, device=device)) / count


def balance(t: Tensor, power: float = -0.4) -> Tensor:
    """(λ/0.017)^power, [B]: the default makes losses at low and high quality weigh about the same."""
    return (quality.multiplier(t) / NEUTRAL) ** power


def batch_errors(decoded: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each picture of a batch in 0..1, with gradient, in 0..255 units: [B]."""
    return (decoded - x).square().mean((1, 2, 3)) * 255**2


@dataclass(frozen=True)
class Moment:
    """A point in a stage: the index of a phase, and how much of that phase is over (0..1)."""

    phase: int
    done: float


def moment(phases: tuple[Phase, ...], done: float, earliest: int = 0) -> Moment:
    """The phase that a stage is in once the share `done` of its time has passed, `earliest` or a later one.

    Without `earliest`, a run resumed with more time than planned would fall back into a phase that it has completed.
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

    It rises during the warm-up, stays, and falls linearly to zero over the last `descent` of the phase.
    """
    rise = (step + 1) / phase.warm_up if phase.warm_up else 1.0
    fall = (1 - done) / phase.descent if phase.descent else 1.0
    return phase.rate * max(0.0, min(1.0, rise, fall))


def descends(phase: Phase, done: float) -> bool:
    """Whether the learning rate of a phase is on its way down."""
    return phase.descent > 0 and done > 1 - phase.descent


def batch_and_crop(phase: Phase, done: float) -> tuple[int, int]:
    """Crops per step and their side in pixels: larger and fewer during the descent."""
    if not descends(phase, done):
        return phase.batch, phase.crop
    return max(1, round(phase.batch * phase.crop**2 / phase.descent_crop**2)), phase.descent_crop
