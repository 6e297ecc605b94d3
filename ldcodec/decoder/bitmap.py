"""The bit map of a file: bits spent on each block of 16×16 pixels, by the tables of its symbols and by its patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.chunktypes import PATCHES
from ldcodec.bitstream.layout import coded_size
from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import PIXELS, UNIT, Span, coded_rows
from ldcodec.decoder.parse import coder_of, read_slice
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.entropy.trellis import Quantised
from ldcodec.pictures.patches import taken_of

Bits = NDArray[np.float64]


@dataclass(frozen=True)
class BlockBits:
    """Bits spent on each block of 16×16 pixels, all float64 [⌈H/16⌉, ⌈W/16⌉].

    latent: for the symbols of the block's latent; hyper: the block's equal share of the hyper-latent for 64×64 pixels;
    patches: its equal share of what is stored exactly, if it is.
    """

    latent: Bits
    hyper: Bits
    patches: Bits

    @property
    def total(self) -> Bits:
        return self.latent + self.hyper + self.patches


def block_bits(source: Reader, model: DecoderModel, slices: Sequence[int] | None = None) -> BlockBits:
    """Bits that the symbols and patches of a file take; −log2 p of each symbol.

    They sum to the payloads, less a few bytes per slice, and the chunk of patches.

    slices: the numbers, from 0, of the slices to count, or None for all; blocks of other slices get 0.

    Raises DamagedError, and ModelError for a file of another model.
    """
    coder_of(source.header, model)
    latent, hyper, stored = np.zeros((3, *coded_size(source.header.width, source.header.height)))
    for number in range(source.chunk_count):
        if source.chunk_kind(number) == PATCHES:
            taken = taken_of(source.chunk(number).data, (source.header.width, source.header.height))
            stored[taken] = 8 * source.chunk_length(number) / taken.sum()
    for number in range(len(source.spans)) if slices is None else slices:
        span = source.spans[number]
        rows = slice(span.top, span.bottom)
        latent[rows], hyper[rows] = _slice_bits(source, number, span, model)
    return BlockBits(latent, hyper, stored)


def per_pixel(bits: Bits, width: int, height: int, factor: int = 1) -> Bits:
    """Bits of the blocks of a picture of width × height → bits per pixel in squares of factor × factor blocks.

    At the right and bottom edges, only pixels of the picture count.
    """
    side = factor * PIXELS
    rows, columns = -(-height // side), -(-width // side)
    padded = np.zeros((rows * factor, columns * factor))
    padded[: bits.shape[0], : bits.shape[1]] = bits
    sums: Bits = padded.reshape(rows, factor, columns, factor).sum((1, 3))
    return sums / np.outer(_pieces(height, side), _pieces(width, side))


def _pieces(length: int, side: int) -> NDArray[np.int64]:
    """The lengths of the pieces when a length is cut every `side`; the last may be shorter."""
    starts = np.arange(0, length, side)
    return np.minimum(side, length - starts)


def _slice_bits(source: Reader, number: int, span: Span, model: DecoderModel) -> tuple[Bits, Bits]:
    header = source.header
    hyper, parsed = read_slice(source.slice(number), header, span, model)
    rows, columns = coded_rows(span, header.width, header.height)
    coded = np.s_[:, :rows, :columns]
    coder = coder_of(header, model)
    latent = coder.latent_bits(Quantised(parsed.symbols[coded], parsed.kind[coded]), parsed.index[coded])
    shared = _shared(coder.hyper_bits(hyper, header.quality).sum(0), rows, columns)
    return latent.sum(0), shared


def _shared(bits: Bits, rows: int, columns: int) -> Bits:
    """Divide the bits of each hyper-latent position, [h/4, w/4], equally among its blocks that lie in the picture."""
    # The padding is less than 64 pixels, so every position has such blocks.
    down, across = (np.minimum(UNIT, size - UNIT * np.arange(-(-size // UNIT))) for size in (rows, columns))
    return np.repeat(np.repeat(bits / np.outer(down, across), UNIT, 0), UNIT, 1)[:rows, :columns]
