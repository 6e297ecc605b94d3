"""What a stage of training is to the loop that runs it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ldcodec.bitstream import quality
from ldcodec.nets.networks import Networks
from ldcodec.training.settings import Phase

NEUTRAL = 0.017  # the λ whose loss keeps its size: about the middle of the range


class Result(NamedTuple):
    """The loss of one step, with gradient, and figures to report, without."""

    loss: Tensor
    figures: dict[str, Tensor]


class Stage(ABC):
    """Networks, the phases of their training and the loss of each phase."""

    name: str
    muon = False  # hidden layers move by Muon instead of AdamW
    steady = True  # the loss runs the same operations whatever the data are, so that a step can be recorded

    def __init__(self, networks: Networks, phases: tuple[Phase, ...], shortcut_rate: float) -> None:
        self.networks, self.phases, self.shortcut_rate = networks, phases, shortcut_rate

    @abstractmethod
    def trained(self) -> tuple[nn.Module, ...]:
        """The networks that any phase of this stage changes."""

    @abstractmethod
    def enter(self, phase: int) -> None:
        """Prepares the networks for a phase: which parameters move, which parts behave as in training."""

    @abstractmethod
    def loss(self, x: Tensor, t: Tensor, phase: int) -> Result:
        """x: [B, 3, H, W] in 0..1; t: quality in 0..1, [B]."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that this stage may change, by the names they have in a weights file."""
        chosen = {id(p) for part in self.trained() for p in part.parameters()}
        return {name: p for name, p in self.networks.named_parameters() if id(p) in chosen}

    def rate_factor(self, name: str) -> float:
        """Learning rate of a parameter relative to the phase's: K and Kᵀ, orthonormal from the start, move slowly."""
        return self.shortcut_rate if name.endswith(".klt") else 1.0


def qualities(count: int, device: torch.device) -> Tensor:
    """One quality in 0..1 from each of `count` equal parts of the range, [count]: a step sees low rates and high."""
    return (torch.arange(count, device=device) + torch.rand(1, device=device)) / count


def balance(t: Tensor) -> Tensor:
    """(λ/0.017)^−0.4, [B]: losses at low and high quality then weigh about the same."""
    return (quality.multiplier(t) / NEUTRAL) ** -0.4


def squared_error(decoded: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each picture in 0..255 units, [B]."""
    return (decoded - x).square().mean((1, 2, 3)) * 255**2
