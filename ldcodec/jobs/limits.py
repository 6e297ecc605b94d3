"""What an input claims to be, tested before anything of that size is made: pixels, symbols, memory."""

import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ldcodec.bitstream import slices
from ldcodec.bitstream.layout import MAGIC
from ldcodec.bitstream.reader import Reader
from ldcodec.entropy.weightsfile import is_too_small, least_hyper_bits
from ldcodec.errors import DamagedError, LdcodecError, PictureError
from ldcodec.jobs import memory
from ldcodec.jobs.messages import Batch
from ldcodec.jobs.paths import read_start

DEFLATE = 1032  # bytes of a PNG's rows that one byte of its file can hold at most
HALO = 35  # latent rows at most around a tile (`tiles.halo_of`)


class Claims:
    """Tests inputs against the limits of one call, and tells of work that will need much of the memory."""

    def __init__(self, batch: Batch, max_pixels: int, share: float | None = None) -> None:
        """share: bytes of memory that are this process's among several that work at once; None where it works alone."""
        self._batch, self._max_pixels, self._share = batch, max_pixels, share

    def of_picture(self, stream: BinaryIO, name: str, effort: int = 1) -> None:
        """Before a picture is decoded, to be compressed with effort 1..9; what is none is left to the reader.

        Raises LdcodecError.
        """
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # this one's size is tested here
        claim = _claim_of(stream)
        self._tell_pillow()
        if claim is None:
            return
        width, height, problem = claim
        self._pixels(width, height)
        if problem:
            raise PictureError(problem)
        if memory.is_large(width, height):
            memory.give_back_at_once()
        self._memory(memory.for_encoding(width, height, slices.cut(width, height), effort))

    def of_file(
        self, source: Reader, region: tuple[int, int, int, int] | None, scale: int, weights: Path | None
    ) -> None:
        """Before a file's model is loaded; region and scale are what is wanted of it. Raises LdcodecError."""
        header = source.header
        shown = region[2] * region[3] if region else header.width * header.height // scale**2
        self._pixels(header.width, header.height)
        if source.lossless:
            self._tell_pillow()
            self._memory(memory.for_pillow(header.width, header.height))
            return
        if not source.holds_a_slice():
            raise DamagedError("the file is cut short before the end of its first slice, so nothing can be restored")
        self._payloads(source, least_hyper_bits(weights) if weights is not None else 0.0)
        if memory.is_large(header.width, header.height):
            memory.give_back_at_once()
        self._memory(memory.for_decoding(header, source.spans, HALO, shown))

    def _tell_pillow(self) -> None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = max(1, self._max_pixels // 2)  # Pillow refuses from twice this number on

    def _pixels(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            count = f"{width}x{height} pixels are more than the {self._max_pixels} allowed"
            raise LdcodecError(f"{count}; --max-pixels sets another limit")

    def _payloads(self, source: Reader, least_bits: float) -> None:
        columns = -(-source.header.width // 64)
        for number, span in enumerate(source.spans):
            length = source.payload_length(number)
            if is_too_small(length, span.rows // slices.UNIT * columns, least_bits):
                what = f"slice {number + 1} of {len(source.spans)}"
                raise DamagedError(f"the header lies: {what} cannot hold its symbols in {length} bytes")

    def _memory(self, expected: float) -> None:
        bounds = [bound for bound in (memory.free(), self._share) if bound is not None]
        if not bounds or expected <= min(bounds) / 2:
            return
        available = min(bounds)
        shared = " for it beside other jobs; see --jobs" if available == self._share else ""
        needs = f"needs about {memory.amount(expected)} of memory, {memory.amount(available)} are free{shared}"
        if expected > available:
            raise LdcodecError(needs)
        self._batch.note(f"note: {needs}")


class _Claim(NamedTuple):
    """The size in pixels that a picture file claims, and why that cannot be, if so."""

    width: int
    height: int
    problem: str


def _claim_of(stream: BinaryIO) -> _Claim | None:
    """What a picture file claims; None if it cannot be told without using the stream up."""
    from PIL import Image

    if not stream.seekable():
        return None
    try:
        length = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        with Image.open(stream) as image:
            lies = image.format == "PNG" and image.width * image.height * _bits(image.mode) > 8 * DEFLATE * length
            problem = f"{image.width}x{image.height} pixels do not fit its {length} bytes" if lies else ""
            return _Claim(*image.size, problem)
    except Exception:  # whatever is wrong is told when the picture is read
        return None
    finally:
        stream.seek(0)


def _bits(mode: str) -> int:
    """Bits that a pixel of a Pillow mode takes in a PNG at least."""
    return {"RGB": 24, "RGBA": 32, "LA": 16}.get(mode, 1)


def reader_of(stream: BinaryIO) -> Reader:
    """A file open for reading, from a pipe too. Raises FormatError or DamagedError."""
    if stream.seekable():
        return Reader(stream)
    data = read_start(stream, MAGIC)
    return Reader(io.BytesIO(data))
