"""Blocks that are better stored exactly: a mode decision, as block codecs make with modes for palettes or samples.

The networks cannot draw textures that no photograph has, nor fine saturated detail, at any quality. So the encoder
looks at its own result. It draws what it has coded by the linear shortcut, which takes a fiftieth of the time of
coding, and where the error weighs more than the bits of the exact pixels, these become a patch. Photographs, which take
many bits when they are exact, hardly ever have such blocks (docs/experiments.md has the figures behind the bounds).
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import chunktypes, quality
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk
from ldcodec.bitstream.slices import PIXELS, Area, Span, coded_rows
from ldcodec.decoder.reverse import quality_of
from ldcodec.decoder.tiles import in_steps
from ldcodec.encoder.interface import EncoderModel
from ldcodec.entropy.integer import Parsed
from ldcodec.pictures import patches, planes
from ldcodec.pictures.alpha import filled
from ldcodec.pictures.patches import Mask
from ldcodec.pictures.picture import Pixels, at_depth, white_of

# A uniform quantiser leaves an error of 26/12 = 2.2 bits a pixel, in units of λ, where it codes everything.
WRECKED = 4.0  # bits that the error of a pixel weighs, on average, in a block that begins a patch
PLAIN = 0.5, 4, 3  # or so many, if it has at most 3 colours in every fourth row and column: it should be easy to draw
GAIN = 1.25  # times the bits of its exact pixels that the error of such a block weighs at least
# The shortcut draws fine colours worse than the synthesis does, at any quality: in photographs it loses up to 38
# squared levels for each bit that exact pixels would take.
LOST = 50.0  # squared levels that such a block loses for each bit, at least
CONTINUING = 0.8, 5.0  # the same two for blocks next to those of a patch
BLOCK_BITS = 24  # of an exact block beside its pixels
SURROUNDINGS = 64  # pixels around patches, from which what lies beneath them is filled in
EXAMINED = 1024  # blocks at a time, which bounds the memory

Losses = NDArray[np.float32]
Blocks = NDArray[np.int32]
Places = tuple[NDArray[np.intp], NDArray[np.intp]]


def losses(picture: Pixels, parsed: Parsed, header: Header, span: Span, model: EncoderModel) -> Losses:
    """The squared error of each block of a slice as the shortcut draws it, [rows, columns].

    It is summed over pixels and averaged over colours, in units of 0..255. picture: (H, W, 3) or (H, W); parsed: of
    the slice.
    """
    rows, columns = coded_rows(span, header.width, header.height)
    top, bottom = span.pixel_rows(header.height)
    latent = model.networks.array(in_steps(parsed)[None, :, :rows, :columns])
    planes_drawn = model.networks.preview(latent, quality_of(header, model), 1)[0]
    shown = planes_drawn[:, : bottom - top, : header.width]
    drawn = model.networks.levels(shown, picture.ndim == 2, white_of(picture))
    error = np.zeros((rows * PIXELS, columns * PIXELS, *picture.shape[2:]), np.float32)
    np.subtract(drawn, picture[top:bottom], out=error[: bottom - top, : header.width], dtype=np.float32)
    blocks = error.reshape(rows, PIXELS, columns, PIXELS, -1)
    squares: Losses = np.einsum("yixjc,yixjc->yx", blocks, blocks)
    squares *= (255 / white_of(picture)) ** 2 / blocks.shape[-1]
    return squares


def chosen(picture: Pixels, lost: Losses, index: int) -> Mask:
    """Which blocks to store exactly at a quality index, given what each loses: bool [⌈H/16⌉, ⌈W/16⌉]."""
    multiplier = quality.multiplier(quality.fraction(index))
    weight = multiplier * lost / PIXELS**2
    examined = (weight > WRECKED) | _plain(picture, weight > PLAIN[0])
    begun = _worth(picture, lost, examined, max(LOST, GAIN / multiplier))
    if not begun.any():
        return begun
    least = max(CONTINUING[1], CONTINUING[0] / multiplier)
    taken = _connected(begun, _worth(picture, lost, lost > least * BLOCK_BITS, least))
    readable = planes.readable(*patches.Extract(taken, picture.shape[1], picture.shape[0]).size)
    return taken if readable else np.zeros_like(taken)


def patch(picture: Pixels, taken: Mask) -> tuple[Pixels, Chunk]:
    """A picture that is smooth beneath the blocks that are stored exactly, and the chunk that stores these."""
    height, width = picture.shape[:2]
    smooth, whole = picture.copy(), Area(0, height, 0, width)
    for around in _surroundings(taken, whole):
        part, covered = around.inside(whole), patches.pixels_of(taken, around)
        smooth[part][covered] = filled(picture[part], np.where(covered, 0, 255).astype(np.uint8))[covered]
    return smooth, Chunk(chunktypes.PATCHES, patches.packed(picture, taken))


def _surroundings(taken: Mask, whole: Area) -> Iterator[Area]:
    """For each run of rows of blocks in which any is taken, the pixels of these and around them."""
    edges = np.flatnonzero(np.diff(taken.any(1), prepend=False, append=False))
    for top, bottom in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        columns = np.flatnonzero(taken[top:bottom].any(0))
        blocks = Area(top, bottom, int(columns[0]), int(columns[-1]) + 1)
        pixels = Area(*(PIXELS * edge for edge in blocks)).within(whole)
        yield pixels.grown(SURROUNDINGS, whole.bottom, whole.right)


def _plain(picture: Pixels, wrecked: Mask) -> Mask:
    """Which of some blocks have few colours, to go by a few of their pixels."""
    _, step, few = PLAIN
    plain = np.zeros_like(wrecked)
    for rows, columns in _some(wrecked):
        plain[rows, columns] = distinct(as_one(_blocks(picture, rows, columns, step))) <= few
    return plain


def _worth(picture: Pixels, lost: Losses, examined: Mask, least: float) -> Mask:
    """Which of the examined blocks lose more than `least` squared levels for each bit of their exact pixels."""
    worth = np.zeros_like(examined)
    for rows, columns in _some(examined):
        worth[rows, columns] = lost[rows, columns] > least * exact_bits(_blocks(picture, rows, columns))
    return worth


def _some(examined: Mask) -> Iterator[Places]:
    """Rows and columns of the blocks to examine, a few at a time."""
    rows, columns = examined.nonzero()
    for first in range(0, len(rows), EXAMINED):
        yield rows[first : first + EXAMINED], columns[first : first + EXAMINED]


def _blocks(picture: Pixels, rows: NDArray[np.intp], columns: NDArray[np.intp], step: int = 1) -> Blocks:
    """Some blocks of a picture, [n, 16, 16, 3] or [n, 16, 16, 1]; at its edges the last pixels are repeated.

    step: take only every so many rows and columns of pixels.
    """
    y, x = (
        np.minimum(PIXELS * place[:, None] + np.arange(0, PIXELS, step), side - 1)
        for place, side in ((rows, picture.shape[0]), (columns, picture.shape[1]))
    )
    found = at_depth(picture[y[:, :, None], x[:, None, :]], 8)  # more bits would take more, the same in all modes
    return found.reshape(*found.shape[:3], -1).astype(np.int32)


def exact_bits(blocks: Blocks) -> NDArray[np.float64]:
    """About how many bits lossless coding spends on each of some blocks [n, 16, 16, C] of values 0..255: [n].

    The least of three: colours from a palette, and differences from the pixel to the left or above after green is
    subtracted, as in WebP, each with the entropy of what occurs in the block.
    """
    colours = blocks.shape[-1]
    entropy, count = _entropy(as_one(blocks))
    least = entropy + 8 * colours * count
    if colours > 1:
        blocks = np.concatenate([blocks[..., 1:2], blocks[..., ::2] - blocks[..., 1:2]], -1)
    for axis in (1, 2):
        differences = np.diff(blocks, axis=axis, prepend=0) & 255
        least = np.minimum(least, np.sum([_entropy(differences[..., k])[0] for k in range(colours)], 0))
    bits: NDArray[np.float64] = least + BLOCK_BITS
    return bits


def distinct(blocks: Blocks) -> NDArray[np.intp]:
    """How many different values each of some blocks [n, h, w] has: [n]."""
    ordered = np.sort(blocks.reshape(len(blocks), math.prod(blocks.shape[1:])), 1)
    count: NDArray[np.intp] = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)
    return count


def as_one(pixels: Pixels | Blocks) -> Blocks:
    """The colours of pixels [..., 1], [..., 3] or (H, W), values of 0..255, each as one number."""
    if pixels.ndim == 2:
        return pixels.astype(np.int32)
    one = pixels[..., 0].astype(np.int32)
    for channel in range(1, pixels.shape[-1]):
        one |= pixels[..., channel].astype(np.int32) << 8 * channel
    return one


def _entropy(values: Blocks) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The bits of an ideal code of the values of each block, [n, 16, 16], and how many different ones it has: [n]."""
    ordered = np.sort(values.reshape(len(values), math.prod(values.shape[1:])), 1)
    size = ordered.shape[1]
    first = np.ones_like(ordered, np.bool_)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.flatnonzero(first)
    counts = np.diff(starts, append=ordered.size)
    bits = np.bincount(starts // size, counts * np.log2(size / counts), len(ordered))
    return bits.astype(np.float64), first.sum(1)


def _connected(begun: Mask, worth: Mask) -> Mask:
    """The blocks in `worth` that touch those that begin a patch, directly or through others."""
    taken, grown = begun, spread(begun) & worth | begun
    while (grown != taken).any():
        taken, grown = grown, spread(grown) & worth | begun
    return taken


def spread(taken: Mask) -> Mask:
    """The blocks that are taken, and all eight around each."""
    wide = np.pad(taken, 1)
    down = wide[:-2] | wide[1:-1] | wide[2:]
    return down[:, :-2] | down[:, 1:-1] | down[:, 2:]
