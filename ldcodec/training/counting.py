"""Frequency tables of the hyper-latent, counted on pictures: how often each symbol occurs in each context."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec.entropy.hyperprior import CONTEXTS, ENTRIES, REACH, HyperPrior, context_of
from ldcodec.entropy.tables import PRECISION, SCALE_COUNT
from ldcodec.nets.blocks import padded
from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels

BANDS = 8  # of quality; each has its own tables
TABLES = 96  # the most that are stored, shared by all bands, channels and contexts
SIDE = 768  # of the square in the middle of a picture that is counted, in pixels
CONFIDENCE = 30.0  # symbols that the expectation from other contexts weighs as much as
ROUNDS = 40  # of the clustering

Counts = NDArray[np.float64]


def counted(networks: Networks, pictures: Sequence[Pixels], seed: int = 0) -> HyperPrior:
    """Tables of the hyper-latent for networks in evaluation mode; at most 96, because similar ones are merged.

    Each picture is analysed once in each band, at a random quality of the band.
    """
    counts = np.zeros((BANDS, networks.config.hyper, CONTEXTS, ENTRIES))
    rng = np.random.default_rng(seed)
    for pixels in pictures:
        for band, (_, symbols) in enumerate(symbols_in_bands(networks, middle(pixels), rng)):
            _add(counts[band], symbols)
    chances = _smoothed(counts).reshape(-1, ENTRIES)
    tables, chosen = clustered(chances, counts.sum(3).ravel(), min(TABLES, len(chances)), rng)
    choice = (SCALE_COUNT + chosen).astype(np.uint8).reshape(counts.shape[:3])
    return HyperPrior(np.stack([integer_table(table) for table in tables]), choice)


@torch.no_grad()
def symbols_in_bands(
    networks: Networks, pixels: Pixels, rng: np.random.Generator
) -> Iterator[tuple[float, NDArray[np.int32]]]:
    """For each band, a random quality t in it and the symbols [hyper, h, w] of a picture's hyper-latent at it."""
    base = networks.analysis.base(padded(pixels, networks.std.device))
    for band in range(BANDS):
        quality = (band + rng.random()) / BANDS
        t = torch.tensor([quality], dtype=torch.float32, device=networks.std.device)
        z: Tensor = torch.round(networks.rate.hyper_latent(networks.scaled_latent(base, t), t))[0]
        yield quality, z.cpu().numpy().astype(np.int32)


def middle(pixels: Pixels) -> Pixels:
    """The part of a picture that is counted."""
    top, left = (max(0, (length - SIDE) // 2) for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])


def _add(counts: Counts, symbols: NDArray[np.int32]) -> None:
    """Add the symbols [hyper, h, w] of one picture to the counts [hyper, contexts, entries]."""
    around = np.pad(symbols, ((0, 0), (1, 0), (1, 0)))
    context = context_of(around[:, 1:, :-1], around[:, :-1, 1:])
    entry = np.where(np.abs(symbols) > REACH, ENTRIES - 1, symbols + REACH)
    channel = np.broadcast_to(np.arange(len(symbols))[:, None, None], symbols.shape)
    np.add.at(counts, (channel, context, entry), 1)


def _smoothed(counts: Counts) -> Counts:
    """Probabilities from counts [bands, hyper, contexts, entries], of the same shape.

    Where counts are few, the expectation fills in: the mean of what the same channel and context show at all qualities
    and what the same channel and quality show in all contexts. Both are filled in from the channel, and that from all.
    """
    anywhere = _blended(counts.sum((0, 1, 2)), 1 / ENTRIES)
    channel = _blended(counts.sum((0, 2)), anywhere)
    across = _blended(counts.sum(0), channel[:, None])
    around = _blended(counts.sum(2), channel)[:, :, None]
    return _blended(counts, (across + around) / 2)


def _blended(counts: Counts, expected: Counts | float) -> Counts:
    """Counts and CONFIDENCE symbols distributed as expected, as probabilities: a Dirichlet prior's posterior mean."""
    blended: Counts = (counts + CONFIDENCE * expected) / (counts.sum(-1, keepdims=True) + CONFIDENCE)
    return blended


def clustered(
    chances: Counts, weights: Counts, number: int, rng: np.random.Generator
) -> tuple[Counts, NDArray[np.intp]]:
    """Cluster distributions [n, m]: at most `number` representatives [k, m], and the index of each one's cluster, [n].

    Lloyd's iteration on the bits lost by coding with the representative, i.e. k-means with the Kullback–Leibler
    divergence (Banerjee et al. 2005, "Clustering with Bregman divergences", section 3). weights: how many symbols each
    distribution codes, [n].
    """
    heavy = weights + 1e-3  # neither the draw nor the means allow zeros
    centres = chances[rng.choice(len(chances), number, replace=False, p=heavy / heavy.sum())]
    for _ in range(ROUNDS):
        chosen = np.argmin(-chances @ np.log2(centres).T, axis=1)
        kept = np.unique(chosen)
        centres = np.stack([np.average(chances[chosen == k], axis=0, weights=heavy[chosen == k]) for k in kept])
    return centres, np.argmin(-chances @ np.log2(centres).T, axis=1)


def integer_table(chances: Counts) -> NDArray[np.int64]:
    """Probabilities [m] as counts of at least 1 with the sum 2²⁴; what rounding leaves goes to the most probable."""
    free = (1 << PRECISION) - len(chances)
    counts = 1 + np.floor(free * chances / chances.sum()).astype(np.int64)
    counts[np.argmax(chances)] += (1 << PRECISION) - counts.sum()
    return np.asarray(counts, np.int64)
