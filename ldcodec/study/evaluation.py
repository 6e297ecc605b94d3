"""Rate, distortion and perception of a trained codec, over seeds."""

import time as clocks
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ldcodec.study import rates
from ldcodec.study.codec import StudyCodec, psnr
from ldcodec.study.datasets import Dataset, Pictures
from ldcodec.study.perception import Classifier, Distances, accuracy, classifier, distances, estimate
from ldcodec.study.results import DECODER, FLOOR, GENERATED, ONE_STEP, Quality, Result
from ldcodec.study.training import bound

TIMES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
DRAWS = 8  # of time and noise for each picture in the bound

Way = Callable[[Tensor], Tensor]  # z [B, L, h, w] → pictures [B, C, n, n]


def measure(codec: StudyCodec, data: Dataset, folder: Path, classifier_steps: int) -> Result:
    """Everything that the table has, of a codec in evaluation mode; `folder` keeps the classifier."""
    network = classifier(data, folder, classifier_steps)
    settings = codec.settings
    with torch.no_grad():
        given = rates.statistics(codec.autoencoder.mean(data.train.part(slice(0, 4000)).floats()))
        runs = [_seed(codec, data, network, given, seed) for seed in range(settings.seeds)]
        nats, distortion = _bound(codec, data.coded.part(slice(0, settings.pictures)))
        entropies = _entropies(codec, data.coded.part(slice(0, settings.pictures)))
    ways = tuple(_quality([qualities[k] for _, qualities in runs]) for k in range(len(runs[0][1])))
    mixing = None if codec.prior is None else float(codec.prior.mixing().detach().mean())
    known = accuracy(network, data)
    bits = estimate([coded for coded, _ in runs])
    return Result(settings, bits, nats, distortion, ways, entropies, mixing, known, data.side**2)


Measured = tuple[str, float | None, Distances, float]  # way, mean squared error, distances, seconds a picture


def _seed(
    codec: StudyCodec, data: Dataset, network: Classifier, given: rates.Statistics, seed: int
) -> tuple[float, list[Measured]]:
    """Bits a picture and the measures of each way, on pictures and noise that the seed chooses."""
    torch.manual_seed(1000 + seed)
    pictures = min(codec.settings.pictures, len(data.coded) // 2)  # at most half, or all seeds would see the same
    x = data.coded.part(torch.randperm(len(data.coded))[:pictures]).floats()
    reference = data.reference.part(torch.randperm(len(data.reference))[:pictures]).floats()
    model = codec.autoencoder
    sent = rates.send(codec.settings.latent, model.mean(x), model.width(), given, seed)
    found: list[Measured] = [(FLOOR, None, distances(network, reference, x, seed), 0.0)]
    for name, way in _ways(codec):
        start = clocks.process_time()
        decoded = way(sent.z).clamp(0, 1)
        seconds = (clocks.process_time() - start) / len(x)
        error = None if name == GENERATED else float((decoded - x).square().mean())
        found.append((name, error, distances(network, reference, decoded, seed), seconds))
    return sent.bits, found


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
    """New pictures [count, C, n, n]: z from the prior through the decoder, and the conditional one at realism 1."""
    z = codec.generated(count, codec.settings.sample_steps)
    return codec.restored(z, 1.0, codec.settings.sample_steps)


def _quality(seeds: list[Measured]) -> Quality:
    way, first = seeds[0][0], seeds[0][1]
    of = [measured[2] for measured in seeds]
    return Quality(
        way,
        None if first is None else estimate([psnr(error or 0.0) for _, error, _, _ in seeds]),
        estimate([each.frechet for each in of]),
        estimate([each.kernel for each in of]),
        estimate([each.divergence for each in of]),
        sum(seconds for _, _, _, seconds in seeds) / len(seeds),
    )


def _bound(codec: StudyCodec, pictures: Pictures) -> tuple[float, float]:
    """Rate in bits and distortion in nats a picture."""
    torch.manual_seed(77)
    terms = [bound(codec, pictures.floats())[1] for _ in range(DRAWS)]
    bits = sum(term.rate for term in terms) / len(terms) / torch.log(torch.tensor(2.0)).item()
    return bits, sum(term.distortion for term in terms) / len(terms)


def _entropies(codec: StudyCodec, pictures: Pictures) -> tuple[rates.Entropies, ...]:
    mean, width = codec.autoencoder.mean(pictures.floats()), codec.autoencoder.width()
    sigma = width.exp() if codec.settings.latent == "gaussian" else torch.zeros_like(width)
    return tuple(rates.entropies(mean, sigma, time, codec.prior) for time in TIMES)
