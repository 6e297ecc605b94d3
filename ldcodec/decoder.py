"""Container → picture: parse the symbols, run the reverse diffusion on what quantisation destroyed, synthesise."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec import container, quality
from ldcodec.container import Container, Header, Slice
from ldcodec.diffusion.denoiser import Condition
from ldcodec.diffusion.noise import gaussian
from ldcodec.diffusion.posterior import truncated_moments
from ldcodec.diffusion.samplers import SAMPLERS
from ldcodec.diffusion.schedule import times
from ldcodec.errors import DamagedError, FormatError, ModelError, UsageError
from ldcodec.model import Model
from ldcodec.ratemodel.gaussian import scale_of
from ldcodec.ratemodel.integer import LATENT_BITS, Parsed, Prior
from ldcodec.ratemodel.network import SKIPPED_SCALES
from ldcodec.ratemodel.quantiser import cells
from ldcodec.slicing import Span, coded_rows
from ldcodec.weightsfile import is_too_small

OnStep = Callable[[int], None]
REALISTIC_STEPS = 8  # where realism is asked for and no number of steps


@dataclass(frozen=True)
class DecodeSettings:
    """How the reverse process runs.

    steps: 1..1000, None for what suits the model (see `course`); realism: 0 (minimum error) to 1 (natural); sampler: a
    name in SAMPLERS; seed: 0..2⁶⁴ − 1, of the noise. Raises UsageError outside these.
    """

    steps: int | None = None
    realism: float = 0.0
    sampler: str = "ddim"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.realism <= 1:
            raise UsageError(f"realism must be from 0 to 1, not {self.realism}")
        if self.sampler not in SAMPLERS:
            raise UsageError(f"sampler must be one of {', '.join(SAMPLERS)}, not {self.sampler!r}")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise UsageError(f"steps must be from 1 to 1000, not {self.steps}")
        if not 0 <= self.seed < 2**64:
            raise UsageError("seed must be from 0 to 2^64 - 1")

    def course(self, model: Model) -> "Course":
        """What these settings mean for a model.

        One step is the least error, turned towards natural texture by the model's second synthesis where it has one.
        Several steps, and 8 without a second synthesis, draw from the posterior with noise scaled by the realism.
        """
        if self.realism and self.steps in (None, 1) and model.networks.texture is not None:
            return Course(1, 0.0, self.realism)
        return Course(self.steps or (REALISTIC_STEPS if self.realism else 1), self.realism, 0.0)


@dataclass(frozen=True)
class Course:
    """Steps of the reverse process, the share 0..1 of noise that it starts with, and that of the second synthesis."""

    steps: int
    noise: float
    texture: float


def decode(
    source: Container, model: Model, settings: DecodeSettings, on_step: OnStep | None = None
) -> NDArray[np.uint8]:
    """A file's container → uint8 picture (H, W, 3) or (H, W). Raises DamagedError, FormatError or ModelError as
    `parse` does.
    """
    return render(condition(parse(source, model), source.header, model), source.header, model, settings, on_step)


def parse(source: Container, model: Model) -> Parsed:
    """The symbols of a file of one slice; raises ModelError for another model's file, DamagedError where symbols differ
    from those written.
    """
    check_model(source.header, model)
    if len(source.slices) != 1:
        raise FormatError("the file has several slices, which are parsed one by one")
    return parse_slice(source.slices[0], source.header, whole_span(source.header), model)


def check_model(header: Header, model: Model) -> None:
    """Raises ModelError unless the model is the one that a file was written with."""
    if header.parse_id != model.parse_id:
        raise ModelError(
            f"the file was written with model {header.parse_id.hex()}, not {model.parse_id.hex()} ({model.name})"
        )


def whole_span(header: Header) -> Span:
    """All latent rows of a picture."""
    return Span(0, container.latent_size(header.width, header.height)[0])


def parse_slice(piece: Slice, header: Header, span: Span, model: Model) -> Parsed:
    """The latent of one slice, of the rows of its span alone. Raises DamagedError where symbols differ from those
    written.
    """
    return read_slice(piece, header, span, model)[1]


def read_slice(piece: Slice, header: Header, span: Span, model: Model) -> tuple[NDArray[np.int32], Parsed]:
    """All symbols of a slice: those of its hyper-latent, [hyper, h/4, w/4], and its latent. Errors as `parse_slice`."""
    hyper_shape = _hyper_shape(header, span, model)
    least = float(model.coder.least_bits[model.integers.z_index].sum())
    if is_too_small(len(piece.payload), hyper_shape[1] * hyper_shape[2], least):
        raise DamagedError(f"{len(piece.payload)} bytes of payload cannot hold the symbols of {span.rows} latent rows")
    decoder = model.coder.decoder(piece.payload)
    hyper = decoder.decode(hyper_indices(model, hyper_shape)).reshape(hyper_shape)

    def read(prior: Prior) -> NDArray[np.int32]:
        symbols = np.zeros(prior.index.shape, np.int32)
        kept = prior.index >= SKIPPED_SCALES
        symbols[kept] = decoder.decode(prior.index[kept])
        return symbols

    coded = coded_rows(span, header.width, header.height)
    parsed = model.integers.parse(hyper, header.quality, coded, read)
    decoder.finish()
    if symbols_crc(hyper, parsed.symbols) != piece.symbols_crc:
        raise DamagedError("the decoded symbols are not those that were written (their CRC-32 differs)")
    return hyper, parsed


def blank_slice(header: Header, span: Span, model: Model) -> Parsed:
    """What stands for a damaged slice: the means that follow from a hyper-latent of zeros, every symbol zero."""

    def nothing(prior: Prior) -> NDArray[np.int32]:
        return np.zeros(prior.index.shape, np.int32)

    hyper = np.zeros(_hyper_shape(header, span, model), np.int32)
    return model.integers.parse(hyper, header.quality, coded_rows(span, header.width, header.height), nothing)


def _hyper_shape(header: Header, span: Span, model: Model) -> tuple[int, int, int]:
    columns = container.latent_size(header.width, header.height)[1]
    return model.networks.config.hyper, span.rows // 4, columns // 4


def hyper_indices(model: Model, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Scale index of each hyper-latent symbol of shape [hyper, h/4, w/4], flattened."""
    return np.repeat(model.integers.z_index, shape[1] * shape[2])


def symbols_crc(hyper: NDArray[np.int32], symbols: NDArray[np.int32]) -> int:
    """CRC-32 of all symbols of a slice as 16-bit little-endian numbers: hyper-latent, then latent, channel by
    channel.
    """
    return zlib.crc32(symbols.astype("<i2").tobytes(), zlib.crc32(hyper.astype("<i2").tobytes()))


@torch.no_grad()
def render(
    known: Condition, header: Header, model: Model, settings: DecodeSettings, on_step: OnStep | None = None
) -> NDArray[np.uint8]:
    """What is known of the latent → uint8 picture (H, W, 3) or (H, W)."""
    latent = reconstruct(known, model, settings, on_step)
    picture = model.networks.picture(latent, known.quality, settings.course(model).texture)
    picture = picture[0, :, : header.height, : header.width]
    return levels(picture, header.grey)


def levels(picture: Tensor, grey: bool) -> NDArray[np.uint8]:
    """Picture [3, H, W] in about 0..1 → its 8-bit levels, uint8 (H, W, 3), or (H, W) where it is grey."""
    if grey:
        picture = picture.mean(0, keepdim=True)
    pixels = picture.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels[:, :, 0] if grey else pixels)


def condition(parsed: Parsed, header: Header, model: Model) -> Condition:
    """What the symbols say of each latent, [1, M, h, w] in steps."""
    symbols = torch.from_numpy(parsed.symbols).to(model.device)[None].float()
    mean = torch.from_numpy(parsed.mean).to(model.device)[None].float() * 2.0**-LATENT_BITS
    scale = scale_of(torch.from_numpy(parsed.index).to(model.device)[None])
    return posterior(symbols, mean, scale, torch.tensor([quality.fraction(header.quality)], device=model.device))


def posterior(symbols: Tensor, mean: Tensor, scale: Tensor, t: Tensor) -> Condition:
    """Symbols, means and scales [1, M, h, w] and t [1] → centroid and deviation of each latent."""
    centroid, deviation = truncated_moments(symbols, scale, cells(symbols, scale))
    return Condition(mean + centroid, deviation, scale, t)


def reconstruct(
    known: Condition,
    model: Model,
    settings: DecodeSettings,
    on_step: OnStep | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """The latent in steps, [1, M, h, w]: the centroid plus what the reverse process restores.

    origin: row and column of the picture's latent at which this part of it begins; the noise depends on it.
    """
    prepared, course = model.networks.denoiser.prepare(known), settings.course(model)
    _, channels, h, w = known.centre.shape

    def denoise(u: Tensor, time: Tensor) -> Tensor:
        v: Tensor = model.networks.denoiser(u, time.expand(1), prepared)
        return v

    def noise(step: int) -> Tensor:
        if not course.noise:
            return torch.zeros_like(known.centre)
        drawn = course.noise * gaussian(settings.seed, step, (channels, h, w), *origin)
        return torch.from_numpy(drawn)[None].to(known.centre)

    sample = SAMPLERS[settings.sampler]
    restored = sample(denoise, noise(0), times(course.steps), noise, on_step)
    return known.centre + known.deviation * restored
