"""The latents of a slice, and their coding: from here on everything is exact."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import quality
from ldcodec.bitstream.reader import Slice
from ldcodec.bitstream.slices import UNIT
from ldcodec.decoder.parse import symbols_crc
from ldcodec.encoder.interface import EncoderModel, Floats
from ldcodec.encoder.masking import Weights
from ldcodec.encoder.steering import Budget, Steering
from ldcodec.encoder.viterbi import chosen
from ldcodec.entropy.integer import LATENT_BITS, Parsed, Prior
from ldcodec.entropy.tables import HYPER_LIMIT, SKIPPED_SCALES
from ldcodec.entropy.trellis import Quantised

LOST_STEPS = 4  # of an element without a symbol, from its mean; on photographs 2.1 at most


@dataclass(frozen=True)
class Latents:
    """The result of an encoder's float networks: equal latents give equal files on every machine.

    index: quality index; hyper: symbols of the hyper-latent, int32 [hyper, h/4, w/4]; scaled: latent in steps, float32
    [M, h, w]; weights: of the squared errors, None for 1.
    """

    index: int
    hyper: NDArray[np.int32]
    scaled: Floats
    weights: Weights | None = None

    def centred(self, prior: Prior) -> NDArray[np.float64]:
        """The values of a context step's elements in steps from their means, [n]."""
        centred: NDArray[np.float64] = self.scaled.ravel()[prior.places] - prior.mean * 2.0**-LATENT_BITS
        return centred

    def weighed(self, prior: Prior) -> Floats | None:
        """The weights of the squared errors of a context step's elements, [n], or None for 1."""
        return None if self.weights is None else self.weights.of(prior.places, self.index)


class CodedSlice(NamedTuple):
    """A coded slice, its parsed form, and the natural bits of its context steps where these were measured."""

    piece: Slice
    parsed: Parsed
    steps: tuple[float, ...] = ()


def latents_of(
    scaled: Floats, index: int, model: EncoderModel, hyper: Floats | None = None, weights: Weights | None = None
) -> Latents:
    """Complete the latents of a slice: round and clamp its hyper-latent, which h_a computes if it is not given.

    scaled: the latent in steps, [M, h, w]; hyper: [hyper, h/4, w/4], not yet rounded; weights: as in `Latents`.
    """
    z = np.rint(model.networks.hyper_latent(scaled, quality.fraction(index)) if hyper is None else hyper)
    return Latents(index, np.clip(z, -HYPER_LIMIT, HYPER_LIMIT).astype(np.int32), scaled, weights)


def code_slice(
    latents: Latents, coded: tuple[int, int], model: EncoderModel, budget: Budget | None = None
) -> CodedSlice:
    """Code one slice. coded: how many rows and columns of the latents hold symbols; budget: of its payload.

    On textures that no photograph has, the hyper-latent can name wrong means with scales so small that no symbol may
    correct them. Where that happens the slice is coded again with zeros in the hyper-latent.
    """
    found = _coded_once(latents, coded, model, budget)
    lost = lost_blocks(latents, coded, found.parsed)
    if lost.any():
        found = _coded_once(replace(latents, hyper=np.where(lost, 0, latents.hyper)), coded, model, budget)
    return found


def lost_blocks(latents: Latents, coded: tuple[int, int], parsed: Parsed) -> NDArray[np.bool_]:
    """Positions of the hyper-latent, [h/4, w/4], beneath which an element without a symbol misses by LOST_STEPS."""
    skipped = (parsed.index < SKIPPED_SCALES)[:, : coded[0], : coded[1]]
    missed = np.abs(latents.scaled - parsed.mean * 2.0**-LATENT_BITS)[:, : coded[0], : coded[1]] > LOST_STEPS
    height, width = parsed.index.shape[1:]
    lost = np.zeros((height, width), np.bool_)
    lost[: coded[0], : coded[1]] = (skipped & missed).any(0)
    blocks: NDArray[np.bool_] = np.asarray(lost.reshape(height // UNIT, UNIT, width // UNIT, UNIT).any(axis=(1, 3)))
    return blocks


def _coded_once(latents: Latents, coded: tuple[int, int], model: EncoderModel, budget: Budget | None) -> CodedSlice:
    hyper, coder = latents.hyper, model.coder.encoder()
    steering = None
    if budget is not None:
        hyper_bits = float(model.coder.hyper_bits(hyper, latents.index).sum())
        steering = Steering(model.coder, budget, hyper_bits)

    def write(indices: NDArray[np.uint8], predicted: NDArray[np.int32], places: NDArray[np.intp]) -> NDArray[np.int32]:
        symbols = hyper.ravel()[places]
        coder.encode(symbols - predicted, indices)
        return symbols

    model.coder.hyper.fill(hyper.shape[1:], latents.index, write)

    def choose(prior: Prior) -> Quantised:
        values, weights = latents.centred(prior), latents.weighed(prior)
        if steering is None:
            quantised = chosen(values, prior.index, model.coder, weights)
        else:
            quantised = steering.choose(values, prior.index, weights)
        coder.encode_latent(quantised, prior.index)
        return quantised

    parsed = model.integers.parse(hyper, latents.index, coded, choose)
    piece = Slice(latents.scaled.shape[1], coder.finish(), symbols_crc(hyper, parsed.symbols))
    return CodedSlice(piece, parsed, () if steering is None else tuple(steering.natural))
