"""The synthesis transform: latent → picture, the mirror of the analysis.

latent ─┬─ conv3×3 ─ ×q16(t) ─ blocks at 1/16 ─ act ─ conv1×1 ─ shuffle 2 ─ ×q8(t) ─ blocks at 1/8 ─ act ─┐
        │                                                     picture ◄─ + ◄─ shuffle 8 ◄─ conv3×3 ◄──────┘
        └─ Kᵀ ─ shuffle 16 ────────────────────────────────────────────────┘
"""

from torch import Tensor, empty, nn

from ldcodec.entropy.config import Config
from ldcodec.nets.blocks import QualityScale, Residual, act, blockwise, depth_to_space, regrouped, upsampled


class Synthesis(nn.Module):
    """g_s with the linear shortcut Kᵀ, which is trained too and starts as the transpose of the analysis' K."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config
        self.stem, self.up = nn.Conv2d(c.latent, c.width16, 3, padding=1), nn.Conv2d(c.width16, 4 * c.width8, 1)
        self.blocks16 = nn.Sequential(*(Residual(c.width16) for _ in range(c.blocks16)))
        self.blocks8 = nn.Sequential(*(Residual(c.width8) for _ in range(c.blocks8)))
        self.head = nn.Conv2d(c.width8, 192, 3, padding=1)
        self.quality16, self.quality8 = QualityScale(c.width16), QualityScale(c.width8)
        self.klt = nn.Parameter(empty(c.latent, 768))

    def forward(self, latent: Tensor, t: Tensor, std: Tensor) -> Tensor:
        """Latent [B, M, h, w], gain removed, and t [B] in 0..1 → picture [B, 3, 16h, 16w] in about 0..1, not clipped.

        std: [M, 1, 1], the standard deviation of each channel over the training pictures.
        """
        hidden = self.blocks16(self.stem(latent / std.clamp(min=4)) * self.quality16(t))
        hidden = self.blocks8(upsampled(self.up, act(hidden), 2) * self.quality8(t))
        residual = 0.05 * upsampled(self.head, act(hidden), 8)
        linear = depth_to_space(blockwise(regrouped(self.klt, 16, 1).t() / 255, latent), 16)
        return residual.float() + linear + 0.5
