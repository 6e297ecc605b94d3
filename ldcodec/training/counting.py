"""The hyper-latent's own frequency tables, counted on pictures: how often which symbol comes in which context."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec.entropy.hyperprior import CONTEXTS, ENTRIES, REACH, HyperPrior, context_of
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT
from ldcodec.nets.networks import Networks
from ldcodec.nets.padding import padded
from ldcodec.pictures.picture import Pixels

BANDS = 8  # of quality, with tables of their own
TABLES = 96  # that remain of those of all bands, channels and contexts
SIDE = 768  # pixels of a picture that are looked at, in its middle
CONFIDENCE = 30.0  # symbols that what a context has in common with others counts as
ROUNDS = 40  # of clustering

Counts = NDArray[np.float64]


def counted(networks: Networks, pictures: list[Pixels], seed: int = 0) -> HyperPrior:
    """Tables of the hyper-latent for these networks, in evaluation mode: alike ones made one, 96 in all at most.

    Each picture is coded once in each band, at a quality drawn from it.
    """
    counts = np.zeros((BANDS, networks.config.hyper, CONTEXTS, ENTRIES))
    rng = np.random.default_rng(seed)
    for pixels in pictures:
        for band, symbols in _symbols(networks, _middle(pixels), rng):
            _add(counts[band], symbols)
    chances = _smoothed(counts).reshape(-1, ENTRIES)
    tables, chosen = clustered(chances, counts.sum(3).ravel(), min(TABLES, len(chances)), rng)
    choice = (SCALE_COUNT + chosen).astype(np.uint8).reshape(counts.shape[:3])
    return HyperPrior(np.stack([integer_table(table) for table in tables]), choice)


@torch.no_grad()
def _symbols(networks: Networks, pixels: Pixels, rng: np.random.Generator) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Symbols of a picture's hyper-latent in each band of quality."""
    base = networks.analysis.base(padded(pixels, networks.std.device))
    for band in range(BANDS):
        t = torch.tensor([(band + rng.random()) / BANDS], dtype=torch.float32, device=networks.std.device)
        z: Tensor = torch.round(networks.rate.hyper_latent(networks.scaled_latent(base, t)))[0]
        yield band, z.cpu().numpy().astype(np.int32)


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, (length - SIDE) // 2) for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])


def _add(counts: Counts, symbols: NDArray[np.int32]) -> None:
    """Counts the symbols [hyper, h, w] of one picture, in [hyper, contexts, entries]."""
    around = np.pad(symbols, ((0, 0), (1, 0), (1, 0)))
    context = context_of(around[:, 1:, :-1], around[:, :-1, 1:])
    entry = np.where(np.abs(symbols) > REACH, ENTRIES - 1, symbols + REACH)
    channel = np.broadcast_to(np.arange(len(symbols))[:, None, None], symbols.shape)
    np.add.at(counts, (channel, context, entry), 1)


def _smoothed(counts: Counts) -> Counts:
    """Chances from counts. What a context lacks it borrows from the same channel and context at all qualities, and from
    the same channel and quality in all contexts; these from the channel, and that from all.
    """
    anywhere = _blended(counts.sum((0, 1, 2)), 1 / ENTRIES)
    channel = _blended(counts.sum((0, 2)), anywhere)
    across = _blended(counts.sum(0), channel[:, None])
    around = _blended(counts.sum(2), channel)[:, :, None]
    return _blended(counts, (across + around) / 2)


def _blended(counts: Counts, expected: Counts | float) -> Counts:
    blended: Counts = (counts + CONFIDENCE * expected) / (counts.sum(-1, keepdims=True) + CONFIDENCE)
    return blended


def clustered(
    chances: Counts, weights: Counts, number: int, rng: np.random.Generator
) -> tuple[Counts, NDArray[np.intp]]:
    """At most `number` distributions [k, m] for those given, [n, m], and which of them stands for each, [n].

    Lloyd's iteration for the bits that the wrong table costs (k-means with the Kullback–Leibler divergence: Banerjee et
    al. 2005). weights: symbols of each, [n].
    """
    heavy = weights + 1e-3  # so that none is without weight
    centres = chances[rng.choice(len(chances), number, replace=False, p=heavy / heavy.sum())]
    for _ in range(ROUNDS):
        chosen = np.argmin(-chances @ np.log2(centres).T, axis=1)
        kept = np.unique(chosen)
        centres = np.stack([np.average(chances[chosen == k], axis=0, weights=heavy[chosen == k]) for k in kept])
    return centres, np.argmin(-chances @ np.log2(centres).T, axis=1)


def integer_table(chances: Counts) -> NDArray[np.int64]:
    """Counts of at least 1 that sum to 2²⁴; what rounding leaves goes to the likeliest."""
    free = (1 << PRECISION) - len(chances)
    counts = 1 + np.floor(free * chances / chances.sum()).astype(np.int64)
    counts[np.argmax(chances)] += (1 << PRECISION) - counts.sum()
    return np.asarray(counts, np.int64)
