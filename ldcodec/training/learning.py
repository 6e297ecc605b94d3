"""One training step: the gradient of a stage's loss, then the optimiser; on a GPU compiled, recorded and replayed.

A step of `small` is over a thousand kernels of a few microseconds each. Launched one by one they leave the GPU idle
most of the time; as a CUDA graph they are a single launch (Gray, "Getting Started with CUDA Graphs", NVIDIA 2019).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ldcodec.nets.precision import autocast
from ldcodec.training.optimiser import ClippedAdam
from ldcodec.training.stages import Stage

Figures = dict[str, Tensor]
WARM_UP = 3  # steps before the recorded one: they compile, and let the libraries choose their algorithms


class Learner:
    """Makes the steps of a stage with one optimiser. compiled: whether a recorded step is compiled first."""

    def __init__(self, stage: Stage, optimiser: ClippedAdam, compiled: bool = True) -> None:
        self.stage, self.optimiser, self.compiled = stage, optimiser, compiled
        self.device = stage.networks.std.device
        self.recordings: dict[tuple[int, torch.Size], Recording] = {}
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")  # TF32 for the linear part of the transforms
            for group in optimiser.param_groups:  # a tensor, so that a recorded step sees it change
                group["lr"] = torch.zeros((), device=self.device)

    def step(self, x: Tensor, t: Tensor, phase: int, rate: float) -> Figures:
        """Make a step on pictures x [B, 3, H, W] in 0..1 at qualities t [B] in 0..1, with a learning rate.

        Returns the figures to report, means over the batch. Among them are `loss`, and `skipped`: 1 if the gradient was
        not finite, so that the weights did not change. The next step may overwrite these tensors.
        """
        self._set(rate)
        if self.device.type != "cuda" or not self.stage.steady:
            return self._learn(self.stage.loss, x, t, phase)
        key = phase, x.shape
        if key not in self.recordings:
            self.recordings = {}  # frees the memory of the last one
            self._prepare(x[:1], t[:1], phase)
            self.recordings = {key: self._recording(phase)}
        return self.recordings[key].run(x, t)

    def _set(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group["factor"])
            else:
                group["lr"] = rate * group["factor"]

    @torch.no_grad()
    def _prepare(self, x: Tensor, t: Tensor, phase: int) -> None:
        """Builds the tables that compiled code expects to find, without a change to the random numbers of the step."""
        with torch.random.fork_rng([self.device]):
            self.stage.loss(x, t, phase)

    def _recording(self, phase: int) -> "Recording":
        loss = torch.compile(self.stage.loss, dynamic=False) if self.compiled else self.stage.loss
        return Recording(lambda x, t: self._learn(loss, x, t, phase), lambda: self.optimiser.zero_grad(True))

    def _learn(self, loss: Callable[..., object], x: Tensor, t: Tensor, phase: int) -> Figures:
        self.optimiser.zero_grad(set_to_none=True)
        with autocast(x.device):
            result = loss(x, t, phase)
        result.loss.backward()  # type: ignore[attr-defined]
        skipped = self.optimiser.clipped_step()
        return {"loss": result.loss.detach(), **result.figures, "skipped": skipped}  # type: ignore[attr-defined]


@dataclass
class Recording:
    """Steps of one shape on a GPU: the first few are made as usual, the next one is recorded and then replayed."""

    learn: Callable[[Tensor, Tensor], Figures]
    forget: Callable[[], None]
    made: int = 0

    def run(self, x: Tensor, t: Tensor) -> Figures:
        """Make a step; x and t always have the same shapes."""
        if self.made == 0:
            self.x, self.t = x.clone(), t.clone()
            self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.x.copy_(x)
        self.t.copy_(t)
        if self.made < WARM_UP:
            self._warm_up()
        elif self.made == WARM_UP:
            self._record()
        if self.made >= WARM_UP:
            self.graph.replay()
        self.made += 1
        return self.figures

    def _warm_up(self) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.figures = self.learn(self.x, self.t)
        torch.cuda.current_stream().wait_stream(self.stream)

    def _record(self) -> None:
        self.forget()  # so that the recorded step allocates gradients in its own memory
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.figures = self.learn(self.x, self.t)
