"""Picture → latent.

picture ─┬─ unshuffle 8 ─ conv3×3 ─ blocks at 1/8 ─ act ─┊─ ×q8(t) ─ conv2×2/2 ─ blocks at 1/16 ─ act ─┐
         │                     does not depend on t ◄────┊              latent ◄─ + ◄─ conv3×3 ◄─ ×q16(t)
         └─ unshuffle 16 ─ K (KLT) ──────────────────────┊────────────────────────┘
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, empty, nn

from ldcodec.entropy.config import Config
from ldcodec.nets.blocks import QualityScale, Residual, act, blockwise, gathered, regrouped


@dataclass(frozen=True)
class Base:
    """What the analysis knows of a picture before the quality enters: features [B, C8, 2h, 2w] and the linear part
    [B, M, h, w].
    """

    features: Tensor
    linear: Tensor


class Analysis(nn.Module):
    """The analysis transform g_a with the linear shortcut K, a learned parameter that starts as the KLT of 16×16 RGB
    blocks.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config
        self.stem, self.down = nn.Conv2d(192, c.width8, 3, padding=1), nn.Conv2d(c.width8, c.width16, 2, 2)
        self.blocks8 = nn.Sequential(*(Residual(c.width8) for _ in range(c.blocks8)))
        self.blocks16 = nn.Sequential(*(Residual(c.width16) for _ in range(c.blocks16)))
        self.head = nn.Conv2d(c.width16, c.latent, 3, padding=1)
        self.quality8, self.quality16 = QualityScale(c.width8), QualityScale(c.width16)
        self.klt = nn.Parameter(empty(c.latent, 768))

    def base(self, x: Tensor) -> Base:
        """x: [B, 3, H, W] in 0..1, H and W multiples of 64 → what no quality changes, once for a rate search."""
        centred = x - 0.5
        stem = F.conv2d(gathered(2 * centred, 8), regrouped(self.stem.weight, 8, 1), self.stem.bias, padding=1)
        return Base(act(self.blocks8(stem)), blockwise(255 * regrouped(self.klt, 16, 1), gathered(centred, 16)))

    def finish(self, base: Base, t: Tensor, std: Tensor) -> Tensor:
        """t: [B] in 0..1; std: [M, 1, 1], the deviation of each latent over the training pictures → latent [B, M, h,
        w], gain not applied.
        """
        hidden = self.blocks16(self.down(base.features * self.quality8(t)))
        residual: Tensor = self.head(act(hidden) * self.quality16(t)) * (0.1 * std.clamp(4, 64))
        return residual.float() + base.linear

    def forward(self, x: Tensor, t: Tensor, std: Tensor) -> Tensor:
        """Picture [B, 3, H, W] in 0..1 → latent [B, M, h, w], gain not applied."""
        return self.finish(self.base(x), t, std)
