"""The public functions: a picture to the bytes of an .ldc file, and back."""

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec import container, picture, quality
from ldcodec.decoder import DecodeSettings, OnStep
from ldcodec.encoder import PictureEncoder, Written
from ldcodec.errors import LdcodecWarning, PictureError, UsageError
from ldcodec.model import Model, find_model, load_model
from ldcodec.ratecontrol import Search, find_index, guess, psnr_goal, size_goal
from ldcodec.reader import Reader
from ldcodec.restore import View, restore
from ldcodec.sliced import SlicedEncoder, is_large

File = TypeVar("File", bound=Written)

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


def encode(
    image: Image.Image | NDArray[np.uint8],
    *,
    rate: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    quality: float | None = None,
    model: Model | None = None,
) -> bytes:
    """A picture as the bytes of an .ldc file.

    image: PIL image, or uint8 array (H, W, 3) RGB or (H, W) grey. Exactly one target: rate, bits per pixel of the
    whole file, never exceeded; size in bytes, likewise; psnr in dB, reached; quality from 0 to 100. A target out of
    the model's reach gives the nearest end and an LdcodecWarning. Raises UsageError, PictureError or ModelError.
    """
    target = Target(rate, size, psnr, quality)
    pixels = picture.from_image(image) if isinstance(image, Image.Image) else _from_array(image)
    return container.write(encode_to(encoder_of(pixels, model or load_model()), target).container)


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
    """The picture of an .ldc file, given as its bytes or open, as a uint8 array (H, W, 3) or (H, W).

    steps of the reverse diffusion (default 1, or 8 with realism); realism from 0, the least error, to 1, a draw from
    what the symbols allow; sampler ddim, ddpm, heun or sde; seed of the noise; view: a region, a preview or what
    damage has left. Raises FormatError, DamagedError, ModelError or UsageError.
    """
    settings = DecodeSettings(steps, realism, sampler, seed)
    source = data if isinstance(data, Reader) else Reader(io.BytesIO(data))
    return restore(source, model or find_model(source.header.parse_id), settings, view, on_step)


def decode(
    data: bytes,
    *,
    steps: int | None = None,
    realism: float = 0.0,
    sampler: str = "ddim",
    seed: int = 0,
    model: Model | None = None,
    view: View | None = None,
) -> Image.Image:
    """The picture of an .ldc file as a PIL image of mode RGB or L; arguments and errors as for decode_array."""
    settings = DecodeSettings(steps, realism, sampler, seed)
    return picture.to_image(decode_array(data, **asdict(settings), model=model, view=view))


def _from_array(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise PictureError(f"an array must be uint8 of shape (H, W, 3) or (H, W), not {array.dtype} {array.shape}")
    problem = container.size_problem(array.shape[1], array.shape[0])
    if problem:
        raise PictureError(f"the picture cannot be stored: {problem}")
    return array


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


def encoder_of(pixels: NDArray[np.uint8], model: Model) -> Encoder[Any]:
    """The encoder for a picture of this size: uint8 (H, W, 3) or (H, W)."""
    return SlicedEncoder(pixels, model) if is_large(pixels) else PictureEncoder(pixels, model)


def encode_to(encoder: Encoder[File], target: Target) -> File:
    """A picture coded for a target; warns with LdcodecWarning where the target is out of reach."""
    if target.quality is not None:
        return encoder.code(quality.nearest_index(target.quality / 100))
    if target.psnr is not None:
        return _encode_to_psnr(encoder, target.psnr)
    pixels = encoder.width * encoder.height
    size = target.size if target.size is not None else math.floor((target.rate or 0) * pixels / 8)
    return _encode_to_size(encoder, size)


def _encode_to_size(encoder: Encoder[File], size: int) -> File:
    goal = size_goal(max(size, 1))
    start, slope = guess(lambda i: math.log(encoder.guess_size(i)), goal.aim)
    search = find_index(lambda i: math.log(encoder.estimate_size(i)), replace(goal, slope=slope), start)
    found = _confirm(encoder, search, lambda coded: math.log(coded.size))
    fitting = [coded for coded in found if coded.size <= size]
    best = max(fitting or found, key=lambda coded: coded.size if fitting else -coded.size)
    if not fitting or (not goal.reached(math.log(best.size)) and best.container.header.quality == quality.TOP_INDEX):
        warnings.warn(
            f"a file of {size} bytes is out of reach; the nearest has {best.size}", LdcodecWarning, stacklevel=4
        )
    return best


def _encode_to_psnr(encoder: Encoder[File], psnr: float) -> File:
    goal = psnr_goal(psnr)
    t, typical = TYPICAL_POINT
    start = t + (psnr - typical) / (goal.slope * quality.TOP_INDEX)
    search = find_index(encoder.estimate_psnr, goal, quality.nearest_index(start))
    found = {encoder.psnr(coded): coded for coded in _confirm(encoder, search, encoder.psnr)}
    reached = [value for value in found if value >= psnr]
    value = min(reached) if reached else max(found)
    if not reached or (value > goal.high and found[value].container.header.quality == 0):
        warnings.warn(f"{psnr:.2f} dB are out of reach; the nearest is {value:.2f} dB", LdcodecWarning, stacklevel=4)
    return found[value]


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
