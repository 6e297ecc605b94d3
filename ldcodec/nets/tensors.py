"""The `Arithmetic` of the integer rate model in PyTorch, on a CPU or a GPU."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

KINDS = {np.int32: torch.int32, np.int64: torch.int64, np.uint8: torch.uint8}


@dataclass(frozen=True)
class TorchArithmetic:
    """PyTorch on one device; `entropy.arithmetic.Arithmetic` documents the methods."""

    device: torch.device

    @property
    def name(self) -> str:
        return str(self.device)

    @property
    def parallel(self) -> bool:
        return self.device.type == "cpu"

    def exact(self) -> AbstractContextManager[object]:
        return _exact(self.device.type)

    def beside(self) -> AbstractContextManager[object]:
        return nullcontext()  # whoever makes threads sets how many PyTorch has in each (`decoder.threads`)

    def array(self, values: NDArray[Any]) -> Tensor:
        return torch.tensor(np.ascontiguousarray(values), dtype=torch.float64, device=self.device)

    def matrix(self, values: NDArray[np.integer[Any]]) -> Tensor:
        return self.array(values)

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def numbers(self, x: Tensor, kind: type[np.integer[Any]]) -> NDArray[Any]:
        integers: NDArray[Any] = x.to(KINDS[kind]).cpu().numpy()  # converted first, so that fewer bytes are transferred
        return integers

    def floored(self, x: Tensor) -> Tensor:
        return x.floor_()

    def limited(self, x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp_(low, high)

    def larger(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.maximum(x, y, out=x)

    def summed(self, total: Tensor, factors: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        for matrix, columns in factors:
            total.addmm_(matrix, columns)  # without a temporary array of the product's size
        return total

    def padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 1, 1, 2))

    def doubled(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2)


@contextmanager
def _exact(device: str) -> Iterator[None]:
    with torch.no_grad(), torch.autocast(device, enabled=False):
        yield
