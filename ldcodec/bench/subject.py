"""ldcodec itself as a codec of the bench: at constant quality, or, named as such, at a constant rate."""

import warnings
from dataclasses import dataclass

from ldcodec import __version__
from ldcodec.bench.codecs import Codec
from ldcodec.errors import LdcodecWarning
from ldcodec.pictures.picture import Pixels

QUALITIES = (14.0, 25.0, 36.0, 47.0, 58.0, 69.0, 80.0, 92.0)
NAME, RATE_NAME = "ldcodec", "ldcodec-rate"


@dataclass(frozen=True)
class Subject:
    """Which ldcodec is measured.

    model: name or path, None for the default one; steps: 1..1000 or None; realism: 0..1; qualities: 0..100, rising;
    rates: bits a pixel, rising, of the curve at constant rate; device: auto, cpu or cuda; effort: 1..9, of the encoder.
    """

    model: str | None = None
    steps: int | None = None
    realism: float = 0.0
    qualities: tuple[float, ...] = QUALITIES
    rates: tuple[float, ...] = ()
    device: str = "auto"
    effort: int = 1


def constant_quality(subject: Subject) -> Codec:
    """The setting is the quality, 0..100, the same for every picture."""
    return _codec(subject, NAME, "ldcodec", "quality", subject.qualities)


def constant_rate(subject: Subject) -> Codec:
    """The setting is the rate in bits a pixel, the same for every picture: easy pictures get far more PSNR than hard
    ones, which flatters the mean.
    """
    return _codec(subject, RATE_NAME, "ldcodec, constant rate", "rate", subject.rates)


def _codec(subject: Subject, name: str, title: str, target: str, scale: tuple[float, ...]) -> Codec:
    from ldcodec.codec import decode_array, encode
    from ldcodec.nets.model import load_model

    model = load_model(subject.model, subject.device)

    def to_bytes(pixels: Pixels, setting: float) -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LdcodecWarning)  # of a rate out of reach: the row tells the real one
            if target == "rate":  # without fallback: a lossless file that happens to be smaller is not this codec's
                return encode(pixels, rate=setting, fallback=False, effort=subject.effort, model=model)
            return encode(pixels, quality=setting, fallback=False, effort=subject.effort, model=model)

    def to_pixels(data: bytes) -> Pixels:
        return decode_array(data, steps=subject.steps, realism=subject.realism, model=model)

    library = f"ldcodec {__version__}, model {model.name} {model.parse_id.hex()} on {model.device}"
    words = f"{target}=setting, steps={subject.steps or 'default'}, realism={subject.realism:g}"
    words += f", effort={subject.effort}" if subject.effort > 1 else ""
    return Codec(name, title, library, words, scale, to_bytes, to_pixels, whole=False)
