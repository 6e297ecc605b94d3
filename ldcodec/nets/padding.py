"""Pictures as the networks read them: floats, padded to whole latents."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ldcodec.bitstream.slices import PIXELS, Area
from ldcodec.pictures.picture import Pixels


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
