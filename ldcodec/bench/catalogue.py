"""The codecs of a bench by name: ldcodec itself, at constant quality or constant rate, and the others."""

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

from ldcodec import __version__
from ldcodec.bench.codecs import OTHERS, Codec, MissingCodecError
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.encoder.target import TUNES, VISUAL
from ldcodec.errors import TargetError, UsageError
from ldcodec.pictures.picture import Pixels

OWN, OWN_RATE = "ldcodec", "ldcodec-rate"
NEAR = 16  # quality indices, about 1.5 % of the bytes
VARIANT = re.compile(rf"ldcodec-({'|'.join(TUNES)})(?:@(0|1|0?\.\d+))?")  # a tuning, and a realism
NAMES = (OWN, *OTHERS)
DEFAULT_NAMES = (OWN, "jpeg", "webp", "jp2", "avif", "jxl", "heic")  # those of them that are installed
QUALITIES = (14.0, 25.0, 36.0, 47.0, 58.0, 69.0, 80.0, 92.0)


@dataclass(frozen=True)
class OwnOptions:
    """The options that ldcodec is measured with.

    model: name or path, None for the default; steps: 1..1000, None for the default; realism: 0..1.
    qualities: 0..100, rising; rates: bits per pixel, rising, of the curve at constant rate, which is left out if empty.
    device: auto, cpu or cuda; threads: of the CPU; effort: 1..9, of the encoder; tune: psnr or visual.
    """

    model: str | None = None
    steps: int | None = None
    realism: float = 0.0
    qualities: tuple[float, ...] = QUALITIES
    rates: tuple[float, ...] = ()
    device: str = "auto"
    effort: int = 1
    tune: str = VISUAL
    threads: int = 1


def choose(names: list[str], own: OwnOptions) -> tuple[list[Codec], list[str]]:
    """The installed codecs among `names`, ldcodec first, and a line for each one that is missing.

    Raises UsageError for an unknown name and ModelError.
    """
    first = [OWN, *([OWN_RATE] if own.rates else [])] if OWN in names else []
    found, missing = [], []
    for name in [*first, *(name for name in dict.fromkeys(names) if name not in first)]:
        try:
            found.append(codec(name, own))
        except MissingCodecError as error:
            missing.append(str(error))
    return found, missing


@lru_cache(maxsize=32)
def codec(name: str, own: OwnOptions) -> Codec:
    """The codec of a name. Raises UsageError for an unknown name, MissingCodecError and ModelError."""
    if name == OWN:
        return _own_codec(own, OWN, "ldcodec", "quality", own.qualities)
    if name == OWN_RATE:
        return _own_codec(own, OWN_RATE, "ldcodec, constant rate", "rate", own.rates)
    variant = VARIANT.fullmatch(name)
    if variant is not None:
        own = replace(own, tune=variant[1], realism=float(variant[2] or own.realism))
        title = f"ldcodec, {own.tune}" + (f", realism {own.realism:g}" if own.realism else "")
        return _own_codec(own, name, title, "quality", own.qualities)
    if name not in OTHERS:
        raise UsageError(f"unknown codec {name!r}; choose from {', '.join(NAMES)}, or all")
    return OTHERS[name]()


def _own_codec(own: OwnOptions, name: str, title: str, target: str, scale: tuple[float, ...]) -> Codec:
    """ldcodec; a setting is the quality, or the rate in bits per pixel, that every picture gets.

    At constant rate easy pictures reach a far higher PSNR than hard ones, which flatters the mean.
    """
    from ldcodec.bitstream import container
    from ldcodec.codec import decode_array, encode
    from ldcodec.encoder.library import description, load_model

    model = load_model(own.model, own.device, own.threads)

    def to_bytes(pixels: Pixels, setting: float) -> bytes:
        # Without fallback: a lossless file that happens to be smaller says nothing about this codec.
        if target == "rate":
            with suppress(TargetError):  # of which the smallest file, whose row holds the actual rate, comes nearest
                return encode(pixels, rate=setting, fallback=False, effort=own.effort, tune=own.tune, model=model)
        quality = 0.0 if target == "rate" else setting
        return encode(pixels, quality=quality, fallback=False, effort=own.effort, tune=own.tune, model=model)

    def find(pixels: Pixels, size: int) -> float:
        with suppress(TargetError):
            data = encode(pixels, size=size, fallback=False, effort=own.effort, tune=own.tune, model=model)
            index = container.read(data).header.quality
            # That file was steered towards its size; one that only has its quality may have more bytes, or fewer.
            while index + NEAR <= TOP_INDEX and fits(index + NEAR, pixels, size):
                index += NEAR
            while index and not fits(index, pixels, size):
                index = max(0, index - NEAR)
            return 100 * index / TOP_INDEX
        return 0.0

    def fits(index: int, pixels: Pixels, size: int) -> bool:
        return len(to_bytes(pixels, 100 * index / TOP_INDEX)) <= size

    def to_pixels(data: bytes) -> Pixels:
        return decode_array(data, steps=own.steps, realism=own.realism, model=model)

    library = (
        f"ldcodec {__version__}, model {model.name} {model.parse_id.hex()}, {description(own.device, own.threads)}"
    )
    words = f"{target}=setting, steps={own.steps or 'default'}, realism={own.realism:g}, tune={own.tune}"
    words += f", effort={own.effort}" if own.effort > 1 else ""
    # The losses of `training`: of all models, and of the second synthesis.
    trained_on = ("PSNR", "LPIPS") if own.realism and model.networks.textured else ("PSNR",)
    return Codec(name, title, library, words, scale, to_bytes, to_pixels, find=find, trained_on=trained_on)
