"""Where errors show: weights of squared errors for `--tune visual`.

Busy ground hides errors that flat ground shows, so block codecs quantise by the variance of a block (the adaptive
quantisation of x264 and AV1's encoders). A step of an sRGB value is more of a step to the eye where it is dark, as the
cube roots of L*a*b* have it. And the eye sees coarse errors better than fine ones (Mannos and Sakrison 1974). So the
squared error of an element is weighed by its position and by its channel, and the encoder's choice of symbols does the
rest: the format knows nothing of it. Small coloured things, whose colour is a small error but easily seen, weigh more
in the channels that hold colour, at low qualities where it fades. docs/experiments.md has what it brings.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import quality
from ldcodec.bitstream.layout import coded_size, latent_size
from ldcodec.bitstream.slices import PIXELS
from ldcodec.encoder.interface import Floats
from ldcodec.encoder.target import Roi
from ldcodec.pictures.picture import Pixels, white_of

LUMA = 0.299, 0.587, 0.114
CHROMA = 0.564, 0.713  # of blue − luma and red − luma: Cb and Cr
FLAT = 8.0  # a deviation, of 0..255, well below which ground is as good as flat; SSIM's is 0.03 · 255
DARK = 16.0  # of 0..255, likewise: sRGB is a straight line below 10
MOST = 4.0  # times as much as the average, or as little
FINE = 0.15  # the weight of a channel whose basis picture is all finest detail; that of a smooth one is 1
VIVID = 16.0  # a deviation of chroma, of 0..255, from which colours weigh most
GAIN = 3.0  # their weight more there, at quality 0
FADED = 0.6  # the quality, of 0..1, from which colours are kept without it
ROWS = 64  # of the latent, which are measured at once


@dataclass(frozen=True)
class Weights:
    """Weights of squared errors: position · channel · (1 + vivid · colour).

    position, vivid: of each position of a latent, [h, w], the latter 0..1; channel, colour: of each channel, [M], the
    latter the share of its basis picture's energy that is colour.
    """

    position: Floats
    channel: Floats
    vivid: Floats
    colour: Floats

    def of(self, places: NDArray[np.intp], index: int) -> Floats:
        """The weights of elements, given their places in the flattened latent, both [n], at a quality index."""
        channel, position = np.divmod(places, self.position.size)
        found: Floats = self.channel[channel] * self.position.ravel()[position]
        gain = np.float32(GAIN * max(0.0, 1 - quality.fraction(index) / FADED))
        if gain and self.vivid.any():
            found *= 1 + gain * self.vivid.ravel()[position] * self.colour[channel]
        return found

    def within(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> "Weights":
        """Those of some rows and columns of the latent."""
        some = np.ix_(rows, columns)
        return replace(self, position=self.position[some], vivid=self.vivid[some])

    def favouring(self, roi: Roi) -> "Weights":
        """With more weight on the positions that a region of interest touches, and as much less on all others.

        Less elsewhere, because a weight makes no step finer: the rest pays for a higher quality of the whole.
        """
        factor = np.float32(10 ** (roi.decibels / 20))
        weights = self.position / factor
        rows = slice(roi.y // PIXELS, -(-(roi.y + roi.height) // PIXELS))
        columns = slice(roi.x // PIXELS, -(-(roi.x + roi.width) // PIXELS))
        weights[rows, columns] *= factor**2
        return replace(self, position=weights)


def even(picture: Pixels, basis: Floats) -> Weights:
    """Weights of 1; arguments as of `visual`."""
    size = latent_size(picture.shape[1], picture.shape[0])
    ones, none = np.ones(len(basis), np.float32), np.zeros(size, np.float32)
    return Weights(np.ones(size, np.float32), ones, none, ones)


def visual(picture: Pixels, basis: Floats) -> Weights:
    """Weights by ground and fineness, each 1 in the geometric mean, and more where there is colour.

    picture: (H, W, 3) or (H, W); basis: of the shortcut's channels, [M, 3, 16, 16].
    """
    position, vivid = _by_ground(picture)
    return Weights(position, _by_fineness(basis), vivid, _of_colour(basis))


def _by_ground(picture: Pixels) -> tuple[Floats, Floats]:
    """Weights by mean m and deviation s of luma in the 16×16 pixels of a position: 1/√((s² + FLAT²)·(m + DARK)).

    The second factor is the square of the slope of the light's cube root: light is about the value to the power 2.2, so
    that the slope is about m to the power −0.27. With them comes how vivid a position is: (c/VIVID)², c the deviation
    of chroma, at most 1.
    """
    rows, columns = coded_size(picture.shape[1], picture.shape[0])
    size, unit = latent_size(picture.shape[1], picture.shape[0]), 255 / white_of(picture)
    weights, found, vivid = np.empty((rows, columns)), np.ones(size, np.float32), np.zeros(size, np.float32)
    for top in range(0, rows, ROWS):
        part = np.multiply(picture[PIXELS * top : PIXELS * (top + ROWS)], unit, dtype=np.float64)
        luma = part @ np.array(LUMA) if part.ndim == 3 else part
        mean, deviation = _moments(luma)
        weights[top : top + ROWS] = 1 / np.sqrt((deviation**2 + FLAT**2) * (mean + DARK))
        if part.ndim == 3:
            blue, red = (_moments(factor * (part[:, :, k] - luma))[1] for factor, k in zip(CHROMA, (2, 0), strict=True))
            vivid[top : top + len(mean), :columns] = np.minimum((blue**2 + red**2) / VIVID**2, 1)
    found[:rows, :columns] = np.clip(weights / np.exp(np.log(weights).mean()), 1 / MOST, MOST)
    return found, vivid


def _by_fineness(basis: Floats) -> Floats:
    """Weights by the share of a basis picture's energy that is left after averages over 2×2 pixels."""
    halves = basis.reshape(len(basis), 3, PIXELS // 2, 2, PIXELS // 2, 2).mean((3, 5))
    smooth = 4 * np.square(halves).sum((1, 2, 3)) / np.square(basis).sum((1, 2, 3))
    weights = FINE + (1 - FINE) * smooth
    coded = weights[: len(weights) // 2]  # the channels come by falling energy, and the last have hardly a symbol
    return np.asarray(weights / np.exp(np.log(coded).mean()), np.float32)


def _of_colour(basis: Floats) -> Floats:
    """The share of chroma in the energy of each basis picture, [M]."""
    luma = np.tensordot(basis, np.array(LUMA, np.float32), (1, 0))
    chroma = [factor * (basis[:, k] - luma) for factor, k in zip(CHROMA, (2, 0), strict=True)]
    energies = [np.square(planes).sum((1, 2)) for planes in (luma, *chroma)]
    return np.asarray((energies[1] + energies[2]) / sum(energies), np.float32)


def _moments(luma: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation in squares of 16×16 pixels, [h, w]; the last row and column are repeated to fill them."""
    height, width = luma.shape
    padded = np.pad(luma, ((0, -height % PIXELS), (0, -width % PIXELS)), "edge")
    squares = padded.reshape(len(padded) // PIXELS, PIXELS, -1, PIXELS)
    return squares.mean((1, 3)), squares.std((1, 3))
