"""AdamW for a stage: clipped, fused, in as few passes over the memory as torch has."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ldcodec.training.stages import Stage

BETAS, EPSILON = (0.9, 0.98), 1e-8
NORM_LIMIT = 1.0


class ClippedAdam(torch.optim.AdamW):
    """AdamW without decay on gradients clipped to norm 1; its state is that of torch.optim.AdamW.

    The step of a small model is bound by memory. Two passes go: clipping happens inside the fused kernel, and this
    kernel gets channels-last tensors as contiguous views, because otherwise it copies every one of them.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, betas=BETAS, eps=EPSILON, weight_decay=0, fused=True)

    @torch.no_grad()
    def clipped_step(self) -> Tensor:
        """One step; changes nothing and returns 1, else 0, if the gradient is not finite.

        Nothing waits for a GPU here: it is told what to do if the norm turns out so or so.
        """
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in moved])
        broken = (~torch.isfinite(norm)).float()
        excess = (norm / NORM_LIMIT).clamp(min=1)
        needed = excess.is_cuda or bool(excess > 1)  # dividing by it is one more pass over the gradients
        for group in self.param_groups:
            self._move(group, excess if needed else None, broken)
        return broken

    def _move(self, group: dict[str, Any], excess: Tensor | None, broken: Tensor) -> None:
        moved = [p for p in group["params"] if p.grad is not None]
        held = [self._held(p) for p in moved]
        adamw(
            [_dense(p) for p in moved],
            [_dense(p.grad) for p in moved],
            [_dense(state["exp_avg"]) for state in held],
            [_dense(state["exp_avg_sq"]) for state in held],
            [],
            [state["step"] for state in held],
            fused=True,
            grad_scale=excess,
            found_inf=broken,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def _held(self, parameter: Tensor) -> dict[str, Tensor]:
        """The moments of a parameter, zero before its first step."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state


def stage_optimiser(stage: Stage) -> ClippedAdam:
    """One parameter group for each learning rate relative to the phase's, kept under `factor`."""
    groups: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in stage.parameters().items():
        groups[stage.rate_factor(name)].append(parameter)
    return ClippedAdam([{"params": parameters, "factor": factor} for factor, parameters in groups.items()])


def _dense(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x
