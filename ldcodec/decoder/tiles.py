"""A picture drawn tile by tile, or as a small preview, so that it never lies in memory as a whole in floats.

A tile is rendered from its own latents and a halo around them as wide as the networks see, cut to the latent of the
whole picture. Slices do not show, and the noise goes by absolute position, so tiles give the pixels of one pass over
everything, within a level.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.slices import DENOISER_HALO, PIXELS, TILE, Area, is_large
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.reverse import OnStep, condition, quality_of, render, reverse_diffusion
from ldcodec.diffusion.posterior import Array
from ldcodec.diffusion.samplers import evaluations
from ldcodec.entropy.integer import LATENT_BITS, Parsed
from ldcodec.pictures.picture import Pixels


@dataclass(frozen=True)
class Halo:
    """Latent rows and columns that the pixels of a tile depend on, beyond the tile's own."""

    denoiser: int
    synthesis: int


def halo_of(model: DecoderModel, settings: DecodeSettings) -> Halo:
    """How far the networks of a model see with these settings."""
    networks = model.networks
    asked = evaluations(settings.sampler, settings.plan(networks.textured).steps)
    return Halo(min(asked * networks.denoiser_halo, DENOISER_HALO), networks.synthesis_halo)


def picture_of(latent: Latent, settings: DecodeSettings, on_step: OnStep | None = None) -> Pixels:
    """The whole picture of a file, uint8 (H, W, 3) or (H, W): in one pass where it is small, else tile by tile."""
    header = latent.header
    if not is_large(header.width, header.height):
        known = condition(latent.window(Area(0, latent.rows, 0, latent.columns)), header, latent.model)
        return render(known, header, latent.model, settings, on_step)
    return region_of(latent, Area(0, header.height, 0, header.width), settings)


def region_of(latent: Latent, region: Area, settings: DecodeSettings) -> Pixels:
    """The pixels of a region of the picture, uint8 (H, W, 3) or (H, W), from the slices it needs."""
    shape = (region.bottom - region.top, region.right - region.left)
    pixels = np.empty(shape if latent.header.grey else (*shape, 3), np.uint8)
    for place, rendered in tiles_of(latent, region, settings):
        pixels[place.inside(region)] = rendered
    return pixels


def tiles_of(latent: Latent, region: Area, settings: DecodeSettings) -> Iterator[tuple[Area, Pixels]]:
    """The tiles of a region of pixels, row by row from the top: where each lies in the picture, and its pixels."""
    halo = halo_of(latent.model, settings)
    first, last = region.top // PIXELS, -(-region.bottom // PIXELS)
    left, right = region.left // PIXELS, -(-region.right // PIXELS)
    for top, bottom in evenly(first, last, TILE):
        for start, end in evenly(left, right, TILE):
            tile = Area(top, bottom, start, end)
            shown = Area(
                max(region.top, top * PIXELS),
                min(region.bottom, bottom * PIXELS),
                max(region.left, start * PIXELS),
                min(region.right, end * PIXELS),
            )
            yield shown, _tile(latent, tile, halo, settings)[shown.inside(Area(*(PIXELS * edge for edge in tile)))]


def _tile(latent: Latent, tile: Area, halo: Halo, settings: DecodeSettings) -> Pixels:
    """The pixels of a tile of latents."""
    seen = tile.grown(halo.synthesis, latent.rows, latent.columns)
    window = seen.grown(halo.denoiser, latent.rows, latent.columns)
    known = condition(latent.window(window), latent.header, latent.model)
    networks = latent.model.networks
    restored = reverse_diffusion(known, latent.model, settings, origin=(window.top, window.left))
    rows, columns = seen.inside(window)
    least, grained = (part[:, :, rows, columns] for part in restored)
    picture = networks.picture(least, known.quality, settings.plan(networks.textured).texture, grained)
    rows, columns = tile.inside(seen, PIXELS)
    return networks.levels(picture[0, :, rows, columns], latent.header.grey)


def preview_of(latent: Latent, scale: int) -> Pixels:
    """A file's picture at 1/scale of its size, rounded up, scale 2, 4, 8 or 16: uint8 (H, W, 3) or (H, W)."""
    header, networks = latent.header, latent.model.networks
    shape = -(-header.height // scale), -(-header.width // scale)
    pixels = np.empty(shape if header.grey else (*shape, 3), np.uint8)
    t, spans = quality_of(header, latent.model), latent.source.spans

    def drawn(parsed: Parsed) -> Array:
        return networks.preview(networks.array(_steps(parsed)[None]), t, scale)

    for span, part in zip(spans, latent.each(range(len(spans)), drawn), strict=True):
        rows = pixels[span.top * PIXELS // scale : span.bottom * PIXELS // scale]
        rows[:] = networks.levels(part[0, :, : rows.shape[0], : shape[1]], header.grey)
    return pixels


def _steps(parsed: Parsed) -> NDArray[np.float32]:
    """A parsed latent in quantisation steps, [M, h, w], without what the cells say of it."""
    steps = parsed.mean.astype(np.float32)
    steps *= np.float32(2.0**-LATENT_BITS)
    steps += parsed.symbols
    return steps


def evenly(start: int, end: int, largest: int) -> Iterator[tuple[int, int]]:
    """start … end cut into the fewest parts of at most `largest`, all about equal."""
    count = -(-(end - start) // largest)
    edges = [start + (end - start) * k // count for k in range(count + 1)]
    return pairwise(edges)
