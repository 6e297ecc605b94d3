"""Symbols → pixels: the reverse diffusion restores what quantisation destroyed, the synthesis draws the picture.

Nothing here needs torch: what computes is a `DecoderModel`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ldcodec.bitstream import quality
from ldcodec.bitstream.layout import Header
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.request import DecodeSettings
from ldcodec.diffusion.noise import gaussian
from ldcodec.diffusion.posterior import GRAIN_STEP, Array, Condition, grained, known_of
from ldcodec.diffusion.samplers import SAMPLERS, times
from ldcodec.entropy.integer import Parsed
from ldcodec.pictures.picture import Pixels

OnStep = Callable[[int], None]


class Restored(NamedTuple):
    """Latents in steps, [1, M, h, w]: what the synthesis of least error reads, and what the second one reads."""

    latent: Array
    grained: Array


def condition(parsed: Parsed, header: Header, model: DecoderModel) -> Condition[Array]:
    """What the symbols say of each latent, [1, M, h, w] in steps."""
    known, array = known_of(parsed), model.networks.array
    centre, deviation, scale = (array(part[None]) for part in (known.centre, known.deviation, known.scale))
    return Condition(centre, deviation, scale, quality_of(header, model))


def quality_of(header: Header, model: DecoderModel) -> Array:
    """The quality t of a file, [1] in 0..1."""
    return model.networks.array(np.array([quality.fraction(header.quality)], np.float32))


def reverse_diffusion(
    known: Condition[Array],
    model: DecoderModel,
    settings: DecodeSettings,
    on_step: OnStep | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Restored:
    """The latent: the centroid of each symbol's cell plus what the reverse process restores around it.

    origin: row and column of the picture's latent at which this part of it begins. The noise goes by absolute position,
    so that tiles continue each other. on_step is called with 1 … n after each step.
    """
    plan, shape = settings.plan(model.networks.textured), tuple(known.centre.shape)

    def noise(step: int, size: float = plan.noise) -> Array:
        if not size:
            return model.networks.array(np.zeros(shape, np.float32))
        drawn = np.float32(size) * gaussian(settings.seed, step, shape[1:], *origin)
        return model.networks.array(drawn[None])

    sample, grain = SAMPLERS[settings.sampler], model.integers.config.grain
    restored = sample(model.networks.denoise(known), noise(0), times(plan.steps), noise, on_step)
    latent = known.centre + known.deviation * restored
    if not plan.texture or not grain:
        return Restored(latent, latent)
    return Restored(latent, grained(latent, known, noise(GRAIN_STEP, 1.0), grain))


def render(
    known: Condition[Array],
    header: Header,
    model: DecoderModel,
    settings: DecodeSettings,
    on_step: OnStep | None = None,
) -> Pixels:
    """What is known of a whole latent → uint8 picture (H, W, 3) or (H, W)."""
    restored = reverse_diffusion(known, model, settings, on_step)
    texture = settings.plan(model.networks.textured).texture
    picture = model.networks.picture(restored.latent, known.quality, texture, restored.grained)
    return model.networks.levels(picture[0, :, : header.height, : header.width], header.grey)
