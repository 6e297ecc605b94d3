"""What the networks have in common: residual blocks, and pictures as blocks of pixels."""

import numpy as np

from ldcodec.engine.graph import Floats, Graph
from ldcodec.engine.stored import StoredPart


def residual(graph: Graph, x: str, part: StoredPart, name: str, channels: int) -> str:
    """x + ¼·conv3×3(act(conv3×3(act(x)))), see `nets.blocks.Residual`."""
    x, inner = graph.twice(x)
    first = part.convolution(f"{name}.first", channels, channels)
    inner = graph.convolution(graph.activated(inner), *first, activated=True)
    second = part.convolution(f"{name}.second", channels, channels)
    return graph.sum(x, graph.convolution(inner, *second), 0.25)


def to_blocks(picture: Floats, r: int) -> Floats:
    """Move squares of r×r pixels to channels: [C, r·h, r·w] → [r²·C, h, w], in the order (channel, row, column)."""
    c, height, width = picture.shape
    squares = picture.reshape(c, height // r, r, width // r, r).transpose(0, 2, 4, 1, 3)
    return squares.reshape(r * r * c, height // r, width // r)


def from_blocks(x: Floats, r: int) -> Floats:
    """The inverse of `to_blocks`: [r²·C, h, w] → [C, r·h, r·w]."""
    c, h, w = x.shape
    squares = x.reshape(c // r**2, r, r, h, w).transpose(0, 3, 1, 4, 2)
    return squares.reshape(c // r**2, r * h, r * w)


def blockwise(matrix: Floats, x: Floats) -> Floats:
    """Multiply the channels of every position by a matrix [n, m]: [m, h, w] → [n, h, w]."""
    return (matrix @ x.reshape(len(x), -1)).reshape(len(matrix), *x.shape[1:])


def largest(x: Floats) -> Floats:
    """The largest magnitude over the channels of each position: [C, h, w] → [1, h, w]."""
    return np.asarray(np.abs(x).max(0, keepdims=True))
