"""A model as decoding sees it, whatever library computes: PyTorch (`nets.model`) or onnxruntime (`onnx.runtime`)."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ldcodec.diffusion.posterior import Array, Condition
from ldcodec.diffusion.samplers import Denoise
from ldcodec.entropy.integer import IntegerRateModel
from ldcodec.entropy.rangecoder import Coder
from ldcodec.pictures.picture import Pixels


class FloatNetworks(Protocol):
    """The float networks of a model. An Array is float32, of the library that computes."""

    @property
    def textured(self) -> bool:
        """Whether there is a second synthesis, for natural texture."""

    @property
    def denoiser_halo(self) -> int:
        """Latent rows and columns around a position that one evaluation of the denoiser depends on."""

    @property
    def synthesis_halo(self) -> int:
        """Latent rows and columns around a position that its pixels depend on."""

    def array(self, values: NDArray[np.float32]) -> Array:
        """The values where the networks compute."""

    def denoise(self, condition: Condition[Array]) -> Denoise:
        """The denoiser under a condition; what no step changes is computed here, once."""

    def picture(self, latent: Array, quality: Array, texture: float, grained: Array, /) -> Array:
        """Latents in steps [1, M, h, w] and t [1] → picture [1, 3, 16h, 16w] in about 0..1.

        texture: 0..1, the share of the second synthesis, which reads `grained`.
        """

    def preview(self, latent: Array, quality: Array, scale: int, /) -> Array:
        """The picture at 1/scale of its size, scale 2, 4, 8 or 16, by the linear shortcut alone."""

    def levels(self, picture: Array, grey: bool) -> Pixels:
        """Picture [3, H, W] in about 0..1 → uint8 (H, W, 3), or (H, W) if grey."""


class DecoderModel(Protocol):
    """The name of a model, the parse id of the files it reads, its integers and its floats."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def parse_id(self) -> bytes:
        """8 bytes, as files name them."""

    @property
    def integers(self) -> IntegerRateModel:
        """The rate model."""

    @property
    def coder(self) -> Coder:
        """Of its symbols."""

    @property
    def networks(self) -> FloatNetworks:
        """What draws the picture."""
