"""The float tensors of a weights file, read and checked one network at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.weights import check_shapes, view_tensors
from ldcodec.errors import ModelError

Floats = NDArray[np.float32]


class StoredPart:
    """The tensors of a weights file whose names begin with `net.` and a prefix."""

    def __init__(self, path: Path, prefix: str) -> None:
        """Raises ModelError if the file cannot be read."""
        self._path, self._prefix = path, f"net.{prefix}"
        self._tensors = view_tensors(path, (self._prefix,))

    def __call__(self, name: str, *shape: int) -> Floats:
        """The tensor of a name. Raises ModelError if it is missing, of another shape, or not finite."""
        return self._stored(name, *shape).astype(np.float32)  # a copy: the file may change when this is done with it

    def _stored(self, name: str, *shape: int) -> NDArray[np.floating[Any]]:
        full = self._prefix + name
        check_shapes(self._path, self._tensors, {full: shape})
        values = self._tensors[full]
        if not np.issubdtype(values.dtype, np.floating) or not _finite(values):
            raise ModelError(f"{self._path}: {full} holds values that are not finite floats")
        kept: NDArray[np.floating[Any]] = (
            values if values.dtype == np.float16 else values.astype(np.float32, copy=False)
        )
        return kept

    def convolution(self, name: str, n: int, m: int, size: int = 3) -> tuple[NDArray[np.floating[Any]], Floats]:
        """Weight [n, m, size, size], a view of 16 or 32 bits as it is stored, and bias [n] of a layer."""
        return self._stored(f"{name}.weight", n, m, size, size), self(f"{name}.bias", n)

    def matrix(self, name: str, n: int, m: int) -> Floats:
        """The weight of a 1×1 convolution, [n, m]."""
        return self(f"{name}.weight", n, m, 1, 1).reshape(n, m)


def _finite(values: NDArray[np.floating[Any]]) -> bool:
    """Whether all values are finite. NumPy's own test takes twenty times as long for halves."""
    if values.dtype == np.float16:
        return bool((values.view(np.uint16) & np.uint16(0x7FFF)).max(initial=0) < 0x7C00)  # bits of infinity
    return bool(np.isfinite(values).all())


class Perceptron:
    """Two linear layers with a GELU between them; of them the networks' functions of quality and time consist."""

    def __init__(self, part: StoredPart, name: str, inputs: int, hidden: int, outputs: int) -> None:
        self._first = part(f"{name}.hidden.weight", hidden, inputs), part(f"{name}.hidden.bias", hidden)
        self._second = part(f"{name}.out.weight", outputs, hidden), part(f"{name}.out.bias", outputs)

    def __call__(self, *x: float) -> Floats:
        (first, start), (second, end) = self._first, self._second
        hidden = first @ np.array(x, np.float32) + start
        return np.asarray(second @ np.array([_gelu(h) for h in hidden.tolist()], np.float32) + end)


class QualityFactor:
    """A factor for each channel as a function of the quality, see `nets.blocks.QualityScale`."""

    def __init__(self, part: StoredPart, name: str, channels: int) -> None:
        self._perceptron = Perceptron(part, name, 1, 16, channels)

    def __call__(self, t: float) -> Floats:
        """t in 0..1 → [C, 1, 1]."""
        return np.exp(self._perceptron(2 * t - 1))[:, None, None]


def _gelu(x: float) -> float:
    return x * (1 + math.erf(x / math.sqrt(2))) / 2
