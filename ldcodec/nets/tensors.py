"""The arithmetic of the integer rate model in PyTorch, on a CPU or a GPU."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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
    """PyTorch on one device; see `arithmetic.Arithmetic`."""

    device: torch.device

    @property
    def name(self) -> str:
        """The device."""
        return str(self.device)

    @property
    def parallel(self) -> bool:
        """On the CPU; a GPU is one."""
        return self.device.type == "cpu"

    def exact(self) -> AbstractContextManager[object]:
        """Without gradients and autocast."""
        return _exact(self.device.type)

    def array(self, values: NDArray[Any]) -> Tensor:
        """On the device, in float64."""
        return torch.tensor(np.ascontiguousarray(values), dtype=torch.float64, device=self.device)

    def zeros(self, *shape: int) -> Tensor:
        """On the device, in float64."""
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def numbers(self, x: Tensor, kind: type[np.integer[Any]]) -> NDArray[Any]:
        """Made whole on the device, so that fewer bytes leave it."""
        found: NDArray[Any] = x.to(KINDS[kind]).cpu().numpy()
        return found

    def floored(self, x: Tensor) -> Tensor:
        """In place."""
        return x.floor_()

    def limited(self, x: Tensor, low: float, high: float) -> Tensor:
        """In place."""
        return x.clamp_(low, high)

    def larger(self, x: Tensor, y: Tensor) -> Tensor:
        """In place."""
        return torch.maximum(x, y, out=x)

    def product(self, total: Tensor, matrix: Tensor, columns: Tensor) -> Tensor:
        """In place, without an array of the product's size."""
        return total.addmm_(matrix, columns)

    def padded(self, x: Tensor) -> Tensor:
        """[m, h, w] → [m, h + 3, w + 2]."""
        return F.pad(x, (1, 1, 1, 2))

    def doubled(self, x: Tensor) -> Tensor:
        """[4·c, h, w] → [c, 2h, 2w]."""
        return F.pixel_shuffle(x, 2)


@contextmanager
def _exact(device: str) -> Iterator[None]:
    with torch.no_grad(), torch.autocast(device, enabled=False):
        yield
