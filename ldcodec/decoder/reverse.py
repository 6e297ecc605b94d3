"""Container → picture: parse the symbols, run the reverse diffusion on what quantisation destroyed, synthesise.

Nothing here needs torch: what computes is a `DecoderModel`, whose float networks are PyTorch's or ONNX graphs.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import layout, quality
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Slice
from ldcodec.bitstream.slices import Span, coded_rows
from ldcodec.diffusion.condition import Array, Condition
from ldcodec.diffusion.grain import STEP as GRAIN_STEP
from ldcodec.diffusion.grain import grained
from ldcodec.diffusion.noise import gaussian
from ldcodec.diffusion.posterior import known_of
from ldcodec.diffusion.samplers import SAMPLERS, Denoise
from ldcodec.diffusion.schedule import times
from ldcodec.entropy.integer import IntegerRateModel, Parsed, Prior
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import SKIPPED_SCALES
from ldcodec.entropy.weightsfile import is_too_small
from ldcodec.errors import DamagedError, FormatError, ModelError, UsageError

OnStep = Callable[[int], None]
REALISTIC_STEPS = 8  # where realism is asked for and no number of steps


class FloatNetworks(Protocol):
    """The float networks of a model as decoding sees them. An Array is float32, of the library that computes."""

    @property
    def textured(self) -> bool:
        """Whether there is a second synthesis, for natural texture."""

    @property
    def denoiser_halo(self) -> int:
        """Latent rows and columns around a position that one evaluation of the denoiser depends on."""

    @property
    def synthesis_halo(self) -> int:
        """Latent rows and columns around a position that its pixels depend on."""

    def array(self, values: NDArray[np.float32]) -> Array:
        """The values where the networks compute."""

    def denoise(self, condition: Condition[Array]) -> Denoise:
        """The denoiser under a condition, of which it does once what no step changes."""

    def drawn(self, latent: Array, grained: Array, quality: Array, texture: float) -> Array:
        """Latents in steps [1, M, h, w] and t [1] → picture [1, 3, 16h, 16w] in about 0..1.

        texture: 0..1, the share of the second synthesis, which reads `grained`.
        """

    def preview(self, latent: Array, quality: Array, scale: int) -> Array:
        """The same at 1/scale of the size, scale 2, 4, 8 or 16, by the linear shortcut alone."""

    def levels(self, picture: Array, grey: bool) -> NDArray[np.uint8]:
        """Picture [3, H, W] in about 0..1 → its 8-bit levels, uint8 (H, W, 3), or (H, W) where it is grey."""


class DecoderModel(Protocol):
    """A model as decoding sees it: its name, the parse id of the files it reads, integers and floats."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def parse_id(self) -> bytes:
        """8 bytes, as files name them."""

    @property
    def integers(self) -> IntegerRateModel:
        """The rate model."""

    @property
    def coder(self) -> Coder:
        """Of its symbols."""

    @property
    def networks(self) -> FloatNetworks:
        """What draws the picture."""


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

    def course(self, model: DecoderModel) -> "Course":
        """What these settings mean for a model.

        One step is the least error, turned towards natural texture by the model's second synthesis where it has one.
        Several steps, and 8 without a second synthesis, draw from the posterior with noise scaled by the realism.
        """
        if self.realism and self.steps in (None, 1) and model.networks.textured:
            return Course(1, 0.0, self.realism)
        return Course(self.steps or (REALISTIC_STEPS if self.realism else 1), self.realism, 0.0)


@dataclass(frozen=True)
class Course:
    """Steps of the reverse process, the share 0..1 of noise that it starts with, and that of the second synthesis."""

    steps: int
    noise: float
    texture: float


class Restored(NamedTuple):
    """Latents in steps, [1, M, h, w]: what the synthesis of least error reads, and what the second one reads."""

    latent: Array
    grained: Array


def decode(
    source: Container, model: DecoderModel, settings: DecodeSettings, on_step: OnStep | None = None
) -> NDArray[np.uint8]:
    """A file's container → uint8 picture (H, W, 3) or (H, W). Raises DamagedError, FormatError or ModelError as
    `parse` does.
    """
    return render(condition(parse(source, model), source.header, model), source.header, model, settings, on_step)


def parse(source: Container, model: DecoderModel) -> Parsed:
    """The symbols of a file of one slice; raises ModelError for another model's file, DamagedError where symbols differ
    from those written.
    """
    check_model(source.header, model)
    if len(source.slices) != 1:
        raise FormatError("the file has several slices, which are parsed one by one")
    return parse_slice(source.slices[0], source.header, whole_span(source.header), model)


def check_model(header: Header, model: DecoderModel) -> None:
    """Raises ModelError unless the model is the one that a file was written with."""
    if header.parse_id != model.parse_id:
        raise ModelError(
            f"the file was written with model {header.parse_id.hex()}, not {model.parse_id.hex()} ({model.name})"
        )


def whole_span(header: Header) -> Span:
    """All latent rows of a picture."""
    return Span(0, layout.latent_size(header.width, header.height)[0])


def parse_slice(piece: Slice, header: Header, span: Span, model: DecoderModel) -> Parsed:
    """The latent of one slice, of the rows of its span alone. Raises DamagedError where symbols differ from those
    written.
    """
    return read_slice(piece, header, span, model)[1]


def read_slice(piece: Slice, header: Header, span: Span, model: DecoderModel) -> tuple[NDArray[np.int32], Parsed]:
    """All symbols of a slice: those of its hyper-latent, [hyper, h/4, w/4], and its latent. Errors as `parse_slice`."""
    hyper_shape = _hyper_shape(header, span, model)
    least = model.coder.hyper.least(model.coder.least_bits)
    if is_too_small(len(piece.payload), hyper_shape[1] * hyper_shape[2], least):
        raise DamagedError(f"{len(piece.payload)} bytes of payload cannot hold the symbols of {span.rows} latent rows")
    decoder = model.coder.decoder(piece.payload)
    hyper = model.coder.hyper.fill(hyper_shape[1:], header.quality, lambda indices, _: decoder.decode(indices))

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


def blank_slice(header: Header, span: Span, model: DecoderModel) -> Parsed:
    """What stands for a damaged slice: the means that follow from a hyper-latent of zeros, every symbol zero."""

    def nothing(prior: Prior) -> NDArray[np.int32]:
        return np.zeros(prior.index.shape, np.int32)

    hyper = np.zeros(_hyper_shape(header, span, model), np.int32)
    return model.integers.parse(hyper, header.quality, coded_rows(span, header.width, header.height), nothing)


def _hyper_shape(header: Header, span: Span, model: DecoderModel) -> tuple[int, int, int]:
    columns = layout.latent_size(header.width, header.height)[1]
    return model.integers.config.hyper, span.rows // 4, columns // 4


def symbols_crc(hyper: NDArray[np.int32], symbols: NDArray[np.int32]) -> int:
    """CRC-32 of all symbols of a slice as 16-bit little-endian numbers: hyper-latent, then latent, channel by
    channel.
    """
    return zlib.crc32(symbols.astype("<i2").tobytes(), zlib.crc32(hyper.astype("<i2").tobytes()))


def render(
    known: Condition[Array],
    header: Header,
    model: DecoderModel,
    settings: DecodeSettings,
    on_step: OnStep | None = None,
) -> NDArray[np.uint8]:
    """What is known of the latent → uint8 picture (H, W, 3) or (H, W)."""
    restored = reconstruct(known, model, settings, on_step)
    picture = model.networks.drawn(*restored, known.quality, settings.course(model).texture)
    return model.networks.levels(picture[0, :, : header.height, : header.width], header.grey)


def condition(parsed: Parsed, header: Header, model: DecoderModel) -> Condition[Array]:
    """What the symbols say of each latent, [1, M, h, w] in steps."""
    known, array = known_of(parsed), model.networks.array
    return Condition(
        array(known.centre[None]), array(known.deviation[None]), array(known.scale[None]), fraction_of(header, model)
    )


def fraction_of(header: Header, model: DecoderModel) -> Array:
    """The quality t of a file, [1] in 0..1."""
    return model.networks.array(np.array([quality.fraction(header.quality)], np.float32))


def reconstruct(
    known: Condition[Array],
    model: DecoderModel,
    settings: DecodeSettings,
    on_step: OnStep | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Restored:
    """The latent: the centroid plus what the reverse process restores.

    origin: row and column of the picture's latent at which this part of it begins; the noise depends on it.
    """
    course, shape = settings.course(model), tuple(known.centre.shape)

    def noise(step: int, size: float = course.noise) -> Array:
        if not size:
            return model.networks.array(np.zeros(shape, np.float32))
        drawn = np.float32(size) * gaussian(settings.seed, step, shape[1:], *origin)
        return model.networks.array(drawn[None])

    sample, grain = SAMPLERS[settings.sampler], model.integers.config.grain
    restored = sample(model.networks.denoise(known), noise(0), times(course.steps), noise, on_step)
    latent = known.centre + known.deviation * restored
    if not course.texture or not grain:
        return Restored(latent, latent)
    return Restored(latent, grained(latent, known, noise(GRAIN_STEP, 1.0), grain))
