"""Where errors show: weights of squared errors for `--tune visual`.

Busy ground hides errors that flat ground shows, so block codecs quantise by the variance of a block (the adaptive
quantisation of x264 and AV1's encoders). A step of an sRGB value is more of a step to the eye where it is dark, as the
cube roots of L*a*b* have it. And the eye sees coarse errors better than fine ones (Mannos and Sakrison 1974). So the
squared error of an element is weighed by its position and by its channel, and the encoder's choice of symbols does the
rest: the format knows nothing of it. docs/experiments.md has what it brings.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.layout import coded_size, latent_size
from ldcodec.bitstream.slices import PIXELS
from ldcodec.encoder.interface import Floats
from ldcodec.encoder.target import Roi
from ldcodec.pictures.picture import Pixels, white_of

LUMA = 0.299, 0.587, 0.114
FLAT = 8.0  # a deviation, of 0..255, well below which ground is as good as flat; SSIM's is 0.03 · 255
DARK = 16.0  # of 0..255, likewise: sRGB is a straight line below 10
MOST = 4.0  # times as much as the average, or as little
FINE = 0.15  # the weight of a channel whose basis picture is all finest detail; that of a smooth one is 1
ROWS = 64  # of the latent, which are measured at once


@dataclass(frozen=True)
class Weights:
    """Weights of squared errors, the product of one for each position of a latent, [h, w], and one a channel, [M]."""

    position: Floats
    channel: Floats

    def of(self, places: NDArray[np.intp]) -> Floats:
        """The weights of elements, given their places in the flattened latent, both [n]."""
        channel, position = np.divmod(places, self.position.size)
        return self.channel[channel] * self.position.ravel()[position]

    def within(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> "Weights":
        """Those of some rows and columns of the latent."""
        return replace(self, position=self.position[np.ix_(rows, columns)])

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
    return Weights(np.ones(size, np.float32), np.ones(len(basis), np.float32))


def visual(picture: Pixels, basis: Floats) -> Weights:
    """Weights by ground and fineness, each 1 in the geometric mean.

    picture: (H, W, 3) or (H, W); basis: of the shortcut's channels, [M, 3, 16, 16].
    """
    return Weights(_by_ground(picture), _by_fineness(basis))


def _by_ground(picture: Pixels) -> Floats:
    """Weights by mean m and deviation s of luma in the 16×16 pixels of a position: 1/√((s² + FLAT²)·(m + DARK)).

    The second factor is the square of the slope of the light's cube root: light is about the value to the power 2.2, so
    that the slope is about m to the power −0.27.
    """
    rows, columns = coded_size(picture.shape[1], picture.shape[0])
    weights, unit = np.empty((rows, columns)), 255 / white_of(picture)
    for top in range(0, rows, ROWS):
        part = picture[PIXELS * top : PIXELS * (top + ROWS)]
        luma: NDArray[np.float64] = part @ np.array(LUMA) if part.ndim == 3 else part.astype(np.float64)
        mean, deviation = _moments(unit * luma)
        weights[top : top + ROWS] = 1 / np.sqrt((deviation**2 + FLAT**2) * (mean + DARK))
    weights = np.clip(weights / np.exp(np.log(weights).mean()), 1 / MOST, MOST)
    found = np.ones(latent_size(picture.shape[1], picture.shape[0]), np.float32)
    found[:rows, :columns] = weights
    return found


def _by_fineness(basis: Floats) -> Floats:
    """Weights by the share of a basis picture's energy that is left after averages over 2×2 pixels."""
    halves = basis.reshape(len(basis), 3, PIXELS // 2, 2, PIXELS // 2, 2).mean((3, 5))
    smooth = 4 * np.square(halves).sum((1, 2, 3)) / np.square(basis).sum((1, 2, 3))
    weights = FINE + (1 - FINE) * smooth
    coded = weights[: len(weights) // 2]  # the channels come by falling energy, and the last have hardly a symbol
    return np.asarray(weights / np.exp(np.log(coded).mean()), np.float32)


def _moments(luma: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation in squares of 16×16 pixels, [h, w]; the last row and column are repeated to fill them."""
    height, width = luma.shape
    padded = np.pad(luma, ((0, -height % PIXELS), (0, -width % PIXELS)), "edge")
    squares = padded.reshape(len(padded) // PIXELS, PIXELS, -1, PIXELS)
    return squares.mean((1, 3)), squares.std((1, 3))
