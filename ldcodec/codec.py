"""The public functions: a picture to the bytes of an .ldc file, and back."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec import container, picture, quality
from ldcodec.decoder import DecodeSettings, OnStep
from ldcodec.decoder import decode as decode_container
from ldcodec.encoder import Coded, PictureEncoder
from ldcodec.errors import LdcodecWarning, PictureError, UsageError
from ldcodec.model import Model, find_model, load_model
from ldcodec.ratecontrol import Search, find_index, guess, psnr_goal, size_goal

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
    encoder = PictureEncoder(pixels, model or load_model())
    return container.write(encode_to(encoder, target).container)


def decode_array(
    data: bytes,
    *,
    steps: int | None = None,
    realism: float = 0.0,
    sampler: str = "ddim",
    seed: int = 0,
    model: Model | None = None,
    on_step: OnStep | None = None,
) -> NDArray[np.uint8]:
    """The picture of an .ldc file as a uint8 array (H, W, 3) or (H, W).

    steps of the reverse diffusion (default 1, or 8 with realism); realism from 0, the least error, to 1, a draw from
    what the symbols allow; sampler ddim, ddpm, heun or sde; seed of the noise. Raises FormatError, DamagedError,
    ModelError or UsageError.
    """
    settings = DecodeSettings(steps, realism, sampler, seed)
    source = container.read(data)
    return decode_container(source, model or find_model(source.header.parse_id), settings, on_step)


def decode(
    data: bytes,
    *,
    steps: int | None = None,
    realism: float = 0.0,
    sampler: str = "ddim",
    seed: int = 0,
    model: Model | None = None,
) -> Image.Image:
    """The picture of an .ldc file as a PIL image of mode RGB or L; arguments and errors as for decode_array."""
    return picture.to_image(decode_array(data, steps=steps, realism=realism, sampler=sampler, seed=seed, model=model))


def _from_array(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise PictureError(f"an array must be uint8 of shape (H, W, 3) or (H, W), not {array.dtype} {array.shape}")
    problem = container.size_problem(array.shape[1], array.shape[0])
    if problem:
        raise PictureError(f"the picture cannot be stored: {problem}")
    return array


def encode_to(encoder: PictureEncoder, target: Target) -> Coded:
    """A picture coded for a target; warns with LdcodecWarning where the target is out of reach."""
    if target.quality is not None:
        return encoder.code(quality.nearest_index(target.quality / 100))
    if target.psnr is not None:
        return _encode_to_psnr(encoder, target.psnr)
    pixels = encoder.width * encoder.height
    size = target.size if target.size is not None else math.floor((target.rate or 0) * pixels / 8)
    return _encode_to_size(encoder, size)


def _encode_to_size(encoder: PictureEncoder, size: int) -> Coded:
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


def _encode_to_psnr(encoder: PictureEncoder, psnr: float) -> Coded:
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


def _confirm(encoder: PictureEncoder, search: Search, measure: Callable[[Coded], float]) -> list[Coded]:
    """Codes the picture for real, beginning where the search stands, until the goal is reached; all that was coded."""
    found: list[Coded] = []
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
