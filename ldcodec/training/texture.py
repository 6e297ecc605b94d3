"""Stage 3: a second synthesis for natural texture, beside the one of least error, which stays bit for bit what it is.

It begins as a copy of the first and learns to please LPIPS without leaving the picture of least error further than it
must. The anchor is that picture and not the original: what quantisation took is as good as noise around it, so the
expected gradient is the same and its noise is gone (Yan et al. 2022, arXiv 2206.10082, train their decoder so).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.bench.lpips import distances
from ldcodec.networks import Networks
from ldcodec.training.denoiser import DenoiserStage
from ldcodec.training.settings import Denoiser, Texture
from ldcodec.training.stages import Result, Stage

SHIFTS = 4  # pixels: LPIPS sees the picture shifted by 0 … 3, since its first layer has a stride of 4
COARSE = 16  # pixels a side of the squares whose mean colour must stay


class TextureStage(Stage):
    """Loss anchor·‖x₁ − x₀‖² + LPIPS(x₁, x) + coarse·‖means of x₁ − x‖², all of pictures in 0..1."""

    name = "texture"
    steady = False  # as for the denoiser

    def __init__(self, networks: Networks, settings: Texture) -> None:
        networks.add_texture()
        super().__init__(networks, (settings.phase,), settings.shortcut_rate)
        self.settings, self.known = settings, DenoiserStage(networks, Denoiser())

    def trained(self) -> tuple[nn.Module, ...]:
        """The second synthesis alone."""
        return (self.networks.texture,) if self.networks.texture is not None else ()

    def enter(self, phase: int) -> None:
        """All but the second synthesis is frozen and behaves as for a file."""
        self.networks.eval().requires_grad_(False)
        for part in self.trained():
            part.requires_grad_(True)

    def loss(self, x: Tensor, t: Tensor, phase: int) -> Result:
        """`x` and `t` as in `Stage.loss`."""
        t = t**self.settings.favour
        with torch.no_grad():
            known, _, bits = self.known.posterior(x, t)
            latent = known.centre + known.deviation * self.known.start(known)
            least = self.networks.picture(latent, t)
        natural = self.networks.picture(latent, t, 1.0)
        seen = distances(*_shifted(x, natural)).mean()
        anchor = (natural - least).square().mean()
        coarse = F.avg_pool2d(natural - x, COARSE).square().mean()
        loss = self.settings.anchor * anchor + seen + self.settings.coarse * coarse
        with torch.no_grad():
            before = distances(x, least).mean()
        error = (natural.detach() - x).square().mean() * 255**2
        figures = {"bpp": bits.mean() / x[0, 0].numel(), "lpips": seen.detach(), "lpips before": before, "mse": error}
        return Result(loss, figures)


def _shifted(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both without the same first 0 … 3 rows and columns."""
    top, left = torch.randint(0, SHIFTS, (2,)).tolist()
    return x[:, :, top:, left:], y[:, :, top:, left:]
