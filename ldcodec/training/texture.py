"""Stage 3: a second synthesis for natural texture. The first, of least error, stays bit for bit what it is.

The second begins as a copy and learns to lower LPIPS while staying near the picture of least error. It is anchored to
that picture and not to the original: what quantisation took is like noise around it, so the expected gradient is the
same, without the noise (as Yan et al. 2022, arXiv 2206.10082, train their decoder).

LPIPS alone would teach it a pattern that repeats with the blocks wherever a picture is smooth: the best single guess at
an unknown grain. So it reads noise (`posterior.grained`), and each step draws two pictures. Their energy score
E‖φ(x) − φ(x₁)‖ − ½·E‖φ(x₁) − φ(x₁′)‖ in the features φ of LPIPS is least where x₁ is distributed as x (Gneiting and
Raftery 2007, section 4.3; as Gritsenko et al. 2020, arXiv 2008.01160, train a one-step generator), so a pattern that
both draws share is penalised.

An adversary, where there is one, knows what no distance does: whether a texture could be an original (`adversary`).

What LPIPS likes may still be no better to see than the picture of least error. So the picture half-way between the two,
which `--realism 0.5` shows, is held to the structure of the original (`structure`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.bitstream.slices import PIXELS
from ldcodec.diffusion.posterior import Condition, grained
from ldcodec.encoder.masking import visual
from ldcodec.entropy.rangecoder import Coder
from ldcodec.nets.lpips import features
from ldcodec.nets.networks import Networks
from ldcodec.nets.structure import structure_lost
from ldcodec.training.adversary import Adversary, Layers
from ldcodec.training.denoising import DenoiserStage
from ldcodec.training.settings import DenoiserSettings, TextureSettings
from ldcodec.training.stages import Stage, StageLoss

SHIFTS = 4  # LPIPS sees the picture shifted by 0 … 3 pixels, because its first layer has a stride of 4
LEAST_LOST = 1e-3  # structure that the picture of least error is taken to have lost at least
COARSE = PIXELS  # pixels a side of the squares whose mean colour must stay: one position of the latent


class TextureStage(Stage):
    """Loss anchor·‖x₁ − x₀‖² + lpips·LPIPS(x₁, x) + energy·(energy score) + coarse·‖means of x₁ − x‖²
    + structure·(structure of x that (x₀ + x₁)/2 has lost / that x₀ has lost) − adversary·(1 − t)·(its verdict on x₁).

    Structure sees one draw x₁, each of the other terms the mean over two; x₀ is the picture of least error. It is a
    ratio, so that high rates, where little is lost, count as much as low ones, where texture matters more. A verdict is
    as steep at high rates, where LPIPS fades; with 1 − t one weight suits all. All pictures are in 0..1. A trellis
    chooses as for `--tune visual`.
    """

    name = "texture"
    steady = False  # the CPU draws the crop that LPIPS sees, and copies LPIPS's weights to the device in every step

    def __init__(self, networks: Networks, settings: TextureSettings, coder: Coder | None = None) -> None:
        """coder: as in `DenoiserStage`."""
        networks.add_texture()
        super().__init__(networks, (settings.phase,), settings.shortcut_rate)
        self.settings, self.known = settings, DenoiserStage(networks, DenoiserSettings(), coder, visual)
        self.coder = coder
        given = settings.adversary > 0
        self.adversary = Adversary(settings.phase.warm_up, networks.std.device) if given else None

    def trained(self) -> tuple[nn.Module, ...]:
        """The second synthesis."""
        return (self.networks.texture,) if self.networks.texture is not None else ()

    def enter(self, phase: int) -> None:
        """Everything but the second synthesis is frozen and behaves as when a file is written."""
        self.networks.eval().requires_grad_(False)
        for part in self.trained():
            part.requires_grad_(True)

    def held(self) -> dict[str, Tensor]:
        """What the adversary has learnt."""
        return {} if self.adversary is None else self.adversary.held()

    def loss(self, x: Tensor, t: Tensor, phase: int) -> StageLoss:
        """See `Stage.loss`."""
        t, given = t**self.settings.favour, self.settings
        with torch.no_grad():
            known, _, bits = self.known.posterior(x, t)
            latent = known.centre + known.deviation * self.known.start(known)
            least = self.networks.picture(latent, t)
        draws = torch.stack([self._draw(latent, known) for _ in range(2)])
        real, near, one, other = layers(x, least, draws)
        seen, energy = perceived(real, one, other)
        anchor = (draws - least).square().mean()
        coarse = F.avg_pool2d((draws - x).flatten(0, 1), COARSE).square().mean()
        lost = structure_lost(x, (least + draws[0]) / 2)
        with torch.no_grad():
            lost_before = structure_lost(x, least)
            before, _ = perceived(real, near, near)
        loss = given.anchor * anchor + given.lpips * seen + given.energy * energy
        loss = loss + given.coarse * coarse + given.structure * (lost / lost_before.clamp(min=LEAST_LOST)).mean()
        figures = {"bpp": bits.mean() / x[0, 0].numel(), "lpips": seen.detach(), "lpips before": before}
        figures |= {"structure": lost.detach().mean(), "structure before": lost_before.mean()}
        if self.adversary is not None:
            figures |= self.adversary.learn(real, [one, other], near)
            loss = loss + given.adversary * self.adversary.penalty([one, other], near, 1 - t)
        error = (draws[0].detach() - x).square().mean() * 255**2
        return StageLoss(loss, {**figures, "energy": energy.detach(), "mse": error})

    def _draw(self, latent: Tensor, known: Condition[Tensor]) -> Tensor:
        """A picture [B, 3, H, W] from noise and the restored latent [B, M, h, w] in steps."""
        noisy = grained(latent, known, torch.randn_like(latent), self.networks.config.grain)
        return self.networks.picture(latent, known.quality, 1.0, noisy)


def layers(x: Tensor, least: Tensor, draws: Tensor) -> tuple[Layers, Layers, Layers, Layers]:
    """The features of LPIPS of the original, the picture of least error and two draws; of the draws with gradient.

    x and least are [B, 3, H, W] in 0..1, draws [2, B, 3, H, W]; all lose the same first 0 … 3 rows and columns. Raises
    LdcodecError without the weights of LPIPS.
    """
    top, left = torch.randint(0, SHIFTS, (2,)).tolist()
    with torch.no_grad():
        fixed = [layer.chunk(2) for layer in features(torch.cat([x, least])[:, :, top:, left:])]
    drawn = [layer.chunk(2) for layer in features(draws.flatten(0, 1)[:, :, top:, left:])]
    return [a for a, _ in fixed], [b for _, b in fixed], [a for a, _ in drawn], [b for _, b in drawn]


def perceived(real: Layers, one: Layers, other: Layers) -> tuple[Tensor, Tensor]:
    """Mean LPIPS of two draws against the original and their energy score in the same features, two scalars."""
    seen, energy = torch.zeros((), device=real[0].device), torch.zeros((), device=real[0].device)
    for x, first, second in zip(real, one, other, strict=True):
        far = torch.stack([(x - first).square().sum(1), (x - second).square().sum(1)])
        seen = seen + far.mean()
        energy = energy + _root(far).mean() - _root((first - second).square().sum(1)).mean() / 2
    return seen, energy


def _root(squares: Tensor) -> Tensor:
    """Square root with a finite slope at 0."""
    return (squares + 1e-8).sqrt()
