"""The analysis transform and the hyper analysis through ncnn, see `nets.analysis` and `nets.rate`."""

from functools import partial
from pathlib import Path

import numpy as np

from ldcodec.bitstream.quality import to_middle
from ldcodec.bitstream.slices import PIXELS
from ldcodec.engine.graph import Floats, Graph, Net, Threads
from ldcodec.engine.positions import blockwise, residual, to_blocks
from ldcodec.engine.stored import QualityFactor, StoredPart
from ldcodec.entropy.config import HEAD_SCALE, Config


class CpuAnalysis:
    """g_a: a picture → a latent without its gain."""

    def __init__(self, path: Path, config: Config, threads: Threads) -> None:
        """Raises ModelError for unusable weights."""
        quality = StoredPart(path, "analysis.quality")
        self._klt = np.float32(255) * StoredPart(path, "analysis.klt")("", config.latent, 3 * PIXELS**2)
        self._quality16 = QualityFactor(quality, "16", config.width16)
        self._quality8 = QualityFactor(quality, "8", config.width8)
        self._tuned = config.tuned > 0
        if self._tuned:
            tuned = StoredPart(path, "analysis.tuned")
            self._tuned16 = QualityFactor(tuned, "16", config.width16)
            self._tuned8 = QualityFactor(tuned, "8", config.width8)
        self._fine = Net(partial(_fine, path, config), threads)
        self._coarse = Net(partial(_coarse, path, config), threads, stride=2)

    def base(self, picture: Floats) -> tuple[Floats, Floats]:
        """[3, H, W] in 0..1, H and W multiples of 64 → what does not depend on the quality: features, shortcut."""
        features = self._fine(blocks=to_blocks(2 * picture - 1, 8))[0]
        return features, self.shortcut(picture)

    def shortcut(self, picture: Floats) -> Floats:
        """The linear part alone: [3, H, W] in 0..1 → [M, h, w]."""
        return blockwise(self._klt, to_blocks(picture - np.float32(0.5), PIXELS))

    def basis(self) -> Floats:
        """The basis pictures of the linear part, times 255: [M, 3, 16, 16]."""
        return self._klt.reshape(-1, 3, PIXELS, PIXELS)

    def finish(self, base: tuple[Floats, Floats], t: float, tuning: float, std: Floats) -> Floats:
        """The latent [M, h, w] at a quality t and a tuning in 0..1, before the gain; std: see `nets.analysis`."""
        fine, coarse = self._quality8(t), self._quality16(t)
        if self._tuned:
            fine, coarse = fine * self._tuned8(t) ** np.float32(tuning), coarse * self._tuned16(t) ** np.float32(tuning)
        latent = self._coarse(features=base[0] * fine, quality16=coarse)[0]
        latent *= HEAD_SCALE * np.clip(std, 4, 64)
        latent += base[1]
        return latent


def _fine(path: Path, config: Config) -> tuple[Graph, list[str]]:
    part, graph, width = StoredPart(path, "analysis."), Graph(), config.width8
    hidden = graph.convolution(graph.input("blocks"), *part.convolution("stem", width, 192))
    for k in range(config.blocks8):
        hidden = residual(graph, hidden, part, f"blocks8.{k}", width)
    return graph, [graph.activated(hidden)]


def _coarse(path: Path, config: Config) -> tuple[Graph, list[str]]:
    part, graph, width = StoredPart(path, "analysis."), Graph(), config.width16
    down = part.convolution("down", width, config.width8, 2)
    hidden = graph.convolution(graph.input("features"), *down, stride=2, padding=0)
    for k in range(config.blocks16):
        hidden = residual(graph, hidden, part, f"blocks16.{k}", width)
    hidden = graph.product(graph.activated(hidden), graph.input("quality16"))
    return graph, [graph.convolution(hidden, *part.convolution("head", config.latent, width))]


class CpuHyperAnalysis:
    """h_a: a latent in steps → the hyper-latent minus its mean, see `nets.rate`."""

    def __init__(self, path: Path, config: Config, threads: Threads) -> None:
        """Raises ModelError for unusable weights."""
        self._mean = StoredPart(path, "rate.z_mean")("", config.hyper)[:, None, None]
        self._net = Net(partial(_hyper, path, config), threads)
        self._fineness = None
        if config.one_shot:
            self._fineness = QualityFactor(StoredPart(path, "rate.fineness"), "", config.hyper)

    def __call__(self, latent: Floats, t: float) -> Floats:
        """[M, h, w] and t in 0..1 → [hyper, h/4, w/4], not yet rounded."""
        read = latent if self._fineness is None else latent * np.float32(to_middle(t))
        centred = self._net(latent=np.sign(read) * np.log1p(np.abs(read)))[0] - self._mean
        return centred if self._fineness is None else centred * self._fineness(t)


def _hyper(path: Path, config: Config) -> tuple[Graph, list[str]]:
    part, graph, width = StoredPart(path, "rate.analysis."), Graph(), config.context
    hidden = graph.convolution(graph.input("latent"), *part.convolution("0", width, config.latent), activated=True)
    hidden = graph.convolution(hidden, *part.convolution("1", width, width), stride=2, activated=True)
    return graph, [graph.convolution(hidden, *part.convolution("2", config.hyper, width), stride=2)]
