"""The public functions: a picture to the bytes of an .ldc file, and back."""

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec.bitstream import container, quality
from ldcodec.bitstream.reader import Reader
from ldcodec.decoder.request import View
from ldcodec.decoder.restore import restore
from ldcodec.decoder.reverse import DecodeSettings, OnStep
from ldcodec.encoder.ratecontrol import Search, find_index, guess, psnr_goal, size_goal
from ldcodec.encoder.sliced import SlicedEncoder, is_large
from ldcodec.encoder.whole import PictureEncoder, Written
from ldcodec.errors import LdcodecWarning, UsageError
from ldcodec.nets.model import Model, find_model, load_model
from ldcodec.pictures import chunks, metadata
from ldcodec.pictures.alpha import filled
from ldcodec.pictures.picture import Picture, from_array
from ldcodec.pictures.read import from_image
from ldcodec.pictures.write import to_image

File = TypeVar("File", bound=Written)

EFFORTS = 9
MAX_CODINGS = 6  # of one picture with the integers and the real coder
TYPICAL_POINT = 0.448, 31.9  # t and dB of an ordinary photograph: where a search for a PSNR starts


@dataclass(frozen=True)
class Target:
    """What a file shall be: exactly one of bits per pixel (> 0), bytes (≥ 1), PSNR in dB (> 0) and quality (0..100).

    Raises UsageError for none, several, or a value out of range.
    """

    rate: float | None = None
    size: int | None = None
    psnr: float | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.rate, self.size, self.psnr, self.quality) if v is not None]
        if len(given) != 1:
            raise UsageError("give exactly one of rate, size, psnr and quality")
        if not math.isfinite(given[0]) or given[0] < 0 or (self.quality is None and given[0] <= 0):
            raise UsageError(f"the target must be a positive number, not {given[0]}")
        if self.quality is not None and self.quality > 100:
            raise UsageError(f"quality must be from 0 to 100, not {self.quality}")

    def bytes(self, pixels: int) -> int | None:
        """The most bytes that a file of so many pixels may have; None if the target sets no limit."""
        return self.size if self.rate is None else math.floor(self.rate * pixels / 8)


def encode(
    image: Image.Image | NDArray[np.uint8] | Picture,
    *,
    rate: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    quality: float | None = None,
    lossless: bool = False,
    strip: bool = False,
    fallback: bool = True,
    effort: int = 1,
    model: Model | None = None,
) -> bytes:
    """A picture as the bytes of an .ldc file.

    image: PIL image, or uint8 array (H, W, 3) RGB, (H, W) grey or either with alpha, (H, W, 4) or (H, W, 2). Exactly
    one target: rate, bits per pixel of the whole file, never exceeded; size in bytes, likewise; psnr in dB, reached;
    quality from 0 to 100; or lossless, every pixel exact. A target out of the model's reach gives the nearest end and
    an LdcodecWarning. strip leaves out Exif, XMP and profile (the picture is turned into sRGB first). fallback: where
    the file would be larger than a lossless one, that is given. effort: 1 to 9; above 1 the encoder refines the latent
    of this picture by gradient, for minutes at 9 (docs/effort.md). Raises UsageError, PictureError or ModelError.
    """
    source = as_picture(image)
    source = metadata.strip(source) if strip else source
    if lossless:
        if any(value is not None for value in (rate, size, psnr, quality)):
            raise UsageError("give either lossless or one of rate, size, psnr and quality")
        return container.write(chunks.lossless(source))
    if not 1 <= effort <= EFFORTS:
        raise UsageError(f"effort must be from 1 to {EFFORTS}, not {effort}")
    target = Target(rate, size, psnr, quality)
    coded, complaint = encode_to(encoder_of(source, model or load_model(), effort), target)
    data = container.write(coded.container)
    found = chunks.smaller_lossless(source, coded.container) if fallback else None
    if found is not None:
        data, complaint = container.write(found), None
        limit = target.bytes(source.width * source.height)
        if limit is not None and len(data) > limit:
            complaint = _out_of_reach(limit, len(data))
    if complaint is not None:
        warnings.warn(complaint, LdcodecWarning, stacklevel=2)
    return data


def decode_picture(
    data: bytes | Reader,
    *,
    steps: int | None = None,
    realism: float = 0.0,
    sampler: str = "ddim",
    seed: int = 0,
    model: Model | None = None,
    on_step: OnStep | None = None,
    view: View | None = None,
) -> Picture:
    """The picture of an .ldc file, given as its bytes or open, with its alpha and metadata.

    steps of the reverse diffusion (default 1; 8 for realism from a model without a second synthesis); realism from 0,
    the least error, to 1, natural texture or, in several steps, a draw from what the symbols allow; sampler ddim, ddpm,
    heun or sde; seed of the noise; view: a region, a preview or what
    damage has left. Raises FormatError, DamagedError, ModelError or UsageError.
    """
    settings = DecodeSettings(steps, realism, sampler, seed)
    source = data if isinstance(data, Reader) else Reader(io.BytesIO(data))
    return restore(source, lambda parse_id: model or find_model(parse_id), settings, view, on_step)


def decode_array(
    data: bytes | Reader,
    *,
    steps: int | None = None,
    realism: float = 0.0,
    sampler: str = "ddim",
    seed: int = 0,
    model: Model | None = None,
    on_step: OnStep | None = None,
    view: View | None = None,
) -> NDArray[np.uint8]:
    """The picture of an .ldc file as a uint8 array, (H, W, 3) RGB or (H, W) grey; with alpha (H, W, 4) or (H, W, 2).

    It is what `numpy.asarray` makes of the image that `decode` gives. Arguments and errors as for decode_picture.
    """
    return decode_picture(
        data, steps=steps, realism=realism, sampler=sampler, seed=seed, model=model, on_step=on_step, view=view
    ).array()


def decode(
    data: bytes | Reader,
    *,
    steps: int | None = None,
    realism: float = 0.0,
    sampler: str = "ddim",
    seed: int = 0,
    model: Model | None = None,
    view: View | None = None,
) -> Image.Image:
    """The picture of an .ldc file as a PIL image of mode RGB, RGBA, L or LA.

    Its `info` holds icc_profile, exif and xmp where the file does. Arguments and errors as for decode_picture.
    """
    return to_image(
        decode_picture(data, steps=steps, realism=realism, sampler=sampler, seed=seed, model=model, view=view)
    )


def as_picture(image: Image.Image | NDArray[np.uint8] | Picture) -> Picture:
    """Whatever `encode` takes as a picture. Raises PictureError."""
    if isinstance(image, Picture):
        return image
    return from_image(image) if isinstance(image, Image.Image) else from_array(image)


class Encoder(Protocol[File]):
    """A picture that can be coded at any quality, and what a search for one asks of it."""

    width: int
    height: int

    def guess_size(self, index: int) -> float:
        """Bytes at a quality index, roughly."""

    def estimate_size(self, index: int) -> float:
        """Bytes at a quality index, well predicted."""

    def estimate_psnr(self, index: int) -> float:
        """PSNR in dB at a quality index, well predicted."""

    def code(self, index: int) -> File:
        """The file at a quality index."""

    def psnr(self, coded: File, /) -> float:
        """PSNR in dB of what a decoder makes of a file."""


def encoder_of(source: Picture, model: Model, effort: int = 1) -> Encoder[Any]:
    """The encoder for a picture of this size. Colours that alpha hides are smoothed first: they need only be cheap."""
    pixels = source.pixels if source.alpha is None else filled(source.pixels, source.alpha)
    kind = SlicedEncoder if is_large(pixels) else PictureEncoder
    return kind(pixels, model, chunks.pack(source), effort)


def _out_of_reach(size: int, nearest: int) -> str:
    return f"a file of {size} bytes is out of reach; the nearest has {nearest}"


def encode_to(encoder: Encoder[File], target: Target) -> tuple[File, str | None]:
    """A picture coded for a target, and what is to be told where the target is out of reach."""
    if target.quality is not None:
        return encoder.code(quality.nearest_index(target.quality / 100)), None
    if target.psnr is not None:
        return _encode_to_psnr(encoder, target.psnr)
    return _encode_to_size(encoder, target.bytes(encoder.width * encoder.height) or 0)


def _encode_to_size(encoder: Encoder[File], size: int) -> tuple[File, str | None]:
    goal = size_goal(max(size, 1))
    start, slope = guess(lambda i: math.log(encoder.guess_size(i)), goal.aim)
    search = find_index(lambda i: math.log(encoder.estimate_size(i)), replace(goal, slope=slope), start)
    found = _confirm(encoder, search, lambda coded: math.log(coded.size))
    fitting = [coded for coded in found if coded.size <= size]
    best = max(fitting or found, key=lambda coded: coded.size if fitting else -coded.size)
    at_end = best.container.header.quality == quality.TOP_INDEX and not goal.reached(math.log(best.size))
    return best, _out_of_reach(size, best.size) if at_end or not fitting else None


def _encode_to_psnr(encoder: Encoder[File], psnr: float) -> tuple[File, str | None]:
    goal = psnr_goal(psnr)
    t, typical = TYPICAL_POINT
    start = t + (psnr - typical) / (goal.slope * quality.TOP_INDEX)
    search = find_index(encoder.estimate_psnr, goal, quality.nearest_index(start))
    found = {encoder.psnr(coded): coded for coded in _confirm(encoder, search, encoder.psnr)}
    reached = [value for value in found if value >= psnr]
    value = min(reached) if reached else max(found)
    at_end = value > goal.high and found[value].container.header.quality == 0
    complaint = f"{psnr:.2f} dB are out of reach; the nearest is {value:.2f} dB"
    return found[value], complaint if at_end or not reached else None


def _confirm(encoder: Encoder[File], search: Search, measure: Callable[[File], float]) -> list[File]:
    """Codes the picture for real, beginning where the search stands, until the goal is reached; all that was coded."""
    found: list[File] = []
    index: int | None = search.nearest()
    while index is not None and len(found) < MAX_CODINGS:
        found.append(encoder.code(index))
        value = measure(found[-1])
        if search.goal.reached(value):
            break
        if len(found) == 1:
            search.shift(value - search.values[index])
        search.tell(index, value)
        index = search.propose()
    return found
