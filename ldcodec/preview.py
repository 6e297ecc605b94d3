"""A small preview without diffusion and without the deep part of the synthesis: the linear shortcut Kᵀ alone, its basis
pictures averaged over boxes beforehand, so that nothing larger than the preview is ever made.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ldcodec import quality
from ldcodec.decoder import levels
from ldcodec.model import Model
from ldcodec.ratemodel.integer import LATENT_BITS, Parsed
from ldcodec.slicing import PIXELS
from ldcodec.tiles import Latent
from ldcodec.transforms.blocks import blockwise

Pixels = NDArray[np.uint8]


@torch.no_grad()
def preview_of(latent: Latent, scale: int) -> Pixels:
    """A file's picture at 1/scale of its size, rounded up, scale 2, 4, 8 or 16: uint8 (H, W, 3) or (H, W)."""
    header = latent.header
    shape = -(-header.height // scale), -(-header.width // scale)
    pixels = np.empty(shape if header.grey else (*shape, 3), np.uint8)
    matrix = _boxes(latent.model, scale)
    spans = latent.source.spans
    shown = latent.each(range(len(spans)), lambda parsed: _synthesised(parsed, matrix, header.quality, latent.model))
    for span, part in zip(spans, shown, strict=True):
        rows = pixels[span.top * PIXELS // scale : span.bottom * PIXELS // scale]
        rows[:] = levels(part[0, :, : rows.shape[0], : shape[1]], header.grey)
    return pixels


def _boxes(model: Model, scale: int) -> Tensor:
    """Kᵀ [3·f², M] with f = 16 / scale: each basis picture averaged over boxes of scale × scale pixels."""
    basis = model.networks.synthesis.klt
    side = PIXELS // scale
    boxes = basis.view(len(basis), 3, side, scale, side, scale).mean((3, 5))
    return boxes.flatten(1).t()


@torch.no_grad()
def _synthesised(parsed: Parsed, matrix: Tensor, index: int, model: Model) -> Tensor:
    """A parsed slice → its preview [1, 3, f·rows, f·columns] in about 0..1."""
    t = torch.tensor([quality.fraction(index)], device=model.device)
    steps = torch.from_numpy(parsed.mean).to(model.device, torch.float32) * 2.0**-LATENT_BITS
    steps += torch.from_numpy(parsed.symbols).to(model.device)
    values = blockwise(matrix, steps[None] / model.networks.scales(t).gain)
    return F.pixel_shuffle(values, int((len(matrix) // 3) ** 0.5)) / 255 + 0.5
