"""The denoiser through ncnn, see `nets.denoiser`."""

import math
from functools import partial
from pathlib import Path

import numpy as np

from ldcodec.diffusion.posterior import Condition
from ldcodec.diffusion.samplers import Denoise
from ldcodec.engine.graph import Floats, Graph, Net, Threads
from ldcodec.engine.positions import blockwise, residual
from ldcodec.engine.stored import Perceptron, QualityFactor, StoredPart
from ldcodec.entropy.config import DENOISER_SCALE, HARMONICS, Config


class CpuDenoiser:
    """v_θ(u_t, t | condition) for one picture."""

    def __init__(self, path: Path, config: Config, threads: Threads) -> None:
        """Raises ModelError for unusable weights."""
        part, width = StoredPart(path, "denoiser."), config.denoiser
        self._known = part.matrix("known", width, 3 * config.latent)
        self._noisy, self._bias = part.matrix("noisy", width, config.latent), part("noisy.bias", width)[:, None, None]
        self._quality = QualityFactor(part, "quality", width)
        self._film = Perceptron(part, "film", HARMONICS, 32, 2 * width)
        self._net = Net(partial(_body, path, config), threads)

    def under(self, condition: Condition[Floats]) -> Denoise:
        """The velocity under a condition of arrays [1, M, h, w], a function of u [1, M, h, w] and the time."""
        centre = condition.centre[0]
        widths = [np.log(np.maximum(values[0], np.float32(0.01))) for values in (condition.deviation, condition.scale)]
        inputs = [np.sign(centre) * np.log1p(np.abs(centre)), 2 * (widths[0] + np.float32(1.6)), widths[1] / 2]
        features = blockwise(self._known, np.concatenate(inputs)) + self._bias
        factor = self._quality(float(condition.quality[0]))

        def velocity(u: Floats, time: float) -> Floats:
            waves = (math.cos(turn * math.pi * time) for turn in range(1, HARMONICS + 1))
            scale, shift = np.split(self._film(*waves)[:, None, None], 2)
            hidden = (blockwise(self._noisy, u[0]) + features) * (factor * (1 + scale)) + shift
            output = self._net(hidden=hidden)[0]
            output *= np.float32(DENOISER_SCALE)
            added, share = np.split(output, 2)
            return np.asarray(added + share * u[0])[None]

        return velocity


def _body(path: Path, config: Config) -> tuple[Graph, list[str]]:
    part, graph = StoredPart(path, "denoiser."), Graph()
    hidden = graph.input("hidden")
    for k in range(config.denoiser_blocks):
        hidden = residual(graph, hidden, part, f"blocks.{k}", config.denoiser)
    head = part.convolution("head", 2 * config.latent, config.denoiser, 1)
    return graph, [graph.convolution(graph.activated(hidden), *head)]
