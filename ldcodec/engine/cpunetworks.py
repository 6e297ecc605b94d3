"""The networks of a model through ncnn, each read from the weights file when it is first needed."""

from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import numpy as np

from ldcodec.bitstream import quality
from ldcodec.bitstream.slices import Area
from ldcodec.diffusion.posterior import Condition
from ldcodec.diffusion.samplers import Denoise
from ldcodec.engine.analysing import CpuAnalysis, CpuHyperAnalysis
from ldcodec.engine.drawing import CpuSynthesis, Preview
from ldcodec.engine.graph import Floats, Threads
from ldcodec.engine.predicting import CpuContext
from ldcodec.engine.restoring import CpuDenoiser
from ldcodec.engine.stored import QualityFactor, StoredPart
from ldcodec.entropy.config import Config
from ldcodec.pictures.picture import Pixels


class CpuNetworks:
    """The `encoder.interface.EncoderNetworks` of a weights file, on arrays of NumPy."""

    def __init__(self, path: Path, config: Config, textured: bool, threads: int) -> None:
        """textured: whether the file has a second synthesis; threads: of each network."""
        self._path, self.config, self._threads, self.textured = path, config, Threads(threads), textured
        self.denoiser_halo, self.synthesis_halo = config.denoiser_halo, config.synthesis.halo

    @cached_property
    def _std(self) -> Floats:
        return StoredPart(self._path, "std")("", self.config.latent, 1, 1)

    @cached_property
    def _gain(self) -> QualityFactor:
        return QualityFactor(StoredPart(self._path, "gain"), "", self.config.latent)

    @cached_property
    def _analysis(self) -> CpuAnalysis:
        return CpuAnalysis(self._path, self.config, self._threads)

    @cached_property
    def _hyper_analysis(self) -> CpuHyperAnalysis:
        return CpuHyperAnalysis(self._path, self.config, self._threads)

    @cached_property
    def _context(self) -> CpuContext:
        return CpuContext(self._path, self.config, self._threads)

    @cached_property
    def _denoiser(self) -> CpuDenoiser:
        return CpuDenoiser(self._path, self.config, self._threads)

    @cached_property
    def _synthesis(self) -> CpuSynthesis:
        return CpuSynthesis(self._path, "synthesis", self.config, self._threads)

    @cached_property
    def _texture(self) -> CpuSynthesis:
        return CpuSynthesis(self._path, "texture", self.config, self._threads)

    @cached_property
    def _preview(self) -> Preview:
        return Preview(self._path, self.config)

    def analysed(self, picture: Floats) -> tuple[Floats, Floats]:
        """Picture [3, H, W] in 0..1, H and W multiples of 64 → what does not depend on the quality."""
        return self._analysis.base(picture)

    def latent(self, analysed: tuple[Floats, Floats], t: float, tuning: float = 0.0) -> Floats:
        """The latent in quantisation steps [M, h, w] at a quality t and a tuning in 0..1."""
        return self._analysis.finish(analysed, t, tuning, self._std) * self.gain_at(t)

    def hyper_latent(self, latent: Floats, t: float) -> Floats:
        """Latent in steps [M, h, w] at a quality t in 0..1 → hyper-latent [hyper, h/4, w/4], not yet rounded."""
        return self._hyper_analysis(latent, t)

    def means(self, step: int, features: Floats, decoded: Floats) -> Floats:
        """A context step of a one-shot model, see `entropy.integer.MeanStep`."""
        return self._context(step, features, decoded)

    def shortcut(self, picture: Floats) -> Floats:
        """The linear part of the latent without its gain, [M, h, w]."""
        return self._analysis.shortcut(picture)

    def basis(self) -> Floats:
        """The basis pictures of the linear part, [M, 3, 16, 16]."""
        return self._analysis.basis()

    def gain_at(self, t: float) -> Floats:
        """The inverse of the quantisation step of each channel at a quality t in 0..1: [M, 1, 1]."""
        return self._gain(t) * np.float32(quality.base_gain(t))

    def array(self, values: Floats) -> Floats:
        """The values unchanged."""
        return values

    def denoise(self, condition: Condition[Floats]) -> Denoise:
        """The denoiser under a condition."""
        return self._denoiser.under(condition)

    def shared(self, runs: int) -> AbstractContextManager[None]:
        """A context in which so many threads run networks at once."""
        return self._threads.shared(runs)

    def picture(self, latent: Floats, t: Floats, texture: float, grained: Floats, wanted: Area | None = None) -> Floats:
        """A latent in steps [1, M, h, w] and t [1] → a picture [1, 3, 16h, 16w] in about 0..1, of what is wanted."""
        share = texture if self.textured else 0.0
        pictures = []
        for weight, source, network in ((1 - share, latent, "_synthesis"), (share, grained, "_texture")):
            if weight:
                fraction = float(t[0])
                picture = getattr(self, network)(source[0] / self.gain_at(fraction), fraction, self._std, wanted)
                picture *= np.float32(weight)
                pictures.append(picture)
        both: Floats = sum(pictures[1:], pictures[0])
        return both[None]

    def preview(self, latent: Floats, t: Floats, scale: int) -> Floats:
        """A latent in steps and t → a picture at 1/scale of its size; scale: 1 … 16."""
        return self._preview(latent[0] / self.gain_at(float(t[0])), scale)[None]

    def levels(self, picture: Floats, grey: bool, white: int = 255) -> Pixels:
        """Pixels of a picture [3, H, W] in 0..1, of 8 or 16 bits; halves are rounded to even, as torch does."""
        shown = picture.mean(0) if grey else picture.transpose(1, 2, 0)
        shown = np.multiply(shown, np.float32(white), order="C")
        np.rint(shown, out=shown)
        np.clip(shown, 0, white, out=shown)
        return shown.astype(np.uint8) if white == 255 else shown.astype(np.uint16)
