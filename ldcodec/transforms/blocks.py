"""The layers that the networks share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        branch: Tensor = self.second(act(self.first(act(x))))
        return x + 0.25 * branch


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
        return torch.matmul(matrix, x.float().flatten(2)).view(len(x), -1, *x.shape[2:])
