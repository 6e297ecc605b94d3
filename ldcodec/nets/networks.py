"""All float networks of one model, under the names that they have in a weights file."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ldcodec.bitstream import quality
from ldcodec.bitstream.slices import PIXELS, Area
from ldcodec.diffusion.posterior import Condition
from ldcodec.diffusion.samplers import Denoise
from ldcodec.entropy.config import Config
from ldcodec.nets.analysis import Analysis, Base
from ldcodec.nets.blocks import QualityScale, blockwise
from ldcodec.nets.denoiser import Denoiser
from ldcodec.nets.rate import RateModel
from ldcodec.nets.synthesis import Synthesis
from ldcodec.pictures.picture import Pixels

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scales:
    """What the quality does to the latent, both [B, M, 1, 1].

    gain: the inverse of the quantisation step; expected: the deviation to expect of a channel of latent × base gain.
    """

    gain: Tensor
    expected: Tensor


class Networks(nn.Module):
    """Analysis, rate model, denoiser and synthesis; these are also the `FloatNetworks` of a decoder in PyTorch.

    texture: a second synthesis, trained for natural texture instead of least error; None in a model without one.
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
        base = quality.base_gain(t)[:, None, None, None]
        return Scales(self.gain(t) * base, self.std * base)

    def scaled_latent(self, base: Base, t: Tensor, tuning: Tensor | None = None) -> Tensor:
        """The latent in quantisation steps, [B, M, h, w]; tuning: as of `Analysis.finish`."""
        return self.analysis.finish(base, t, self.std, tuning) * self.scales(t).gain

    def add_texture(self) -> None:
        """Add a second synthesis, a copy of the first, unless there is one."""
        if self.texture is None:
            self.texture = copy.deepcopy(self.synthesis)

    def picture(
        self,
        scaled_latent: Tensor,
        t: Tensor,
        texture: float = 0.0,
        grained: Tensor | None = None,
        wanted: Area | None = None,
    ) -> Tensor:
        """Latent in steps [B, M, h, w] → picture [B, 3, 16h, 16w] in about 0..1.

        texture: 0..1, the share of the second synthesis, which reads `grained` if it is given. Linear interpolation
        between the two pictures attains every optimal trade-off of distortion and perception if both ends are optimal
        (Yan et al. 2022, arXiv 2206.10082). wanted: the positions of the latent that are returned, by default all.
        """
        picture = self._picture(scaled_latent, t, texture, grained)
        if wanted is None:
            return picture
        top, bottom, left, right = (PIXELS * edge for edge in wanted)
        return picture[:, :, top:bottom, left:right]

    def _picture(self, scaled_latent: Tensor, t: Tensor, texture: float, grained: Tensor | None) -> Tensor:
        gain = self.scales(t).gain
        latent = scaled_latent / gain
        if self.texture is None or texture == 0:
            return self.synthesis(latent, t, self.std)  # type: ignore[no-any-return]
        natural: Tensor = self.texture(latent if grained is None else grained / gain, t, self.std)
        return natural if texture == 1 else torch.lerp(self.synthesis(latent, t, self.std), natural, texture)

    def preview(self, scaled_latent: Tensor, t: Tensor, scale: int) -> Tensor:
        """Latent in steps [B, M, h, w] → picture at 1/scale of its size, in about 0..1; scale: 1, 2, 4, 8 or 16.

        Only the linear shortcut Kᵀ is used. Its basis pictures are averaged over boxes first, so that nothing larger
        than the result is computed.
        """
        side = PIXELS // scale  # pixels of the preview per latent position
        boxes = self.synthesis.klt.view(-1, 3, side, scale, side, scale).mean((3, 5)).flatten(1)
        return F.pixel_shuffle(blockwise(boxes.t(), scaled_latent / self.scales(t).gain), side) / 255 + 0.5

    # The rest of `encoder.interface.EncoderNetworks`, which documents it.

    @torch.no_grad()
    def analysed(self, picture: Floats) -> tuple[Tensor, Floats]:
        base = self.analysis.base(self.array(picture[None]))
        return base.features, base.linear[0].cpu().numpy()

    @torch.no_grad()
    def latent(self, analysed: tuple[Tensor, Floats], t: float, tuning: float = 0.0) -> Floats:
        base = Base(analysed[0], self.array(analysed[1][None]))
        scaled = self.scaled_latent(base, self._scalar(t), self._scalar(tuning))
        return np.ascontiguousarray(scaled[0].cpu().numpy())

    @torch.no_grad()
    def hyper_latent(self, latent: Floats, t: float) -> Floats:
        z: Tensor = self.rate.hyper_latent(self.array(latent[None]), self._scalar(t))
        return np.ascontiguousarray(z[0].cpu().numpy())

    @torch.no_grad()
    def means(self, step: int, features: Floats, decoded: Floats) -> Floats:
        """A context step of a one-shot model, see `entropy.integer.MeanStep`."""
        found: Tensor = self.rate.means(step, self.array(features[None]), self.array(decoded[None]))
        return found[0].cpu().numpy()

    @torch.no_grad()
    def shortcut(self, picture: Floats) -> Floats:
        linear: Floats = self.analysis.shortcut(self.array(picture[None]))[0].cpu().numpy()
        return linear

    def basis(self) -> Floats:
        klt: Floats = self.analysis.klt.detach().cpu().numpy()
        return klt.reshape(len(klt), 3, PIXELS, PIXELS)

    @torch.no_grad()
    def gain_at(self, t: float) -> Floats:
        gain: Floats = self.scales(self._scalar(t)).gain[0].cpu().numpy()
        return gain

    def _scalar(self, value: float) -> Tensor:
        return self.std.new_tensor([value])

    # The rest of `decoder.protocols.FloatNetworks`, which documents it; `picture` and `preview` belong to it too.

    @property
    def textured(self) -> bool:
        return self.texture is not None

    @property
    def denoiser_halo(self) -> int:
        return self.config.denoiser_halo

    @property
    def synthesis_halo(self) -> int:
        return self.config.synthesis.halo

    def shared(self, runs: int) -> AbstractContextManager[None]:
        """Nothing: whoever makes threads sets how many PyTorch has in each (`decoder.threads`)."""
        return nullcontext()

    def array(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self.std.device)

    def denoise(self, condition: Condition[Tensor]) -> Denoise:
        """The denoiser under a condition, which is prepared here, once for all steps."""
        with torch.no_grad():
            prepared = self.denoiser.prepare(condition)

        @torch.no_grad()
        def velocity(u: Tensor, time: float) -> Tensor:
            v: Tensor = self.denoiser(u, u.new_full((len(u),), time), prepared)
            return v

        return velocity

    @torch.no_grad()
    def levels(self, picture: Tensor, grey: bool, white: int = 255) -> Pixels:
        """Picture [3, H, W] in about 0..1 → uint8 (H, W, 3), or (H, W) if grey; uint16 where white is 65535."""
        planes = picture.mean(0, keepdim=True) if grey else picture
        # Rounded on the device, so that single bytes, or pairs of them, are transferred.
        kind = torch.uint8 if white == 255 else torch.uint16
        pixels = planes.mul(white).round_().clamp_(0, white).to(kind).permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(pixels[:, :, 0] if grey else pixels)
