"""Stage 3: a second synthesis for natural texture, beside the one of least error, which stays bit for bit what it is.

It begins as a copy of the first and learns to please LPIPS without leaving the picture of least error further than it
must. The anchor is that picture and not the original: what quantisation took is as good as noise around it, so the
expected gradient is the same and its noise is gone (Yan et al. 2022, arXiv 2206.10082, train their decoder so).

LPIPS alone teaches it a pattern that repeats with the blocks wherever a picture is smooth: the best single guess at a
grain that nobody knows. So it reads noise (`diffusion.grain`), and each step draws two pictures, whose energy score
E‖φ(x) − φ(x₁)‖ − ½·E‖φ(x₁) − φ(x₁′)‖ in the features φ of LPIPS is least if x₁ is distributed as x is (Gneiting and
Raftery 2007, section 4.3; Gritsenko et al. 2020, arXiv 2008.01160, train a one-step generator so): a pattern that is
the same in both draws costs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.diffusion.condition import Condition
from ldcodec.diffusion.grain import grained
from ldcodec.nets.lpips import distances, features
from ldcodec.nets.networks import Networks
from ldcodec.training.denoising import DenoiserStage
from ldcodec.training.settings import Denoiser, Texture
from ldcodec.training.stages import Result, Stage

SHIFTS = 4  # pixels: LPIPS sees the picture shifted by 0 … 3, since its first layer has a stride of 4
COARSE = 16  # pixels a side of the squares whose mean colour must stay


class TextureStage(Stage):
    """Loss anchor·‖x₁ − x₀‖² + lpips·LPIPS(x₁, x) + energy·(energy score) + coarse·‖means of x₁ − x‖², means over two
    draws x₁, all of pictures in 0..1.
    """

    name = "texture"
    steady = False  # crops for LPIPS are drawn on the CPU

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
        t, given = t**self.settings.favour, self.settings
        with torch.no_grad():
            known, _, bits = self.known.posterior(x, t)
            latent = known.centre + known.deviation * self.known.start(known)
            least = self.networks.picture(latent, t)
            before = distances(x, least).mean()
        draws = torch.stack([self._draw(latent, known) for _ in range(2)])
        seen, energy = perceived(x, *draws)
        anchor = (draws - least).square().mean()
        coarse = F.avg_pool2d((draws - x).flatten(0, 1), COARSE).square().mean()
        loss = given.anchor * anchor + given.lpips * seen + given.energy * energy + given.coarse * coarse
        figures = {"bpp": bits.mean() / x[0, 0].numel(), "lpips": seen.detach(), "lpips before": before}
        error = (draws[0].detach() - x).square().mean() * 255**2
        return Result(loss, {**figures, "energy": energy.detach(), "mse": error})

    def _draw(self, latent: Tensor, known: Condition[Tensor]) -> Tensor:
        """A picture [B, 3, H, W] from noise and the restored latent [B, M, h, w] in steps."""
        noisy = grained(latent, known, torch.randn_like(latent), self.networks.config.grain)
        return self.networks.picture(latent, known.quality, 1.0, noisy)


def perceived(x: Tensor, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Mean LPIPS of two draws against the original and their energy score in the same features, two scalars.

    All three are [B, 3, H, W] in 0..1, seen without the same first 0 … 3 rows and columns. Raises LdcodecError as
    `distances` does.
    """
    top, left = torch.randint(0, SHIFTS, (2,)).tolist()
    seen, energy = x.new_zeros(()), x.new_zeros(())
    for layer in features(torch.cat([x, one, other])[:, :, top:, left:]):
        real, first, second = layer.chunk(3)
        far = torch.stack([(real - first).square().sum(1), (real - second).square().sum(1)])
        seen = seen + far.mean()
        energy = energy + _root(far).mean() - _root((first - second).square().sum(1)).mean() / 2
    return seen, energy


def _root(squares: Tensor) -> Tensor:
    """Square root with a finite slope at 0."""
    return (squares + 1e-8).sqrt()
