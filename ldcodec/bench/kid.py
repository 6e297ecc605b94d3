"""KID between the patches of a picture before and after (Bińkowski et al. 2018): do they look drawn from one source?

The squared maximum mean discrepancy under the kernel (x·y/d + 1)³. A patch is described by the means over its 64×64
pixels of the last features of VGG-16 (`vgg`), d = 512, where the usual KID takes Inception's: values compare with each
other, not with published ones. Patch i of both pictures shows the same place, so the estimate leaves out not only each
patch beside itself, but also each pair: it is unbiased for pairs (Gretton et al. 2012, lemma 6), and 0 for a copy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldcodec.bench.vgg import stages
from ldcodec.pictures.picture import Pixels

SIDE = 4  # positions a side of a patch, of 16 pixels each


def distance(original: Pixels, decoded: Pixels) -> float:
    """KID, times 1000 as usual, between two pictures, uint8 (H, W, 3) of at least two patches of 64×64 pixels.

    It may be a little below 0. Raises LdcodecError if the weights of VGG-16 are not installed.
    """
    return 1000 * discrepancy(patches(original), patches(decoded))


@torch.no_grad()
def patches(pixels: Pixels) -> Tensor:
    """The features of the patches that tile a picture, [n, 512]."""
    return F.avg_pool2d(stages(pixels)[-1], SIDE)[0].flatten(1).T


def discrepancy(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate of the squared discrepancy from n pairs of features, [n, d] each."""
    x, y, number = x.double(), y.double(), len(x)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    terms = kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)
    return float((terms.sum() - terms.trace()) / (number * (number - 1)))
