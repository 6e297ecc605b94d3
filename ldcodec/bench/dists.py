"""DISTS (Ding, Ma, Wang and Simoncelli 2020): structure and texture in the features of VGG-16.

The weights of its terms are those of the authors, in their package DISTS-pytorch. The package itself is never imported,
because it would import torchvision.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ldcodec.bench.vgg import WIDTHS, stages
from ldcodec.errors import LdcodecError
from ldcodec.pictures.picture import Pixels

SMALL = 1e-6  # keeps terms of dead channels finite


@torch.no_grad()
def distance(original: Pixels, decoded: Pixels) -> float:
    """DISTS between two pictures, uint8 (H, W, 3): 0 if they are equal, about 0.3 and more if they hardly agree.

    Raises LdcodecError if the weights are not installed.
    """
    similarity = torch.zeros(())
    for x, y, texture, structure in zip(_maps(original), _maps(decoded), *_weights(), strict=True):
        mean_x, mean_y = x.mean(0), y.mean(0)
        x, y = x - mean_x, y - mean_y
        same_mean = (2 * mean_x * mean_y + SMALL) / (mean_x**2 + mean_y**2 + SMALL)
        same_shape = (2 * _products(x, y) + SMALL) / (_products(x, x) + _products(y, y) + SMALL)
        similarity += texture @ same_mean + structure @ same_shape
    return float(1 - similarity)


def _products(x: Tensor, y: Tensor) -> Tensor:
    """The mean product at each channel, [c]."""
    return (x * y).mean(0)


def _maps(pixels: Pixels) -> list[Tensor]:
    """The picture itself in 0..1 and its features, [n, c] each."""
    samples = torch.from_numpy(pixels.copy()).flatten(0, 1) / 255
    return [samples, *(features[0].flatten(1).T for features in stages(pixels))]


@cache
def _weights() -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The weights of means and of covariances by channel, [c] for each map; together they are 1."""
    package = find_spec("DISTS_pytorch")
    if package is None or not package.submodule_search_locations:
        raise LdcodecError("DISTS needs DISTS-pytorch: pip install --no-deps DISTS-pytorch")
    path = Path(package.submodule_search_locations[0], "weights.pt")
    # PyTorch's own format from before it had one without pickles; weights_only refuses everything but tensors.
    found = torch.load(path, weights_only=True)  # noqa: TID251
    alpha, beta = (found[name].detach().flatten() for name in ("alpha", "beta"))
    total = alpha.sum() + beta.sum()
    return (alpha / total).split((3, *WIDTHS)), (beta / total).split((3, *WIDTHS))
