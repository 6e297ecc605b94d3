"""The array operations of the integer rate model, independent of the library that computes them.

Arrays hold whole numbers in float64. `+`, `*`, `+=`, `*=`, slicing and `reshape` mean the same in NumPy and PyTorch;
`Arithmetic` adds the operations that differ. `NumpyArithmetic` implements them here, `nets.tensors` for PyTorch.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any  # float64, of whichever library computes


class Arithmetic(Protocol):
    """The operations of one library on one device. Those marked *in place* return their first argument."""

    def __hash__(self) -> int:
        """Equal for instances that compute the same way on the same device: `integer.is_exact` caches by it."""

    @property
    def name(self) -> str:
        """The library or device, for messages."""

    @property
    def parallel(self) -> bool:
        """Whether parsing slices in several threads pays."""

    def exact(self) -> AbstractContextManager[object]:
        """A context in which nothing reduces precision (autocast) or records gradients."""

    def beside(self) -> AbstractContextManager[object]:
        """A context in which other threads compute as well, so that products should not take several cores."""

    def array(self, values: NDArray[Any]) -> Array:
        """Copy whole numbers into a new, contiguous array."""

    def matrix(self, values: NDArray[np.integer[Any]]) -> Array:
        """Copy a matrix of whole numbers into what `summed` takes."""

    def zeros(self, *shape: int) -> Array: ...

    def numbers(self, x: Array, kind: type[np.integer[Any]]) -> NDArray[Any]:
        """Convert whole numbers to a NumPy array of an integer type that can hold them."""

    def floored(self, x: Array) -> Array:
        """⌊x⌋, in place."""

    def limited(self, x: Array, low: float, high: float) -> Array:
        """Clamp x to low … high, in place."""

    def larger(self, x: Array, y: Array) -> Array:
        """max(x, y), elementwise, in place."""

    def summed(self, total: Array, factors: Iterable[tuple[Array, Array]]) -> Array:
        """total [n, s] += Σ matrix [n, m] · columns [m, s], in place; columns may be views into a wider array.

        The matrices are those of `matrix`.
        """

    def padded(self, x: Array) -> Array:
        """Zero-pad by one on every side, with a second row at the bottom: [m, h, w] → [m, h + 3, w + 2]."""

    def doubled(self, x: Array) -> Array:
        """Pixel shuffle: [4·c, h, w] → [c, 2h, 2w]; channel 4c + 2a + b fills the positions (2i + a, 2j + b)."""


@dataclass(frozen=True)
class NumpyArithmetic:
    """NumPy on the CPU."""

    name = "NumPy"
    parallel = True

    def exact(self) -> AbstractContextManager[object]:
        return nullcontext()

    def beside(self) -> AbstractContextManager[object]:
        from threadpoolctl import threadpool_limits

        limit: AbstractContextManager[object] = threadpool_limits(1, "blas")
        return limit

    def array(self, values: NDArray[Any]) -> Array:
        return np.array(values, np.float64)

    def matrix(self, values: NDArray[np.integer[Any]]) -> Array:
        return np.array(values)  # as they are, in a quarter of the memory; to convert them takes 2 ms a picture

    def zeros(self, *shape: int) -> Array:
        return np.zeros(shape)

    def numbers(self, x: Array, kind: type[np.integer[Any]]) -> NDArray[Any]:
        integers: NDArray[Any] = x.astype(kind)
        return integers

    def floored(self, x: Array) -> Array:
        return np.floor(x, out=x)

    def limited(self, x: Array, low: float, high: float) -> Array:
        return np.clip(x, low, high, out=x)

    def larger(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y, out=x)

    def summed(self, total: Array, factors: Iterable[tuple[Array, Array]]) -> Array:
        product = np.empty_like(total)  # one for all: filling a new one with pages takes a tenth of the time
        for matrix, columns in factors:
            total += np.matmul(matrix.astype(np.float64), columns, out=product)
        return total

    def padded(self, x: Array) -> Array:
        return np.pad(x, ((0, 0), (1, 2), (1, 1)))

    def doubled(self, x: Array) -> Array:
        channels, h, w = x.shape
        return x.reshape(channels // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(channels // 4, 2 * h, 2 * w)
