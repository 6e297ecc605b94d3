"""A small preview without diffusion and without the deep part of the synthesis: see `networks.Networks.linear`."""

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.slices import PIXELS
from ldcodec.decoder.reverse import fraction_of
from ldcodec.decoder.tiles import Latent
from ldcodec.diffusion.condition import Array
from ldcodec.entropy.integer import LATENT_BITS, Parsed
from ldcodec.pictures.picture import Pixels


def preview_of(latent: Latent, scale: int) -> Pixels:
    """A file's picture at 1/scale of its size, rounded up, scale 2, 4, 8 or 16: uint8 (H, W, 3) or (H, W)."""
    header, networks = latent.header, latent.model.networks
    shape = -(-header.height // scale), -(-header.width // scale)
    pixels = np.empty(shape if header.grey else (*shape, 3), np.uint8)
    t, spans = fraction_of(header, latent.model), latent.source.spans

    def drawn(parsed: Parsed) -> Array:
        return networks.preview(networks.array(_steps(parsed)[None]), t, scale)

    for span, part in zip(spans, latent.each(range(len(spans)), drawn), strict=True):
        rows = pixels[span.top * PIXELS // scale : span.bottom * PIXELS // scale]
        rows[:] = networks.levels(part[0, :, : rows.shape[0], : shape[1]], header.grey)
    return pixels


def _steps(parsed: Parsed) -> NDArray[np.float32]:
    """A parsed latent in steps, [M, h, w]."""
    steps = parsed.mean.astype(np.float32)
    steps *= np.float32(2.0**-LATENT_BITS)
    steps += parsed.symbols
    return steps
