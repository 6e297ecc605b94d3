"""The model interface of the encoder, implemented with ncnn (`engine.cpumodel`) and PyTorch (`nets.model`)."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ldcodec.decoder.protocols import DecoderModel, FloatNetworks
from ldcodec.entropy.config import Config

Floats = NDArray[np.float32]


# The part of the analysis that does not depend on the quality: features, in the form of the library that computes, and
# the shortcut, [M, h, w].
Analysed = tuple[Any, Floats]


class EncoderNetworks(FloatNetworks, Protocol):
    """The float networks of a model that encodes. Unlike a decoder's, all arrays are NumPy's."""

    @property
    def config(self) -> Config: ...

    def analysed(self, picture: Floats, /) -> Analysed:
        """Picture [3, H, W] in 0..1, H and W multiples of 64 → what does not depend on the quality."""

    def latent(self, analysed: Analysed, t: float, tuning: float = 0.0, /) -> Floats:
        """The latent in quantisation steps [M, h, w] at a quality t in 0..1.

        tuning: from 0 for the least squared error to 1 for the eye; without effect in a model that is not tuned.
        """

    def hyper_latent(self, latent: Floats, t: float, /) -> Floats:
        """Latent in steps [M, h, w] at a quality t in 0..1 → hyper-latent [hyper, h/4, w/4], not yet rounded."""

    def shortcut(self, picture: Floats, /) -> Floats:
        """The linear part of the latent without its gain, [M, h, w]: cheap, and near enough to guess sizes."""

    def basis(self) -> Floats:
        """The basis pictures of the linear part, [M, 3, 16, 16]."""

    def gain_at(self, t: float, /) -> Floats:
        """The inverse of the quantisation step of each channel at a quality t in 0..1: [M, 1, 1]."""


@runtime_checkable
class EncoderModel(DecoderModel, Protocol):
    """Everything that an encoder needs of a model."""

    @property
    def networks(self) -> EncoderNetworks: ...
