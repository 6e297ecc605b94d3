"""What a run leaves on disk: weights to ship or to start from, and states to go on from. safetensors only.

A state holds the weights in full precision (`net.*`), their running average (`average.*`), Adam's moments and step
counts (`first.*`, `second.*`, `count.*`) and, in its metadata, where on the clock the run stands. A weights file holds
the running average alone, large tensors in half precision.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ldcodec.entropy.weights import read_tensors
from ldcodec.errors import ModelError
from ldcodec.nets.networks import Networks

FORMAT = "ldcodec-training-1"
LARGE = 1024  # tensors of more elements are stored in half precision in a weights file
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq", "count": "step"}  # ours → torch.optim.AdamW's


@dataclass(frozen=True)
class Progress:
    """Where a run stands: stage, phase, steps made in all and when the phase began, minutes spent on training."""

    stage: str
    phase: int = 0
    step: int = 0
    phase_step: int = 0
    minutes: float = 0.0


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file; the old one stays until the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, str(temporary), metadata=metadata
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def rounded(networks: Networks) -> dict[str, Tensor]:
    """The weights as a weights file stores them, by name: float16 where large, else float32."""
    return {name: t.half() if t.numel() > LARGE else t.float() for name, t in networks.state_dict().items()}


def write_weights(path: Path, networks: Networks, progress: Progress) -> None:
    """Writes weights that `export` and every stage take as a start."""
    tensors = {f"net.{name}": t for name, t in rounded(networks).items()}
    metadata = {"config": json.dumps(asdict(networks.config)), "progress": json.dumps(asdict(progress))}
    write_tensors(path, tensors, metadata)


def write_state(
    path: Path,
    networks: Networks,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    settings: str,
) -> None:
    """Writes all that a run needs to go on; settings: JSON, for the record."""
    tensors = {f"net.{name}": t for name, t in networks.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in average.items()}
    for name, parameter in networks.named_parameters():
        held = optimiser.state.get(parameter, {})
        tensors |= {f"{ours}.{name}": held[theirs] for ours, theirs in MOMENTS.items() if theirs in held}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(networks.config)), "settings": settings}
    write_tensors(path, tensors, metadata | {"progress": json.dumps(asdict(progress))})


def read_state(
    path: Path,
    parameters: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    stage: str,
) -> Progress:
    """Fills running average and moments from a state, whose weights the networks already have; returns where it stands.

    Raises ModelError for a file that is no state of this stage.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path}: not a training state; to start anew from weights, use --start")
    progress = Progress(**json.loads(metadata["progress"]))
    if progress.stage != stage:
        raise ModelError(
            f"{path}: a state of stage {progress.stage}; to start stage {stage} from its weights, use --start"
        )
    for name, parameter in parameters.items():
        average[name].copy_(tensors[f"average.{name}"])
        if f"count.{name}" in tensors:
            optimiser.state[parameter] = {
                theirs: _like(tensors[f"{ours}.{name}"], parameter) for ours, theirs in MOMENTS.items()
            }
    return progress


def _like(stored: Tensor, parameter: nn.Parameter) -> Tensor:
    """A tensor in the memory layout that the fused optimiser expects beside its parameter; step counts are scalars."""
    if stored.ndim == 0:
        return stored.to(parameter.device)
    return torch.empty_like(parameter, memory_format=torch.preserve_format, requires_grad=False).copy_(stored)
