"""What a coded picture tells of its size and error at other qualities, without running a network again.

At another quality the latent, its means and its scales are about the same pictures in other quantisation steps. So the
residuals of some elements and their scales are stretched by the ratio of the gains and quantised anew, by the scalar
quantiser, because it is fast: what it would change is what the file would change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import quality
from ldcodec.bitstream.slices import PIXELS
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.latents import CodedSlice, Latents
from ldcodec.encoder.steering import shares_at
from ldcodec.encoder.viterbi import rounded
from ldcodec.entropy.integer import LATENT_BITS
from ldcodec.entropy.tables import LOG_RATIO, SCALE_COUNT, SKIPPED_SCALES

KEPT = 30_000  # elements of a slice
BLOCK = 3 * PIXELS**2  # values of a block of pixels, of which a position of the latent tells

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Outlook:
    """Some elements of a coded slice: residuals in steps, scale indices and channels, all [n]; and how it was coded.

    index: the quality index; hyper_bits, latent_bits: of the slice's payload, the latter as of `CodedSlice.steps`;
    steps: these, one by one, where they were measured.
    """

    model: EncoderModel
    index: int
    residual: Floats
    scale: NDArray[np.uint8]
    channel: NDArray[np.uint16]
    hyper_bits: float
    latent_bits: float
    steps: tuple[float, ...] = ()

    def size(self, index: int) -> float:
        """The bytes of the payload at a quality index."""
        there, here = self._stretched(index)[0], self._here[0]
        return (self.hyper_bits + self.latent_bits * (there / here if here else 1)) / 8

    def error(self, index: int) -> float:
        """The squared error at a quality index, in a unit of its own."""
        return self._stretched(index)[1]

    @cached_property
    def _here(self) -> tuple[float, float]:
        return self._stretched(self.index)

    def _stretched(self, index: int) -> tuple[float, float]:
        """Bits and squared error of the elements under the scalar quantiser at a quality index."""
        gain_at = self.model.networks.gain_at
        gain = gain_at(quality.fraction(index)).ravel()[self.channel]
        ratio = gain / gain_at(quality.fraction(self.index)).ravel()[self.channel]
        scale = np.clip(np.rint(self.scale + np.log(ratio) / LOG_RATIO), 0, SCALE_COUNT - 1).astype(np.uint8)
        values, coded = (self.residual * ratio).astype(np.float64), scale >= SKIPPED_SCALES
        symbols = np.where(coded, rounded(values, scale), 0).astype(np.int32)
        bits = self.model.coder.bits(symbols[coded], scale[coded]).sum()
        return float(bits), float(np.square((values - symbols) / gain).sum())


class Guess:
    """A rough prediction from the linear shortcut alone, cheap enough to ask for many indices."""

    def __init__(self, linear: Floats) -> None:
        """linear: the shortcut of some positions, [M, …]."""
        flat = linear.reshape(len(linear), -1)
        self._centred = flat - flat.mean(1, keepdims=True)

    def bits(self, index: int) -> float:
        """Bits a position at a quality index: 0.45·s^1.1, where s is the sum of log2(1 + |1.5·y|³) over the channels.

        Of nine sums tried, the logarithm of this one deviated least from that of the bits. Power and factor were fitted
        to 26 validation pictures above 0.2 megapixels at five qualities; what is left deviates by 0.08 to 0.16.
        """
        steps = np.abs(self._centred) * np.float32(1.5 * quality.base_gain(quality.fraction(index)))
        return 0.45 * math.pow(np.log2(steps**3 + 1).sum() / steps.shape[1], 1.1)

    def psnr(self, index: int) -> float:
        """PSNR in dB at a quality index: what a uniform quantiser loses, and small values wholly."""
        gain = np.float32(quality.base_gain(quality.fraction(index)))
        lost = np.minimum(np.square(self._centred), 1 / (12 * gain**2)).sum() / self._centred.shape[1]
        return quality.psnr(float(lost) / BLOCK) - 1.1  # the mean of what it is too high, on the same pictures


def outlook_of(latents: Latents, coded: CodedSlice, model: EncoderModel) -> Outlook:
    """The outlook of a slice, given its latents and what it was coded as."""
    scaled, hyper = latents.scaled, float(model.coder.hyper_bits(latents.hyper, latents.index).sum())
    stride = max(1, scaled.size // KEPT) | 1  # odd, so that it meets all columns
    places, parsed = np.arange(0, scaled.size, stride), coded.parsed
    residual = scaled.ravel()[places] - parsed.mean.ravel()[places] * np.float32(2.0**-LATENT_BITS)
    channel = (places // math.prod(scaled.shape[1:])).astype(np.uint16)
    latent = sum(coded.steps) if coded.steps else max(0.0, 8 * len(coded.piece.payload) - hyper)
    return Outlook(model, latents.index, residual, parsed.index.ravel()[places], channel, hyper, latent, coded.steps)


@dataclass(frozen=True)
class Forecast:
    """Size and PSNR of a picture at any quality index, from slices that were coded at one.

    index: that one; share: that the slices are of the picture; overhead: bytes of a file without payload;
    squared_error: the mean one of these slices, in 0..255 units, or None where nobody asked for it.
    """

    index: int
    outlooks: Sequence[Outlook]
    share: float
    overhead: int
    squared_error: float | None = None

    def size(self, index: int) -> float:
        """The bytes of the file."""
        return sum(outlook.size(index) for outlook in self.outlooks) / self.share + self.overhead

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of the latent's bits by context step, or the usual ones where nothing was measured."""
        steps = np.sum([outlook.steps for outlook in self.outlooks if outlook.steps], 0)
        return tuple((steps / steps.sum()).tolist()) if np.any(steps) else shares_at(self.index)

    def psnr(self, index: int) -> float:
        """The PSNR in dB. Raises ValueError without an error to begin with."""
        if self.squared_error is None:
            raise ValueError("the error of the slices is not known")
        there, here = (sum(outlook.error(i) for outlook in self.outlooks) for i in (index, self.index))
        return quality.psnr(self.squared_error * there / here if here else self.squared_error)
