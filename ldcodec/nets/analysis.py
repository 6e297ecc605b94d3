"""The analysis transform: picture → latent.

picture ─┬─ unshuffle 8 ─ conv3×3 ─ blocks at 1/8 ─ act ─┊─ ×q8(t) ─ conv2×2/2 ─ blocks at 1/16 ─ act ─┐
         │                     does not depend on t ◄────┊              latent ◄─ + ◄─ conv3×3 ◄─ ×q16(t)
         └─ unshuffle 16 ─ K (KLT) ──────────────────────┊────────────────────────┘

In a model with `Config.tuned`, the two factors q depend on a tuning too: 0 for the least squared error, 1 for the eye.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, empty, nn

from ldcodec.entropy.config import HEAD_SCALE, Config
from ldcodec.nets.blocks import QualityScale, Residual, act, blockwise, regrouped, space_to_depth


@dataclass(frozen=True)
class Base:
    """The part of the analysis that does not depend on the quality: features [B, C8, 2h, 2w], shortcut [B, M, h, w]."""

    features: Tensor
    linear: Tensor


class Analysis(nn.Module):
    """g_a with the linear shortcut K, which is trained too and starts as the KLT of 16×16 RGB blocks."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config
        self.stem, self.down = nn.Conv2d(192, c.width8, 3, padding=1), nn.Conv2d(c.width8, c.width16, 2, 2)
        self.blocks8 = nn.Sequential(*(Residual(c.width8) for _ in range(c.blocks8)))
        self.blocks16 = nn.Sequential(*(Residual(c.width16) for _ in range(c.blocks16)))
        self.head = nn.Conv2d(c.width16, c.latent, 3, padding=1)
        self.quality8, self.quality16 = QualityScale(c.width8), QualityScale(c.width16)
        self.tuned8 = QualityScale(c.width8) if c.tuned else None
        self.tuned16 = QualityScale(c.width16) if c.tuned else None
        self.klt = nn.Parameter(empty(c.latent, 768))

    def base(self, x: Tensor) -> Base:
        """Picture [B, 3, H, W] in 0..1, H and W multiples of 64 → what a rate search computes only once."""
        centred = x - 0.5
        stem = F.conv2d(space_to_depth(2 * centred, 8), regrouped(self.stem.weight, 8, 1), self.stem.bias, padding=1)
        return Base(act(self.blocks8(stem)), self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """The linear part alone of a picture [B, 3, H, W] in 0..1: [B, M, h, w]."""
        return blockwise(255 * regrouped(self.klt, 16, 1), space_to_depth(x - 0.5, 16))

    def finish(self, base: Base, t: Tensor, std: Tensor, tuning: Tensor | None = None) -> Tensor:
        """The latent [B, M, h, w] at qualities t [B] in 0..1, before the gain.

        std: [M, 1, 1], the standard deviation of each channel over the training pictures; tuning: [B] in 0..1, None
        for 0, without effect in a model that is not tuned.
        """
        hidden = self.blocks16(self.down(base.features * _factor(self.quality8, self.tuned8, t, tuning)))
        hidden = act(hidden) * _factor(self.quality16, self.tuned16, t, tuning)
        residual: Tensor = self.head(hidden) * (HEAD_SCALE * std.clamp(4, 64))
        return residual.float() + base.linear

    def forward(self, x: Tensor, t: Tensor, std: Tensor, tuning: Tensor | None = None) -> Tensor:
        """Picture [B, 3, H, W] in 0..1 → latent [B, M, h, w], before the gain."""
        return self.finish(self.base(x), t, std, tuning)


def _factor(quality: QualityScale, tuned: QualityScale | None, t: Tensor, tuning: Tensor | None) -> Tensor:
    """The factor of the quality alone at tuning 0, times that of the tuning at 1, and in between by its power."""
    factor: Tensor = quality(t)
    return factor if tuned is None or tuning is None else factor * tuned(t) ** tuning[:, None, None, None]
