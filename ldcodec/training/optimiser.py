"""AdamW with clipped gradients, in as few passes over the memory as torch allows; on request Muon for hidden layers.

Muon (Jordan et al. 2024) replaces the momentum of a weight matrix by the nearest orthogonal matrix, found with the
Newton–Schulz iteration. A convolution is taken as a matrix of outputs × everything that one output reads. Updates are
scaled to the size of Adam's (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2), so that both can share
a learning rate. `torch.optim.Muon` takes the same step (tested), but it wants 2-D parameters, reads the learning rate
on the CPU, which a recorded step cannot, and cannot skip a step whose gradient is not finite.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ldcodec.training.stages import Stage

BETAS, EPSILON = (0.9, 0.98), 1e-8
NORM_LIMIT = 1.0
MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: five iterations take singular values to 0.7 … 1.2
ITERATIONS = 5
ADAM_SIZE = 0.2  # typical root mean square of an update of Adam, in learning rates


class ClippedAdam(torch.optim.AdamW):
    """AdamW without weight decay, on gradients clipped to norm 1. The state is that of torch.optim.AdamW.

    Parameter groups with `orthogonal` are moved by Muon, which uses only the first moment.

    The step of a small model is bound by memory, so two passes are saved: the fused kernel does the clipping, and it
    gets channels-last tensors as contiguous views, because it would copy them otherwise.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float] = BETAS) -> None:
        super().__init__(groups, betas=betas, eps=EPSILON, weight_decay=0, fused=True)

    @torch.no_grad()
    def clipped_step(self) -> Tensor:
        """Make a step. Returns a scalar: 0, or 1 if the gradient is not finite, in which case no parameter changes.

        The choice is made on the GPU, which the CPU therefore does not wait for.
        """
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in moved])
        broken = (~torch.isfinite(norm)).float()
        excess = (norm / NORM_LIMIT).clamp(min=1)
        needed = excess.is_cuda or bool(excess > 1)  # on a CPU the division is another pass over the gradients
        for group in self.param_groups:
            if group.get("orthogonal"):
                self._move_by_muon(group, broken)
            else:
                self._move_by_adam(group, excess if needed else None, broken)
        return broken

    def _move_by_muon(self, group: dict[str, Any], broken: Tensor) -> None:
        """A step of Muon, for all matrices of one shape at once."""
        shapes: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes[parameter.shape].append(parameter)
        for alike in shapes.values():
            updates = []
            for parameter in alike:
                gradient = torch.where(broken > 0, 0, parameter.grad)  # type: ignore[arg-type]
                momentum = self.held(parameter)["exp_avg"]
                momentum.lerp_(gradient, 1 - MOMENTUM)
                updates.append(_by_output(gradient.lerp(momentum, MOMENTUM)).flatten(1))  # Nesterov momentum
            rows, columns = updates[0].shape
            size = ADAM_SIZE * max(rows, columns) ** 0.5 * group["lr"] * (1 - broken)
            for parameter, update in zip(alike, orthogonal(torch.stack(updates)), strict=True):
                seen = _by_output(parameter)
                seen.sub_(update.view(seen.shape).to(parameter) * size)

    def _move_by_adam(self, group: dict[str, Any], excess: Tensor | None, broken: Tensor) -> None:
        moved = [p for p in group["params"] if p.grad is not None]
        held = [self.held(p) for p in moved]
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
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def held(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter, zeros before its first step."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state


def orthogonal(matrices: Tensor) -> Tensor:
    """[n, rows, columns] → nearly the nearest (semi-)orthogonal matrices, bfloat16."""
    a, b, c = QUINTIC
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.transpose(1, 2)
    x: Tensor = (wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-20)).bfloat16()
    for _ in range(ITERATIONS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide is matrices else x.transpose(1, 2)


def stage_optimiser(stage: Stage) -> ClippedAdam:
    """An optimiser with a parameter group for each optimiser and learning rate; `factor` is relative to the phase's."""
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in stage.parameters().items():
        groups[stage.rate_factor(name), stage.muon and _hidden(name, parameter)].append(parameter)
    return ClippedAdam(
        [
            {"params": found, "factor": factor, "orthogonal": orthogonal}
            for (factor, orthogonal), found in groups.items()
        ]
    )


def _hidden(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a convolution between hidden channels, which neither reads nor makes pictures."""
    ends = ("stem.weight", "head.weight", ".klt")
    return parameter.ndim == 4 and not name.endswith(ends)


def _by_output(x: Tensor) -> Tensor:
    """Weights [n, m, k, k] of a convolution as [n, k, k, m], contiguous where they are in channels-last memory."""
    return x.permute(0, 2, 3, 1)


def _dense(x: Tensor) -> Tensor:
    return _by_output(x) if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x
