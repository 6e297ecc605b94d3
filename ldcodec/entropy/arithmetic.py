"""What the integer rate model does with arrays, as a seam between it and the library that computes.

Arrays are whole numbers carried in float64, of any shape; `+`, `*`, `+=`, `*=`, slices and `reshape` mean the same in
NumPy and in PyTorch, and the rest stands here. `NumpyArithmetic` needs NumPy alone; `tensors` has PyTorch's.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any  # of the library that computes: float64


class Arithmetic(Protocol):
    """The operations of one library on one device. What is named *in place* returns its first argument."""

    def __hash__(self) -> int:
        """Two that compute the same way on the same device are equal."""

    @property
    def name(self) -> str:
        """What computes, for people."""

    @property
    def parallel(self) -> bool:
        """Whether slices gain from being parsed in several threads, which share PyTorch's own."""

    def exact(self) -> AbstractContextManager[object]:
        """A context in which nothing makes numbers narrower or follows gradients."""

    def array(self, values: NDArray[Any]) -> Array:
        """Whole numbers as an array of its own, contiguous."""

    def zeros(self, *shape: int) -> Array:
        """An array of zeros."""

    def numbers(self, x: Array, kind: type[np.integer[Any]]) -> NDArray[Any]:
        """An array of whole numbers as NumPy's, in an integer type that holds them."""

    def floored(self, x: Array) -> Array:
        """⌊x⌋, in place."""

    def limited(self, x: Array, low: float, high: float) -> Array:
        """x cut to low … high, in place."""

    def larger(self, x: Array, y: Array) -> Array:
        """max(x, y), elementwise, in place."""

    def product(self, total: Array, matrix: Array, columns: Array) -> Array:
        """total [n, s] += matrix [n, m] · columns [m, s], in place; columns may be a view into a wider array."""

    def padded(self, x: Array) -> Array:
        """[m, h, w] → [m, h + 3, w + 2]: zeros around it, and one row more below."""

    def doubled(self, x: Array) -> Array:
        """Pixel shuffle: [4·c, h, w] → [c, 2h, 2w]; channel 4c + 2a + b goes to the positions (2i + a, 2j + b)."""


@dataclass(frozen=True)
class NumpyArithmetic:
    """NumPy on the CPU: its matrix products are those of a BLAS."""

    name = "NumPy"
    parallel = False  # its BLAS has threads of its own

    def exact(self) -> AbstractContextManager[object]:
        """NumPy does neither."""
        return nullcontext()

    def array(self, values: NDArray[Any]) -> Array:
        """A copy."""
        return np.array(values, np.float64)

    def zeros(self, *shape: int) -> Array:
        """In float64."""
        return np.zeros(shape)

    def numbers(self, x: Array, kind: type[np.integer[Any]]) -> NDArray[Any]:
        """A copy."""
        found: NDArray[Any] = x.astype(kind)
        return found

    def floored(self, x: Array) -> Array:
        """In place."""
        return np.floor(x, out=x)

    def limited(self, x: Array, low: float, high: float) -> Array:
        """In place."""
        return np.clip(x, low, high, out=x)

    def larger(self, x: Array, y: Array) -> Array:
        """In place."""
        return np.maximum(x, y, out=x)

    def product(self, total: Array, matrix: Array, columns: Array) -> Array:
        """In place, through an array of the product's size."""
        total += matrix @ columns
        return total

    def padded(self, x: Array) -> Array:
        """[m, h, w] → [m, h + 3, w + 2]."""
        return np.pad(x, ((0, 0), (1, 2), (1, 1)))

    def doubled(self, x: Array) -> Array:
        """[4·c, h, w] → [c, 2h, 2w]."""
        channels, h, w = x.shape
        return x.reshape(channels // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(channels // 4, 2 * h, 2 * w)
