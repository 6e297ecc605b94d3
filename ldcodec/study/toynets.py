"""The networks of the study: encoder, decoder, and the velocity of a diffusion, each as mlp or cnn.

Both are built alike. A picture is folded into channels (pixel_unshuffle), the layers keep the size of that grid, and
the result is unfolded. A cnn folds 4×4 pixels and has 3×3 kernels. An mlp folds the whole picture into one position,
where a 1×1 convolution is a fully connected layer.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.diffusion.samplers import alpha_sigma
from ldcodec.entropy.config import SLOPE
from ldcodec.errors import UsageError
from ldcodec.nets.blocks import act
from ldcodec.nets.denoiser import TimeFilm
from ldcodec.nets.precision import autocast
from ldcodec.study.runs import SIDE_UNIT, StudySettings

RESIDUAL = 0.25  # factor of a block's branch
NARROWEST = 4.0  # limit of |log s| in a velocity


@dataclass(frozen=True)
class NetLayout:
    """Sizes of the networks for pictures [B, C, n, n]: the grid is n/fold, the latent [B, latent, grid, grid]."""

    colours: int
    side: int
    fold: int
    kernel: int
    width: int
    blocks: int
    latent: int

    @property
    def folded(self) -> int:
        """Channels of a folded picture."""
        return self.colours * self.fold**2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of the latent of a picture."""
        grid = self.side // self.fold
        return self.latent, grid, grid


def layout(settings: StudySettings, colours: int, side: int) -> NetLayout:
    """The layout for pictures [B, colours, side, side]. Raises UsageError for a side that cannot be folded."""
    if side % SIDE_UNIT:
        raise UsageError(f"pictures must have sides that are multiples of {SIDE_UNIT} pixels, not {side}")
    if settings.net == "mlp":
        return NetLayout(colours, side, side, 1, 256, 1, 8 * settings.channels)
    return NetLayout(colours, side, SIDE_UNIT, 3, 64, 2, settings.channels)


def fold(pictures: Tensor, layout: NetLayout) -> Tensor:
    """[B, C, n, n] → [B, C·fold², grid, grid]."""
    return F.pixel_unshuffle(pictures, layout.fold)


def unfold(channels: Tensor, layout: NetLayout) -> Tensor:
    """The inverse of `fold`."""
    return F.pixel_shuffle(channels, layout.fold)


def convolution(inputs: int, outputs: int, kernel: int, zero: bool = False) -> nn.Conv2d:
    """A layer that keeps the grid, with weights random (He et al. 2015) or zero, and biases of zero."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def layer_type(network: nn.Module) -> torch.autocast:
    """The context of a network's layers: the fastest type of the processor in training mode, else float32."""
    return autocast(torch.device("cpu")) if network.training else torch.autocast("cpu", enabled=False)


class Block(nn.Module):
    """x + ¼·second(act(first(act(x)))), [B, width, h, w] → the same; as `nets.blocks.Residual`, with any kernel."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.first, self.second = convolution(width, width, kernel), convolution(width, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.second(act(self.first(act(x)))), alpha=RESIDUAL)


def trunk(inputs: int, outputs: int, layout: NetLayout) -> nn.Sequential:
    """[B, inputs, h, w] → [B, outputs, h, w], small before training."""
    blocks = [Block(layout.width, layout.kernel) for _ in range(layout.blocks)]
    head = convolution(layout.width, outputs, layout.kernel)
    with torch.no_grad():
        head.weight.mul_(0.3)
    return nn.Sequential(convolution(inputs, layout.width, layout.kernel), *blocks, nn.LeakyReLU(SLOPE), head)


class Autoencoder(nn.Module):
    """Pictures in 0..1 → the mean of q(z|x) → pictures, and the size of q's noise, which all pictures share.

    `log_noise` [latent, h, w] is log σ of a Gaussian latent, or log Δ of a delta. Unlike a usual VAE's it does not
    depend on the picture: a decoder must know it before universal quantisation can send z (Agustsson and Theis 2020).
    """

    def __init__(self, layout: NetLayout, latent: str) -> None:
        super().__init__()
        self.layout = layout
        self.encoder = trunk(layout.folded, layout.latent, layout)
        self.decoder = trunk(layout.latent, layout.folded, layout)
        start = math.log(0.5 if latent == "gaussian" else 1.5)
        self.log_noise = nn.Parameter(torch.full(layout.latent_shape, start))

    def mean(self, pictures: Tensor) -> Tensor:
        """Pictures [B, C, n, n] in 0..1 → μ(x) [B, latent, h, w]."""
        with layer_type(self):
            mean: Tensor = self.encoder(fold(4 * pictures - 2, self.layout))
        return mean.float()

    def decode(self, z: Tensor) -> Tensor:
        """z [B, latent, h, w] → pictures [B, C, n, n] in about 0..1, not clipped."""
        with layer_type(self):
            folded: Tensor = self.decoder(z)
        return unfold(folded.float(), self.layout) + 0.5

    def width(self) -> Tensor:
        """log σ or log Δ, [latent, h, w], at least −3.5: above the noise at the first time of the diffusion."""
        return self.log_noise.clamp(min=-3.5)


class VelocityNetwork(nn.Module):
    """v_θ(u_t, t | known), 0 before training: u [B, channels, h, w], time [B], known [B, n, h, w] or None → v.

    The network gives m and log s, and v is the velocity that a Gaussian u0 ~ N(m, s²) would have (`velocity`). Where
    nothing is left to draw, s tends to 0 and all noise is removed. This is like the form a + b·u of `nets.denoiser`,
    but b need not be learned for every time.
    """

    def __init__(self, channels: int, known: int, layout: NetLayout) -> None:
        super().__init__()
        width, kernel = layout.width, layout.kernel
        self.entry = convolution(channels + known, width, kernel)
        self.film = TimeFilm(width)
        self.blocks = nn.Sequential(*(Block(width, kernel) for _ in range(layout.blocks)))
        self.head = convolution(width, 2 * channels, kernel, zero=True)

    def forward(self, u: Tensor, time: Tensor, known: Tensor | None = None) -> Tensor:
        scale, shift = self.film(time)
        with layer_type(self):
            x = self.entry(u if known is None else torch.cat([u, known], 1)) * scale + shift
            mean, log_deviation = self.head(act(self.blocks(x))).float().chunk(2, dim=1)
        return velocity(u, time, mean, log_deviation)


def velocity(u: Tensor, time: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """E[v | u_t] where u0 ~ N(mean, deviation²): (α·σ·(1 − s²)·u_t − σ·m)/(α²·s² + σ²), all [B, ...], time [B].

    It follows from E[u0 | u_t] = m + α·s²·(u_t − α·m)/(α²·s² + σ²) and v = (α·u_t − u0)/σ. With m = 0 and s = 1 it is
    0; at time 1 it is −m. |log s| is limited to NARROWEST.
    """
    alpha, sigma = (part.reshape(-1, *[1] * (u.dim() - 1)) for part in alpha_sigma(time))
    variance = (2 * log_deviation.clamp(-NARROWEST, NARROWEST)).exp()
    result: Tensor = sigma * (alpha * (1 - variance) * u - mean) / (alpha.square() * variance + sigma.square())
    return result
