"""The layers that the networks share, and pictures as they read them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.bitstream.slices import PIXELS, Area
from ldcodec.pictures.picture import Pixels

SLOPE = 1 / 8  # of the LeakyReLU: a shift by three bits in the integer networks


def act(x: Tensor) -> Tensor:
    """LeakyReLU with slope 1/8."""
    return F.leaky_relu(x, SLOPE)


class Residual(nn.Module):
    """x + ¼·conv3×3(act(conv3×3(act(x)))), no normalisation: [B, C, h, w] → the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.second(act(self.first(act(x)))), alpha=0.25)


class QualityScale(nn.Module):
    """A positive factor for each channel as a smooth function of the quality, exp(mlp(2t − 1)); 1 everywhere before
    training.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(1, 16), nn.Linear(16, channels)

    def forward(self, t: Tensor) -> Tensor:
        """t: [B] in 0..1 → [B, C, 1, 1]."""
        return torch.exp(self.out(F.gelu(self.hidden(2 * t[:, None] - 1))))[:, :, None, None]


def blockwise(matrix: Tensor, x: Tensor) -> Tensor:
    """The same matrix [n, m] on the channels of every position, in float32: [B, m, h, w] → [B, n, h, w]."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.float().permute(0, 2, 3, 1), matrix).permute(0, 3, 1, 2)


def gathered(x: Tensor, r: int) -> Tensor:
    """Squares of r×r positions to channels, [B, C, r·h, r·w] → [B, r²·C, h, w]: pixel_unshuffle, but in the order
    (row, column, channel).

    In channels-last memory this moves runs of r·C values where pixel_unshuffle's order (channel, row, column) moves
    single ones; what reads or writes such channels has its weights `regrouped` instead.
    """
    b, c, h, w = x.shape
    squares = x.permute(0, 2, 3, 1).reshape(b, h // r, r, w // r, r, c).transpose(2, 3)
    return squares.reshape(b, h // r, w // r, r * r * c).permute(0, 3, 1, 2)


def spread(x: Tensor, r: int) -> Tensor:
    """The inverse of `gathered`: [B, r²·C, h, w] → [B, C, r·h, r·w]."""
    b, c, h, w = x.shape
    squares = x.permute(0, 2, 3, 1).reshape(b, h, w, r, r, c // r**2).transpose(2, 3)
    return squares.reshape(b, h * r, w * r, c // r**2).permute(0, 3, 1, 2)


def regrouped(weight: Tensor, r: int, dim: int = 0) -> Tensor:
    """A weight whose dimension `dim` runs over (channel, row, column) → the same over (row, column, channel)."""
    before, count, after = weight.shape[:dim], weight.shape[dim], weight.shape[dim + 1 :]
    return weight.reshape(*before, count // r**2, r**2, *after).transpose(dim, dim + 1).reshape(weight.shape)


def convolved_and_spread(layer: nn.Conv2d, x: Tensor, r: int) -> Tensor:
    """pixel_shuffle(layer(x), r) for a layer of stride 1."""
    bias = None if layer.bias is None else regrouped(layer.bias, r)
    return spread(F.conv2d(x, regrouped(layer.weight, r), bias, padding=layer.padding), r)


def padded(picture: Pixels, device: torch.device | None = None, size: tuple[int, int] | None = None) -> Tensor:
    """uint8 picture → [1, 3, H, W] float32 in 0..1, its last row and column repeated up to `size`, H and W, or else up
    to multiples of 64.
    """
    height, width = picture.shape[:2]
    bottom, right = (size[0] - height, size[1] - width) if size else (-height % 64, -width % 64)
    rgb = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
    x = torch.tensor(np.ascontiguousarray(rgb), device=device).permute(2, 0, 1)[None].float() / 255
    return F.pad(x, (0, right, 0, bottom), mode="replicate")


def pixels_of(picture: Pixels, area: Area, device: torch.device | None = None) -> Tensor:
    """The pixels of an area of latents of a picture, [1, 3, 16·rows, 16·columns]."""
    top, bottom, left, right = (PIXELS * edge for edge in area)
    return padded(picture[top:bottom, left:right], device, (bottom - top, right - left))
