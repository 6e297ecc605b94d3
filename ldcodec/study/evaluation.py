"""Rate, distortion and perception of a trained codec, measured over several seeds."""

import math
import time as clocks
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldcodec.bitstream.quality import psnr
from ldcodec.study import rates
from ldcodec.study.datasets import Dataset, Pictures
from ldcodec.study.fit import bound
from ldcodec.study.perception import Classifier, Distances, accuracy, classifier, distances, estimate
from ldcodec.study.results import DECODER, FLOOR, GENERATED, ONE_STEP, Change, Quality, RunResult
from ldcodec.study.toycodec import StudyCodec

TIMES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
DRAWS = 8  # of time and noise for each picture, over which the bound is averaged

Way = Callable[[Tensor], Tensor]  # z [B, L, h, w] → pictures [B, C, n, n]


def measure(codec: StudyCodec, data: Dataset, folder: Path, classifier_steps: int) -> RunResult:
    """All measures of a codec in evaluation mode; `folder` is where the classifier is kept."""
    network = classifier(data, folder, classifier_steps)
    settings = codec.settings
    with torch.no_grad():
        given = rates.statistics(codec.autoencoder.mean(data.train.part(slice(0, 4000)).floats()))
        runs = [_seed(codec, data, network, given, seed) for seed in range(settings.seeds)]
        nats, distortion = _bound(codec, data.coded.part(slice(0, settings.pictures)))
        entropies = _entropies(codec, data.coded.part(slice(0, settings.pictures)))
    by_way = list(zip(*(qualities for _, qualities in runs), strict=True))
    decoder = by_way[1]
    ways = tuple(quality_of(seeds, decoder) for seeds in by_way)
    mixing = None if codec.prior is None else float(codec.prior.mixing().detach().mean())
    known = accuracy(network, data)
    bits = estimate([coded for coded, _ in runs])
    return RunResult(settings, bits, nats, distortion, ways, entropies, mixing, known, data.side**2)


MEASURES = ("psnr", "frechet", "kernel", "divergence")


@dataclass(frozen=True)
class Measured:
    """One way of decoding, measured with one seed.

    psnr: in dB, None without an original; distances: from the reference; seconds: of processor time per picture.
    """

    way: str
    psnr: float | None
    distances: Distances
    seconds: float

    def value(self, measure: str) -> float:
        """The value of one of MEASURES."""
        return float(self.psnr or 0.0) if measure == "psnr" else float(getattr(self.distances, measure))


def _seed(
    codec: StudyCodec, data: Dataset, network: Classifier, given: rates.Statistics, seed: int
) -> tuple[float, list[Measured]]:
    """Bits per picture and the measures of each way of decoding, on pictures and noise that the seed chooses."""
    torch.manual_seed(1000 + seed)
    pictures = min(codec.settings.pictures, len(data.coded) // 2)  # at most half, or all seeds would use the same ones
    x, reference = (share(part, pictures, seed).floats() for part in (data.coded, data.reference))
    model = codec.autoencoder
    sent = rates.send(codec.settings.latent, model.mean(x), model.width(), given, seed)
    found = [Measured(FLOOR, None, distances(network, reference, x, seed), 0.0)]
    for name, way in _ways(codec):
        start = clocks.process_time()
        decoded = way(sent.z).clamp(0, 1)
        seconds = (clocks.process_time() - start) / len(x)
        known = None if name == GENERATED else psnr(255**2 * float((decoded - x).square().mean()))
        found.append(Measured(name, known, distances(network, reference, decoded, seed), seconds))
    return sent.bits, found


def share(part: Pictures, count: int, seed: int) -> Pictures:
    """`count` of N pictures, chosen by the seed; two seeds share none if seeds·count ≤ N."""
    return part.part((seed * count + torch.arange(count)) % len(part))


def _ways(codec: StudyCodec) -> list[tuple[str, Way]]:
    steps = codec.settings.sample_steps
    ways: list[tuple[str, Way]] = [(DECODER, codec.autoencoder.decode)]
    if codec.restorer is not None:
        ways.append((ONE_STEP, lambda z: codec.restored(z, 0.0, 1)))
        ways += [(f"realism {r:g}", _restoring(codec, r, steps)) for r in codec.settings.realism]
    return [*ways, (GENERATED, lambda z: generated(codec, len(z)))]


def _restoring(codec: StudyCodec, realism: float, steps: int) -> Way:
    return lambda z: codec.restored(z, realism, steps)


def generated(codec: StudyCodec, count: int) -> Tensor:
    """New pictures [count, C, n, n]: z from the prior, through the (conditional) decoder at realism 1."""
    z = codec.generated(count, codec.settings.sample_steps)
    return codec.restored(z, 1.0, codec.settings.sample_steps)


def quality_of(seeds: Sequence[Measured], decoder: Sequence[Measured]) -> Quality:
    """The quality of one way of decoding, from its measures and those of the decoder alone, a pair for each seed."""
    way, decodes = seeds[0].way, seeds[0].psnr is not None
    means = {name: estimate([each.value(name) for each in seeds]) for name in MEASURES}
    return Quality(
        way,
        means.pop("psnr") if decodes else None,
        means["frechet"],
        means["kernel"],
        means["divergence"],
        sum(each.seconds for each in seeds) / len(seeds),
        _change(seeds, decoder) if decodes and way != DECODER else None,
    )


def _change(seeds: Sequence[Measured], decoder: Sequence[Measured]) -> Change:
    pairs = list(zip(seeds, decoder, strict=True))
    return Change(*(estimate([one.value(name) - other.value(name) for one, other in pairs]) for name in MEASURES))


def _bound(codec: StudyCodec, pictures: Pictures) -> tuple[float, float]:
    """Rate in bits and distortion in nats, both per picture."""
    torch.manual_seed(77)
    terms = [bound(codec, pictures.floats())[1] for _ in range(DRAWS)]
    bits = sum(term.rate for term in terms) / len(terms) / math.log(2)
    return bits, sum(term.distortion for term in terms) / len(terms)


def _entropies(codec: StudyCodec, pictures: Pictures) -> tuple[rates.Entropies, ...]:
    mean, width = codec.autoencoder.mean(pictures.floats()), codec.autoencoder.width()
    if codec.settings.latent == "gaussian":
        return tuple(rates.entropies(mean, width.exp(), time, codec.prior) for time in TIMES)
    # The prior of a delta latent has learned z with noise, so it says nothing about the entropy of μ(x).
    return tuple(rates.entropies(mean, torch.zeros_like(width), time, None) for time in TIMES)
