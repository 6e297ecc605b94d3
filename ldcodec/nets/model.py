"""A model: float networks, integer rate model, frequency tables, and the parse id by which files name it.

One safetensors file stores them all: `net.*` are the float networks (large tensors in half precision, those of the
analysis perhaps in 8 bits with a scale for each output channel), `integer.*` the parse-critical networks, `coder.*` the
frequency tables, `trellis.*` and `moments.*` those of the trellis, and `neighbours.*` what predicts the hyper-latent;
the metadata hold format, configuration and parse ids. A parse id is a hash of the integer tensors that parsing needs: a
file that names it can be parsed with these and with no others. The networks that render the picture and the moments of
the trellis are not part of it, so they may improve.
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from ldcodec.bitstream.atomic import replaced
from ldcodec.entropy import weights
from ldcodec.entropy.config import Config
from ldcodec.entropy.integer import IntegerRateModel
from ldcodec.entropy.modelfiles import DEFAULT_MODEL as DEFAULT_MODEL
from ldcodec.entropy.modelfiles import find_file, read_config
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.weights import (
    FORMAT,
    INTEGER_PREFIXES,
    INTEGER_TYPES,
    SCALE,
    check_shapes,
    parse_ids,
    rate_model,
    read_tensors,
)
from ldcodec.errors import ModelError, UsageError
from ldcodec.nets.networks import Networks
from ldcodec.nets.surroundings import built, survive_forks, undisturbed
from ldcodec.nets.tensors import TorchArithmetic

HALVED_ABOVE = 1024  # float tensors of more elements are stored in half precision


@dataclass(frozen=True)
class Model:
    """A loaded model, ready to encode and decode on `device`.

    parse_id: the 8 bytes by which the files that it writes name it; coders: those of its files and of older ones, by
    the parse ids that they name.
    """

    name: str
    parse_id: bytes
    coders: dict[bytes, Coder]
    networks: Networks
    integers: IntegerRateModel
    device: torch.device

    @property
    def coder(self) -> Coder:
        """The coder of the files that it writes."""
        return self.coders[self.parse_id]

    @property
    def threads(self) -> int:
        """Those that PyTorch may use."""
        return torch.get_num_threads()


def parse_id(tensors: dict[str, Tensor]) -> bytes:
    """The parse id (8 bytes) of a model's tensors; see `entropy.weights.parse_ids`."""
    return parse_ids(_integers(tensors))["parse_id"]


def _integers(tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in tensors.items() if name.startswith(INTEGER_PREFIXES)}


def save_model(
    path: Path, networks: Networks, integers: dict[str, Tensor], half: bool = True, compact: bool = False
) -> bytes:
    """Write a weights file, replacing an old one atomically, and return its parse id.

    half: store large tensors in half precision; compact: and those of `packs` in 8 bits.
    """
    floats: dict[str, Tensor] = {}
    for name, tensor in networks.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        if compact and packs(name, values):
            whole, scale = packed(values)
            floats |= {f"net.{name}": whole, f"net.{name}{SCALE}": scale}
        else:
            floats[f"net.{name}"] = values.half() if half and values.numel() > HALVED_ABOVE else values
    metadata = {"format": FORMAT, "config": json.dumps(asdict(networks.config))}
    metadata |= {key: found.hex() for key, found in parse_ids(_integers(integers)).items()}
    with replaced(path) as temporary:
        temporary.write_bytes(save({**floats, **integers}, metadata=metadata))
    return parse_id(integers)


def packs(name: str, tensor: Tensor) -> bool:
    """Whether a compact file stores a tensor of the networks in 8 bits: most of what decoding never reads."""
    return name.startswith("analysis.blocks") and tensor.ndim == 4 and tensor.numel() > HALVED_ABOVE


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight [n, …] as whole numbers from −127 to 127, int8, and the scale of each output channel, float32 [n]."""
    scale = weight.float().flatten(1).abs().amax(1).clamp(min=1e-9) / 127
    whole = weight.float() / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return whole.round().to(torch.int8).contiguous(), scale


def assembled(networks: Networks, integers: dict[str, Tensor]) -> Model:
    """A model that has not been written. Raises ModelError like `load_model`."""
    arrays, device = _integers(integers), networks.std.device
    ids = parse_ids(arrays)
    rate, coders = rate_model(Path(), networks.config, arrays, ids, TorchArithmetic(device), networks.means)
    return Model("", ids["parse_id"], coders, networks, rate, device)


def load_model(name_or_path: str | None = None, device: str = "auto", threads: int | None = None) -> Model:
    """Load a model by name (default: base) or path. The last few models stay loaded.

    device: "auto", "cpu" or "cuda"; threads: of PyTorch, which then has so many for everything.

    Raises ModelError for weights that are missing, damaged, not finite, of the wrong shape, or not those of their parse
    id, and UsageError for a device that this machine lacks.
    """
    path = find_file(name_or_path or DEFAULT_MODEL).resolve()
    if threads is not None:
        torch.set_num_threads(threads)
    return _load(path, path.stat().st_mtime_ns, device_named(device))


def device_named(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda". Raises UsageError for another name or without a GPU."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device on this machine")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=4)
@undisturbed()  # or those loaded in inference mode could never be refined with
def _load(path: Path, _modified: int, device: torch.device) -> Model:  # a changed file is another key
    survive_forks()
    tensors, metadata = read_tensors(path)
    config = read_config(path)
    _check_types(path, tensors)
    arrays = _integers(tensors)
    ids = weights.checked_ids(path, arrays, metadata)
    networks = _networks(path, config, tensors).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    integers, coders = rate_model(path, config, arrays, ids, TorchArithmetic(device), networks.means)
    return Model(path.parent.name, ids["parse_id"], coders, networks, integers, device)


def _networks(path: Path, config: Config, tensors: dict[str, Tensor]) -> Networks:
    check_shapes(path, tensors, outline(config))  # before networks of a claimed size are allocated
    networks = built(lambda: Networks(config))
    if any(name.startswith("net.texture.") for name in tensors):
        networks.add_texture()
    shapes = {f"net.{name}": tuple(tensor.shape) for name, tensor in networks.state_dict().items()}
    check_shapes(path, tensors, shapes)
    for name, target in networks.state_dict().items():
        stored = tensors.pop(f"net.{name}")  # freed one by one: peak memory is the model once, not twice
        if not torch.isfinite(stored).all():
            raise ModelError(f"{path}: net.{name} holds values that are not finite")
        target.copy_(stored)
    return networks.eval().requires_grad_(False)


def outline(config: Config) -> dict[str, tuple[int, ...]]:
    """The shapes of a few float tensors that bound all widths and depths of a configuration."""
    c = config
    shapes: dict[str, tuple[int, ...]] = {"net.analysis.down.weight": (c.width16, c.width8, 2, 2)}
    for name, count, width in (
        ("analysis.blocks8", c.blocks8, c.width8),
        ("analysis.blocks16", c.blocks16, c.width16),
        ("synthesis.blocks8", c.synthesis.blocks8, c.synthesis.width8),
        ("synthesis.blocks16", c.synthesis.blocks16, c.synthesis.width16),
        ("denoiser.blocks", c.denoiser_blocks, c.denoiser),
    ):
        shapes |= {f"net.{name}.{k}.first.weight": (width, width, 3, 3) for k in range(count)}
    return shapes


def _check_types(path: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        critical = name.startswith(INTEGER_PREFIXES)
        if not (str(tensor.dtype).removeprefix("torch.") in INTEGER_TYPES if critical else tensor.is_floating_point()):
            raise ModelError(f"{path}: {name} must hold {'integers' if critical else 'floats'}, not {tensor.dtype}")
