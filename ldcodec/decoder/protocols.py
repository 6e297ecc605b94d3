"""The model interface of the decoder, implemented with ncnn (`engine.cpumodel`) and PyTorch (`nets.model`)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.slices import Area
from ldcodec.diffusion.posterior import Array, Condition
from ldcodec.diffusion.samplers import Denoise
from ldcodec.entropy.integer import IntegerRateModel
from ldcodec.entropy.rangecoder import Coder
from ldcodec.pictures.picture import Pixels


class FloatNetworks(Protocol):
    """The float networks of a model. Arrays are float32, of the library that computes."""

    @property
    def textured(self) -> bool:
        """Whether there is a second synthesis, for natural texture."""

    @property
    def denoiser_halo(self) -> int:
        """How far one evaluation of the denoiser sees around a position, in latent rows and columns."""

    @property
    def synthesis_halo(self) -> int:
        """How far either synthesis sees around a position, in latent rows and columns."""

    def array(self, values: NDArray[np.float32]) -> Array:
        """Copy values to where the networks compute."""

    def denoise(self, condition: Condition[Array]) -> Denoise:
        """The denoiser under a condition. Whatever is the same for all steps is computed here, once."""

    def shared(self, runs: int) -> AbstractContextManager[object]:
        """A context in which so many threads run networks at once, each with its share of the model's threads."""

    def picture(
        self, latent: Array, quality: Array, texture: float, grained: Array, wanted: Area | None = None, /
    ) -> Array:
        """Latent in steps [1, M, h, w] and t [1] → picture [1, 3, 16h, 16w] in about 0..1.

        texture: 0..1, the share of the second synthesis, which reads `grained`; wanted: the positions of the latent
        that are drawn, by default all.
        """

    def preview(self, latent: Array, quality: Array, scale: int, /) -> Array:
        """Latent in steps and t → picture at 1/scale of its size by the linear shortcut alone; scale: 1 … 16."""

    def levels(self, picture: Array, grey: bool, white: int = 255) -> Pixels:
        """Picture [3, H, W] in about 0..1 → uint8 (H, W, 3), or (H, W) if grey; uint16 where white is 65535."""


@runtime_checkable
class DecoderModel(Protocol):
    """Everything that a decoder needs of a model."""

    @property
    def name(self) -> str:
        """The model's name, for messages."""

    @property
    def parse_id(self) -> bytes:
        """The 8 bytes by which new files name the model."""

    @property
    def coders(self) -> Mapping[bytes, Coder]:
        """The coders of new files and of older ones, by the parse id that a file names."""

    @property
    def coder(self) -> Coder:
        """That of new files, which has all tables of the model."""

    @property
    def integers(self) -> IntegerRateModel: ...

    @property
    def networks(self) -> FloatNetworks: ...

    @property
    def threads(self) -> int:
        """How many threads it may take."""
