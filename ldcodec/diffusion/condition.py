"""What the decoder knows of a latent, in the arrays of whatever library computes."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Array = Any  # NumPy's or PyTorch's, float32
A = TypeVar("A")


@dataclass(frozen=True)
class Condition(Generic[A]):
    """What the decoder knows of each latent, in quantisation steps.

    centre: μ + m, the centroid; deviation: d > 0 around it; scale: σ > 0 of the rate model; all [B, M, h, w] float32.
    quality: t in 0..1, [B].
    """

    centre: A
    deviation: A
    scale: A
    quality: A
