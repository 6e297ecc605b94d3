"""AdamW for a stage: clipped, fused, in as few passes over the memory as torch has; Muon for hidden layers, if asked.

Muon (Jordan et al. 2024) replaces the momentum of a weight matrix by the nearest orthogonal one, found by Newton and
Schulz's iteration. A convolution counts as a matrix of outputs × everything that one output reads. Updates are scaled
to the size that Adam's have (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2), so both share a
learning rate.
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
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: singular values go to 0.7..1.2 in five iterations
ITERATIONS = 5
ADAM_SIZE = 0.2  # root mean square of an update of Adam, in learning rates


class ClippedAdam(torch.optim.AdamW):
    """AdamW without decay on gradients clipped to norm 1; its state is that of torch.optim.AdamW.

    Groups with `orthogonal` are Muon's; of the state they use the first moment alone.

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
            if group.get("orthogonal"):
                self._turn(group, broken)
            else:
                self._move(group, excess if needed else None, broken)
        return broken

    def _turn(self, group: dict[str, Any], broken: Tensor) -> None:
        """Muon's step, all matrices of one shape together."""
        shapes: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes[parameter.shape].append(parameter)
        for alike in shapes.values():
            updates = []
            for parameter in alike:
                gradient = torch.where(broken > 0, 0, parameter.grad)  # type: ignore[arg-type]
                momentum = self._held(parameter)["exp_avg"]
                momentum.lerp_(gradient, 1 - MOMENTUM)
                updates.append(_by_output(gradient.lerp(momentum, MOMENTUM)).flatten(1))  # Nesterov's
            rows, columns = updates[0].shape
            size = ADAM_SIZE * max(rows, columns) ** 0.5 * group["lr"] * (1 - broken)
            for parameter, update in zip(alike, orthogonal(torch.stack(updates)), strict=True):
                seen = _by_output(parameter)
                seen.sub_(update.view(seen.shape).to(parameter) * size)

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


def orthogonal(matrices: Tensor) -> Tensor:
    """[n, rows, columns] → about the nearest (semi-)orthogonal matrices, in bfloat16."""
    a, b, c = QUINTIC
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.transpose(1, 2)
    x: Tensor = (wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-20)).bfloat16()
    for _ in range(ITERATIONS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide is matrices else x.transpose(1, 2)


def stage_optimiser(stage: Stage) -> ClippedAdam:
    """One parameter group for each kind of step and learning rate relative to the phase's, kept under `factor`."""
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in stage.parameters().items():
        groups[stage.rate_factor(name), stage.muon and _hidden(name, parameter)].append(parameter)
    return ClippedAdam(
        [{"params": found, "factor": factor, "orthogonal": turned} for (factor, turned), found in groups.items()]
    )


def _hidden(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix between hidden channels; not what reads pictures or makes them."""
    ends = ("stem.weight", "head.weight", ".klt")
    return parameter.ndim == 4 and not name.endswith(ends)


def _by_output(x: Tensor) -> Tensor:
    """A convolution's weights [n, m, k, k] as [n, k, k, m], without a copy the way channels-last memory holds them."""
    return x.permute(0, 2, 3, 1)


def _dense(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x
