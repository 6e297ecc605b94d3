"""Parsing: bytes of a slice → symbols, means and scales, identical on every machine or refused by the checksum."""

import zlib

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header, latent_size
from ldcodec.bitstream.reader import Slice
from ldcodec.bitstream.slices import UNIT, Span, coded_rows
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.entropy.integer import Parsed, Prior
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.trellis import Quantised
from ldcodec.errors import DamagedError, FormatError, ModelError


def coder_of(header: Header, model: DecoderModel) -> Coder:
    """The coder of a model for a file. Raises ModelError unless the model is the one that the file was written with."""
    coder, named = model.coders.get(header.parse_id), header.parse_id.hex()
    if coder is None:
        raise ModelError(f"the file was written with model {named}, not {model.parse_id.hex()} ({model.name})")
    if header.trellis != (coder.trellis is not None):
        written, has = ("with", "does not have") if header.trellis else ("without", "has")
        raise ModelError(f"the file was written {written} a trellis, which model {named} ({model.name}) {has}")
    return coder


def parse(source: Container, model: DecoderModel) -> Parsed:
    """Parse the latent of a file that has one slice.

    Raises FormatError for several slices, ModelError for a file of another model, and DamagedError like `parse_slice`.
    """
    coder_of(source.header, model)
    if len(source.slices) != 1:
        raise FormatError("the file has several slices, which are parsed one by one")
    rows = latent_size(source.header.width, source.header.height)[0]
    return parse_slice(source.slices[0], source.header, Span(0, rows), model)


def parse_slice(piece: Slice, header: Header, span: Span, model: DecoderModel) -> Parsed:
    """Parse the latent of one slice, [M, span.rows, w]. Raises DamagedError if the symbols fail their checksum."""
    return read_slice(piece, header, span, model)[1]


def read_slice(piece: Slice, header: Header, span: Span, model: DecoderModel) -> tuple[NDArray[np.int32], Parsed]:
    """Parse the symbols of a slice's hyper-latent, [hyper, h/4, w/4], and its latent. Raises like `parse_slice`."""
    hyper_shape = _hyper_shape(header, span, model)
    # A lying header could claim many rows for a few bytes: compare before arrays of that size are allocated.
    coder = coder_of(header, model)
    if coder.is_too_small(len(piece.payload), hyper_shape[1] * hyper_shape[2]):
        raise DamagedError(f"{len(piece.payload)} bytes of payload cannot hold the symbols of {span.rows} latent rows")
    decoder = coder.decoder(piece.payload)
    hyper = coder.hyper.fill(
        hyper_shape[1:], header.quality, lambda indices, predicted, _: decoder.decode_hyper(indices, predicted)
    )

    def read(prior: Prior) -> Quantised:
        return decoder.decode_latent(prior.index, header.trellis)

    coded = coded_rows(span, header.width, header.height)
    parsed = model.integers.parse(hyper, header.quality, coded, read)
    decoder.finish()
    if symbols_crc(hyper, parsed.symbols) != piece.symbols_crc:
        raise DamagedError("the decoded symbols are not those that were written (their CRC-32 differs)")
    return hyper, parsed


def blank_slice(header: Header, span: Span, model: DecoderModel) -> Parsed:
    """A substitute for a damaged slice: all symbols zero, with the means that the rate model predicts from that."""

    def zeros(prior: Prior) -> Quantised:
        # The means need not know of a trellis, in which zero means the same.
        return Quantised(np.zeros(prior.index.shape, np.int32), np.zeros(prior.index.shape, np.uint8))

    hyper = np.zeros(_hyper_shape(header, span, model), np.int32)
    return model.integers.parse(hyper, header.quality, coded_rows(span, header.width, header.height), zeros)


def symbols_crc(hyper: NDArray[np.int32], symbols: NDArray[np.int32]) -> int:
    """CRC-32 over a slice's symbols as 16-bit little-endian numbers: hyper-latent, then latent, channel by channel."""
    return zlib.crc32(symbols.astype("<i2").tobytes(), zlib.crc32(hyper.astype("<i2").tobytes()))


def _hyper_shape(header: Header, span: Span, model: DecoderModel) -> tuple[int, int, int]:
    columns = latent_size(header.width, header.height)[1]
    return model.integers.config.hyper, span.rows // UNIT, columns // UNIT
