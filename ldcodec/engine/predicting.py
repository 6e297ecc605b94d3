"""The context steps of a one-shot model through ncnn, see `nets.rate` and `entropy.integer`."""

from functools import partial
from pathlib import Path

import numpy as np

from ldcodec.engine.graph import Floats, Graph, Net, Threads
from ldcodec.engine.positions import blockwise
from ldcodec.engine.stored import StoredPart
from ldcodec.entropy.config import CONTEXT_SCALE, Config
from ldcodec.entropy.integer import ORDER


class CpuContext:
    """The four steps that predict means."""

    def __init__(self, path: Path, config: Config, threads: Threads) -> None:
        """Raises ModelError for unusable weights."""
        part = StoredPart(path, "rate.steps.")
        self._heads = [part.matrix(f"{k}.head", config.latent, config.context) * CONTEXT_SCALE for k in range(4)]
        self._biases = [part(f"{k}.head.bias", config.latent)[:, None, None] * CONTEXT_SCALE for k in range(4)]
        self._nets = [Net(partial(_hidden, path, config, k), threads) for k in range(4)]

    def __call__(self, step: int, features: Floats, decoded: Floats) -> Floats:
        """See `entropy.integer.MeanStep`."""
        x = np.concatenate([features, decoded]) if step else features
        hidden, size = self._nets[step](x=x)[0], len(decoded) // 4
        means = np.empty((len(decoded), decoded.shape[1] // 2, decoded.shape[2] // 2), np.float32)
        for group, place in enumerate(ORDER[step]):
            channels = slice(group * size, (group + 1) * size)
            means[channels] = blockwise(self._heads[step][channels], hidden[:, place // 2 :: 2, place % 2 :: 2])
        means += self._biases[step]
        return means


def _hidden(path: Path, config: Config, step: int) -> tuple[Graph, list[str]]:
    part, graph, width = StoredPart(path, f"rate.steps.{step}."), Graph(), config.context
    mix = part.convolution("mix", width, width + (config.latent if step else 0), 1)
    mixed = graph.convolution(graph.input("x"), *mix, activated=True)
    return graph, [graph.convolution(mixed, *part.convolution("spatial", width, width), activated=True)]
