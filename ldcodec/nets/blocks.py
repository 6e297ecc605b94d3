"""Layers that the networks share, and pictures as tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.entropy.config import SLOPE
from ldcodec.pictures.frame import framed
from ldcodec.pictures.picture import Pixels


def act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class Residual(nn.Module):
    """x + ¼·conv3×3(act(conv3×3(act(x)))), without normalisation: [B, C, h, w] → [B, C, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.second(act(self.first(act(x)))), alpha=0.25)


class QualityScale(nn.Module):
    """A positive factor per channel as a smooth function of the quality: exp(mlp(2t − 1)), 1 before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(1, 16), nn.Linear(16, channels)

    def forward(self, t: Tensor) -> Tensor:
        """t: [B] in 0..1 → [B, C, 1, 1]."""
        return torch.exp(self.out(F.gelu(self.hidden(2 * t[:, None] - 1))))[:, :, None, None]


def blockwise(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply the channels of every position by a matrix [n, m], in float32: [B, m, h, w] → [B, n, h, w]."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.float().permute(0, 2, 3, 1), matrix).permute(0, 3, 1, 2)


def space_to_depth(x: Tensor, r: int) -> Tensor:
    """Move squares of r×r positions to channels: [B, C, r·h, r·w] → [B, r²·C, h, w].

    The channels come in the order (row, column, channel), which in channels-last memory moves runs of r·C values.
    pixel_unshuffle, whose order is (channel, row, column), moves single values. Weights are stored for the latter, so
    the layers that read or write these channels use them `regrouped`.
    """
    b, c, h, w = x.shape
    squares = x.permute(0, 2, 3, 1).reshape(b, h // r, r, w // r, r, c).transpose(2, 3)
    return squares.reshape(b, h // r, w // r, r * r * c).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, r: int) -> Tensor:
    """The inverse of `space_to_depth`: [B, r²·C, h, w] → [B, C, r·h, r·w]."""
    b, c, h, w = x.shape
    squares = x.permute(0, 2, 3, 1).reshape(b, h, w, r, r, c // r**2).transpose(2, 3)
    return squares.reshape(b, h * r, w * r, c // r**2).permute(0, 3, 1, 2)


def regrouped(weight: Tensor, r: int, dim: int = 0) -> Tensor:
    """Reorder dimension `dim` of a weight from (channel, row, column) to (row, column, channel)."""
    before, count, after = weight.shape[:dim], weight.shape[dim], weight.shape[dim + 1 :]
    return weight.reshape(*before, count // r**2, r**2, *after).transpose(dim, dim + 1).reshape(weight.shape)


def upsampled(layer: nn.Conv2d, x: Tensor, r: int) -> Tensor:
    """pixel_shuffle(layer(x), r) for a layer of stride 1, by way of `depth_to_space`."""
    bias = None if layer.bias is None else regrouped(layer.bias, r)
    return depth_to_space(F.conv2d(x, regrouped(layer.weight, r), bias, padding=layer.padding), r)


def padded(picture: Pixels, device: torch.device | None = None) -> Tensor:
    """Picture, uint8 (H, W, 3) or (H, W) → float32 [1, 3, H', W'] in 0..1, sides multiples of 64; see `framed`."""
    return torch.from_numpy(framed(picture)).to(device)[None]
