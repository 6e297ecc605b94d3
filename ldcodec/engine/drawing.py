"""The synthesis transform through ncnn; `nets.synthesis` has its diagram, and the reasons for its bounds."""

from functools import partial
from pathlib import Path

import numpy as np

from ldcodec.bitstream.slices import PIXELS, Area
from ldcodec.engine.graph import Floats, Graph, Net, Threads
from ldcodec.engine.positions import blockwise, from_blocks, largest, residual
from ldcodec.engine.stored import QualityFactor, StoredPart
from ldcodec.entropy.config import COARSE_RANGE, FINE_RANGE, LATENT_RANGE, RESIDUAL_SCALE, Config


class CpuSynthesis:
    """g_s: a latent without its gain → a picture."""

    def __init__(self, path: Path, name: str, config: Config, threads: Threads) -> None:
        """name: synthesis or texture. Raises ModelError for unusable weights."""
        quality = StoredPart(path, f"{name}.quality")
        self._quality16 = QualityFactor(quality, "16", config.synthesis.width16)
        self._quality8 = QualityFactor(quality, "8", config.synthesis.width8)
        self._klt = StoredPart(path, f"{name}.klt")("", config.latent, 3 * PIXELS**2) / np.float32(255)
        self._coarse = Net(partial(_coarse, path, name, config), threads)
        self._fine, self._sight = Net(partial(_fine, path, name, config), threads), config.synthesis.fine_halo

    def __call__(self, latent: Floats, t: float, std: Floats, wanted: Area | None = None) -> Floats:
        """[M, h, w] and t in 0..1 → [3, 16h, 16w] in about 0..1, not clipped. std: see `nets.synthesis`.

        wanted: the positions to draw, by default all; the layers at 1/8 compute only what these see.
        """
        rows, columns = latent.shape[1:]
        wanted = wanted or Area(0, rows, 0, columns)
        scaled = latent / std.clip(4)
        seen = (largest(scaled) <= LATENT_RANGE).astype(np.float32)
        scaled *= seen
        hidden, seen = self._coarse(latent=scaled, seen=seen, quality16=self._quality16(t))
        del scaled
        near = wanted.grown(self._sight, rows, columns)
        hidden, seen = (values[:, near.top : near.bottom, near.left : near.right] for values in (hidden, seen))
        picture, fine = self._fine(hidden=hidden, seen=seen, quality8=self._quality8(t))
        del hidden
        (down, across), (down8, across8) = wanted.inside(near, PIXELS), wanted.inside(near, 2)
        picture, fine = picture[:, down, across], fine[:, down8, across8]
        picture *= np.float32(RESIDUAL_SCALE)
        if not fine.all():
            picture *= fine.repeat(8, 1).repeat(8, 2)
        latent = latent[:, wanted.top : wanted.bottom, wanted.left : wanted.right]
        picture += from_blocks(blockwise(self._klt.T, latent), PIXELS)
        picture += 0.5
        return picture


def _coarse(path: Path, name: str, config: Config) -> tuple[Graph, list[str]]:
    """The layers at 1/16."""
    part, graph, (_, width, _, blocks) = StoredPart(path, f"{name}."), Graph(), config.synthesis
    latent, seen = graph.input("latent"), graph.input("seen")
    hidden = graph.convolution(latent, *part.convolution("stem", width, config.latent))
    hidden = graph.product(hidden, graph.input("quality16"))
    for k in range(blocks):
        hidden = residual(graph, hidden, part, f"blocks16.{k}", width)
        hidden, seen = _bounded(graph, hidden, seen, COARSE_RANGE)
    return graph, [graph.activated(hidden), seen]


def _fine(path: Path, name: str, config: Config) -> tuple[Graph, list[str]]:
    """The layers at 1/8, and the step to pixels."""
    part, graph, (width, coarse, blocks, _) = StoredPart(path, f"{name}."), Graph(), config.synthesis
    hidden, seen = graph.input("hidden"), graph.repeated(graph.input("seen"), 2)
    hidden = graph.shuffled(graph.convolution(hidden, *part.convolution("up", 4 * width, coarse, 1)), 2)
    hidden = graph.product(hidden, graph.input("quality8"))
    for k in range(blocks):
        hidden = residual(graph, hidden, part, f"blocks8.{k}", width)
        hidden, seen = _bounded(graph, hidden, seen, FINE_RANGE)
    picture = graph.shuffled(graph.convolution(graph.activated(hidden), *part.convolution("head", 192, width)), 8)
    return graph, [picture, seen]


def _bounded(graph: Graph, x: str, seen: str, bound: float) -> tuple[str, str]:
    """Blank the positions where x leaves the range that it was trained in, see `nets.synthesis.bounded`."""
    x, examined = graph.twice(x)
    mask, seen = graph.twice(graph.product(seen, graph.within(examined, bound)))
    return graph.product(x, mask), seen


class Preview:
    """The linear shortcut alone, at 1/scale of the size, see `nets.networks.Networks.preview`."""

    def __init__(self, path: Path, config: Config) -> None:
        self._klt = StoredPart(path, "synthesis.klt")("", config.latent, 3 * PIXELS**2) / np.float32(255)

    def __call__(self, latent: Floats, scale: int) -> Floats:
        """A latent without its gain, [M, h, w] → [3, 16h / scale, 16w / scale] in about 0..1."""
        side = PIXELS // scale
        boxes = self._klt.reshape(-1, 3, side, scale, side, scale).mean((3, 5)).reshape(len(self._klt), -1)
        picture = from_blocks(blockwise(boxes.T, latent), side)
        picture += 0.5
        return picture
