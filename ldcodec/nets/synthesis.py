"""The synthesis transform: latent → picture, the mirror of the analysis.

latent ─┬─ conv3×3 ─ ×q16(t) ─ blocks at 1/16 ─ act ─ conv1×1 ─ shuffle 2 ─ ×q8(t) ─ blocks at 1/8 ─ act ─┐
        │                                                     picture ◄─ + ◄─ shuffle 8 ◄─ conv3×3 ◄──────┘
        └─ Kᵀ ─ shuffle 16 ────────────────────────────────────────────────┘
"""

import torch.nn.functional as F
from torch import Tensor, empty, nn

from ldcodec.entropy.config import COARSE_RANGE, FINE_RANGE, LATENT_RANGE, RESIDUAL_SCALE, Config
from ldcodec.nets.blocks import QualityScale, Residual, act, blockwise, depth_to_space, regrouped, upsampled


class Synthesis(nn.Module):
    """g_s with the linear shortcut Kᵀ, which is trained too and starts as the transpose of the analysis' K."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.synthesis
        self.stem, self.up = nn.Conv2d(config.latent, c.width16, 3, padding=1), nn.Conv2d(c.width16, 4 * c.width8, 1)
        self.blocks16 = nn.Sequential(*(Residual(c.width16) for _ in range(c.blocks16)))
        self.blocks8 = nn.Sequential(*(Residual(c.width8) for _ in range(c.blocks8)))
        self.head = nn.Conv2d(c.width8, 192, 3, padding=1)
        self.quality16, self.quality8 = QualityScale(c.width16), QualityScale(c.width8)
        self.klt = nn.Parameter(empty(config.latent, 768))

    def forward(self, latent: Tensor, t: Tensor, std: Tensor) -> Tensor:
        """Latent [B, M, h, w], gain removed, and t [B] in 0..1 → picture [B, 3, 16h, 16w] in about 0..1, not clipped.

        std: [M, 1, 1], the standard deviation of each channel over the training pictures.
        """
        scaled = latent / std.clamp(min=4)
        seen = within(scaled, LATENT_RANGE)
        hidden, seen = bounded(self.blocks16, self.stem(scaled * seen) * self.quality16(t), seen, COARSE_RANGE)
        hidden, fine = upsampled(self.up, act(hidden), 2) * self.quality8(t), F.interpolate(seen, scale_factor=2.0)
        hidden, fine = bounded(self.blocks8, hidden, fine, FINE_RANGE)
        residual = RESIDUAL_SCALE * upsampled(self.head, act(hidden), 8) * F.interpolate(fine, scale_factor=8.0)
        linear = depth_to_space(blockwise(regrouped(self.klt, 16, 1).t() / 255, latent), 16)
        return residual.float() + linear + 0.5


def within(x: Tensor, bound: float) -> Tensor:
    """1 at positions where no channel's magnitude exceeds the bound, else 0: [B, C, h, w] → [B, 1, h, w], x's dtype."""
    return (x.abs().amax(1, keepdim=True) <= bound).to(x.dtype)


def bounded(blocks: nn.Sequential, x: Tensor, seen: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Run residual blocks over x [B, C, h, w], and blank the positions where they leave the range they were trained in.

    seen: [B, 1, h, w], 0 where x is already blank. Returns the result and what of it is seen. A blank position draws by
    the linear branch alone, and its neighbours see zeros there instead of numbers that would spread through them.
    """
    for block in blocks:
        x = block(x)
        seen = seen * within(x, bound)
        x = x * seen
    return x, seen
