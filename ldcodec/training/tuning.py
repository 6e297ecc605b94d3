"""The error of a crop that the encoder codes for the eye: squared error and lost structure together.

λ prices squared errors, so structure is given in squared levels: as many as, along the rate-distortion curve, go with
the same bits.
"""

import torch
from torch import Tensor

from ldcodec.bitstream import quality
from ldcodec.training.stages import NEUTRAL
from ldcodec.training.structure import structure_lost

PLAIN = 0.25  # the share of the squared error, which alone knows means
# What a lost structure of 1 weighs in squared levels at λ = NEUTRAL, and its power of λ/NEUTRAL: from one quality to
# the next, pictures of `base` and of a young `light` lose 3,600 squared levels for it at quality 10, 2,800 at 50 and
# 1,850 at 90 (48 crops of 192×192).
STRUCTURE, POWER = 2560.0, -0.12


def places(count: int, share: float, device: torch.device) -> Tensor:
    """Which of so many crops are coded for the eye: about this share of them, evenly spread from a random one on.

    Crops are ordered by quality, so that both tunings see all qualities.
    """
    chosen = int(count * share)
    if not chosen:
        return torch.empty(0, dtype=torch.long, device=device)
    spread = ((torch.arange(chosen, device=device) + 0.5) / share).long()
    return (spread + torch.randint(count, (1,), device=device)) % count


def visual_errors(decoded: Tensor, x: Tensor, error: Tensor, t: Tensor) -> Tensor:
    """The error for the eye of pictures decoded [B, 3, H, W] of x in 0..1, in squared levels: [B].

    error: their squared errors, [B]; t: their qualities, [B].
    """
    weight = STRUCTURE * (quality.multiplier(t) / NEUTRAL) ** POWER
    return torch.lerp(weight * structure_lost(decoded, x), error, PLAIN)
