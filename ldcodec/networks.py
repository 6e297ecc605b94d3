"""All float networks of one model, under the names they have in a weights file."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldcodec import quality
from ldcodec.config import Config
from ldcodec.diffusion.denoiser import Denoiser
from ldcodec.ratemodel.network import RateModel
from ldcodec.transforms.analysis import Analysis, Base
from ldcodec.transforms.blocks import QualityScale
from ldcodec.transforms.synthesis import Synthesis


@dataclass(frozen=True)
class Scales:
    """What the quality does to the latent: gain [B, M, 1, 1] (the inverse of the step) and the deviation expected of
    latent × base gain.
    """

    gain: Tensor
    expected: Tensor


class Networks(nn.Module):
    """Analysis, rate model, denoiser and synthesis of one configuration.

    texture: a second synthesis, for natural texture instead of the least error; None where none was trained.
    """

    std: Tensor
    texture: Synthesis | None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.analysis, self.synthesis, self.rate = Analysis(config), Synthesis(config), RateModel(config)
        self.denoiser = Denoiser(config)
        self.gain = QualityScale(config.latent)
        self.texture = None
        self.register_buffer("std", torch.ones(config.latent, 1, 1))

    def scales(self, t: Tensor) -> Scales:
        """t: [B] in 0..1."""
        base = quality.base_gain(t)[:, None, None, None]
        return Scales(self.gain(t) * base, self.std * base)

    def scaled_latent(self, base: Base, t: Tensor) -> Tensor:
        """The latent in units of the quantiser's step, [B, M, h, w]."""
        return self.analysis.finish(base, t, self.std) * self.scales(t).gain

    def add_texture(self) -> None:
        """Gives the networks a second synthesis, equal to the first, if they have none."""
        if self.texture is None:
            self.texture = copy.deepcopy(self.synthesis)

    def picture(self, scaled_latent: Tensor, t: Tensor, texture: float = 0.0) -> Tensor:
        """Latent in steps [B, M, h, w] → picture [B, 3, 16h, 16w] in about 0..1.

        texture: 0..1, the share of the second synthesis. The straight line between the two pictures reaches every
        trade of distortion against perception if its ends do (Yan et al. 2022, arXiv 2206.10082).
        """
        latent = scaled_latent / self.scales(t).gain
        if self.texture is None or texture == 0:
            return self.synthesis(latent, t, self.std)  # type: ignore[no-any-return]
        natural: Tensor = self.texture(latent, t, self.std)
        return natural if texture == 1 else torch.lerp(self.synthesis(latent, t, self.std), natural, texture)
