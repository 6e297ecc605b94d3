"""Where training starts: the KLT of the training pictures, or any weights file of the same sizes."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ldcodec.bitstream.slices import PIXELS
from ldcodec.entropy.config import SLOPE, Config, from_mapping
from ldcodec.entropy.weights import read_tensors
from ldcodec.errors import ModelError
from ldcodec.nets.blocks import QualityScale, Residual
from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels

BLOCK = PIXELS  # side in pixels of the blocks that K transforms
DRAWS = 200  # blocks taken from each picture drawn


def block_covariance(found: list[Pixels], blocks: int = 200_000, seed: int = 0) -> NDArray[np.float64]:
    """Second moments [768, 768] of 16×16 RGB blocks about mid-grey in 0..255 units, in the order of pixel_unshuffle."""
    rng = np.random.default_rng(seed)
    large = [pixels for pixels in found if min(pixels.shape[:2]) >= BLOCK]
    total = np.zeros((3 * BLOCK**2, 3 * BLOCK**2))
    for _ in range(max(1, blocks // DRAWS)):
        pixels = large[rng.integers(len(large))]
        rows, columns = (rng.integers(length - BLOCK + 1, size=DRAWS) for length in pixels.shape[:2])
        drawn = [
            pixels[i : i + BLOCK, j : j + BLOCK].transpose(2, 0, 1).ravel() for i, j in zip(rows, columns, strict=True)
        ]
        x = np.stack(drawn).astype(np.float64) - 127.5
        total += x.T @ x / len(x)
    return total / max(1, blocks // DRAWS)


def karhunen_loeve(covariance: NDArray[np.float64], count: int) -> tuple[Tensor, Tensor]:
    """The first `count` eigenvectors as rows [count, 768], and each coefficient's deviation [count], at least 10⁻³."""
    values, vectors = np.linalg.eigh(covariance)
    matrix = torch.from_numpy(vectors[:, ::-1][:, :count].T.copy()).float()
    deviation = torch.from_numpy(np.sqrt(values[::-1][:count].clip(min=1e-6))).float()
    return matrix, deviation


def fresh_networks(config: Config, covariance: NDArray[np.float64], seed: int = 0) -> Networks:
    """Untrained networks: hidden layers random (He et al. 2015), output layers zero, the KLT in both shortcuts.

    They are a working transform codec, so that training starts near JPEG and not from noise.
    """
    networks = untrained(config, seed)
    matrix, deviation = karhunen_loeve(covariance, config.latent)
    with torch.no_grad():
        networks.analysis.klt.copy_(matrix)
        networks.synthesis.klt.copy_(matrix)
        networks.std.copy_(deviation[:, None, None])
    return networks


def untrained(config: Config, seed: int) -> Networks:
    """The same without shortcuts."""
    torch.manual_seed(seed)
    networks = Networks(config)
    for part in (networks.analysis, networks.synthesis, networks.rate, networks.gain):
        initialise(part)
    for layer in (networks.analysis.head, networks.synthesis.head, *(step.head for step in networks.rate.steps)):
        nn.init.zeros_(layer.weight)  # type: ignore[arg-type, union-attr]
    if networks.rate.scales is not None:
        nn.init.zeros_(networks.rate.scales.weight)
    nn.init.normal_(networks.rate.synthesis[0].weight, std=0.1)  # type: ignore[arg-type]
    return networks


def initialise(part: nn.Module) -> None:
    """Make hidden layers random (He et al. 2015), and residual branches and quality factors without effect."""
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in part.modules():
        if isinstance(layer, Residual):
            nn.init.zeros_(layer.second.weight)
        if isinstance(layer, QualityScale):
            nn.init.zeros_(layer.out.weight)
            nn.init.zeros_(layer.out.bias)


def load_networks(path: Path, config: Config | None = None) -> Networks:
    """The networks in a model, a training state, or a state dict with its sizes in the metadata, as float32.

    path: of the file, or a pattern such as runs/light/flat-*.safetensors for one that was written in parts.
    config: the sizes to expect, or None for any. A file without a denoiser gets a fresh one, which does nothing until
    it is trained. Raises ModelError for a file that cannot be read, lacks another tensor, or has other sizes.
    """
    tensors: dict[str, Tensor] = {}
    for part in sorted(path.parent.glob(path.name)) or [path]:
        some, metadata = read_tensors(part)  # which are the same in all parts
        tensors |= some
    named = "net." if any(name.startswith("net.") for name in tensors) else ""
    weights = {name.removeprefix(named): t.float() for name, t in tensors.items() if name.startswith(named)}
    networks = Networks(_agreed(path, metadata, config))
    if any(name.startswith("texture.") for name in weights):
        networks.add_texture()
    wanted = networks.state_dict()
    missing = [n for n in wanted if n not in weights and not n.startswith("denoiser.")]
    wrong = [n for n in weights if n not in wanted or weights[n].shape != wanted[n].shape]
    if missing or wrong:
        raise ModelError(
            f"{path}: {(missing or wrong)[0]} is {'missing' if missing else 'unknown or of another shape'}"
        )
    networks.load_state_dict(weights, strict=False)
    return networks


def _agreed(path: Path, metadata: dict[str, str], config: Config | None) -> Config:
    """The configuration of a file, which must not contradict the expected one; older files name fewer entries."""
    try:
        stored = json.loads(metadata["config"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: no readable configuration") from error
    if config is None:
        return from_mapping(stored)
    differing = [name for name, value in stored.items() if asdict(config).get(name) != value]
    if differing:
        raise ModelError(
            f"{path}: its {differing[0]} is {stored[differing[0]]}, the settings say {asdict(config).get(differing[0])}"
        )
    return config
