"""What a run leaves on disk: weights to release or to start from, and states to resume from, as safetensors files.

A state holds the weights in full precision (`net.*`), their running average (`average.*`), Adam's moments and step
counts (`first.*`, `second.*`, `count.*`), what else the stage holds (`held.*`) and, in its metadata, where on the clock
the run stands. A weights file holds only the running average, large tensors in half precision.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ldcodec.bitstream.atomic import replaced
from ldcodec.entropy.weights import read_tensors
from ldcodec.errors import ModelError
from ldcodec.nets.model import HALVED_ABOVE
from ldcodec.nets.networks import Networks

FORMAT = "ldcodec-training-1"
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq", "count": "step"}  # name in a state → torch.optim.AdamW's


@dataclass(frozen=True)
class Progress:
    """Where a run stands: stage and phase, steps made, steps made before the phase began, minutes spent on training."""

    stage: str
    phase: int = 0
    step: int = 0
    phase_step: int = 0
    minutes: float = 0.0


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    stored = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with replaced(path) as temporary:
        save_file(stored, str(temporary), metadata=metadata)


def rounded(networks: Networks) -> dict[str, Tensor]:
    """The weights as a weights file stores them, by name: float16 where large, else float32."""
    return {name: t.half() if t.numel() > HALVED_ABOVE else t.float() for name, t in networks.state_dict().items()}


def write_weights(path: Path, networks: Networks, progress: Progress) -> None:
    """Write weights that can be exported, and from which every stage can start."""
    write_tensors(path, *_weights(networks, progress))


def write_parts(folder: Path, name: str, networks: Networks, progress: Progress, limit: int) -> list[Path]:
    """The same as files NAME-1.safetensors, NAME-2.safetensors … of at most about `limit` bytes, to be moved singly.

    A tensor is never cut, so one that is larger makes a larger file.
    """
    tensors, metadata = _weights(networks, progress)
    parts: list[dict[str, Tensor]] = [{}]
    for key, tensor in tensors.items():
        if parts[-1] and sum(t.nbytes for t in parts[-1].values()) + tensor.nbytes > limit:
            parts.append({})
        parts[-1][key] = tensor
    paths = [folder / f"{name}-{number}.safetensors" for number in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        write_tensors(path, part, metadata)
    return paths


def _weights(networks: Networks, progress: Progress) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a weights file."""
    tensors = {f"net.{name}": t for name, t in rounded(networks).items()}
    return tensors, {"config": json.dumps(asdict(networks.config)), "progress": json.dumps(asdict(progress))}


def progress_of(path: Path) -> Progress | None:
    """Where the run stood that left a file or a pattern of parts; None for a file that says nothing of it."""
    named = read_tensors(next(iter(sorted(path.parent.glob(path.name))), path), prefixes=("none",))[1].get("progress")
    return None if named is None else Progress(**json.loads(named))


def write_state(
    path: Path,
    networks: Networks,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    settings: str,
    held: dict[str, Tensor],
) -> None:
    """Write all that is needed to resume a run. settings: JSON, for the record only; held: see `Stage.held`."""
    tensors = {f"net.{name}": t for name, t in networks.state_dict().items()}
    tensors |= {f"held.{name}": t for name, t in held.items()}
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
    held: dict[str, Tensor],
) -> Progress:
    """Fill running average, moments and what else the stage holds from a state whose weights the networks already have.

    What a stage holds and the state does not, because the settings have changed, begins afresh. Returns where the run
    stands. Raises ModelError for a file that is not a state of this stage.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path}: not a training state; to start from its weights, use --start")
    progress = Progress(**json.loads(metadata["progress"]))
    if progress.stage != stage:
        raise ModelError(
            f"{path}: a state of stage {progress.stage}; to start stage {stage} from its weights, use --start"
        )
    for name, tensor in held.items():
        if f"held.{name}" in tensors:
            tensor.copy_(tensors[f"held.{name}"])
    for name, parameter in parameters.items():
        average[name].copy_(tensors[f"average.{name}"])
        if f"count.{name}" in tensors:
            optimiser.state[parameter] = {
                theirs: _like(tensors[f"{ours}.{name}"], parameter) for ours, theirs in MOMENTS.items()
            }
    return progress


def _like(stored: Tensor, parameter: nn.Parameter) -> Tensor:
    """A moment in its parameter's memory layout, which the fused optimiser expects; step counts are scalars."""
    if stored.ndim == 0:
        return stored.to(parameter.device)
    return torch.empty_like(parameter, memory_format=torch.preserve_format, requires_grad=False).copy_(stored)
