"""What an input claims to be, tested before anything of that size is made: pixels, symbols, memory."""

import io
from pathlib import Path
from typing import BinaryIO

from ldcodec import memory, slicing
from ldcodec.cli.batch import Batch
from ldcodec.cli.files import read_start
from ldcodec.container import MAGIC
from ldcodec.errors import DamagedError, LdcodecError
from ldcodec.reader import Reader
from ldcodec.weightsfile import is_too_small, least_hyper_bits

HALO = 35  # latent rows at most around a tile (`tiles.halo_of`)


class Claims:
    """Tests inputs against the limits of one call, and tells of work that will need much of the memory."""

    def __init__(self, batch: Batch, max_pixels: int) -> None:
        self._batch, self._max_pixels = batch, max_pixels

    def of_picture(self, stream: BinaryIO, name: str) -> None:
        """Before a picture is decoded; what is no picture is left to the reader. Raises LdcodecError."""
        self._tell_pillow()
        size = _size_of(stream)
        if size is not None:
            self._pixels(*size)
            if memory.is_large(*size):
                memory.give_back_at_once()
            self._memory(memory.for_encoding(*size, slicing.cut(*size)))

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
            if is_too_small(length, span.rows // slicing.UNIT * columns, least_bits):
                what = f"slice {number + 1} of {len(source.spans)}"
                raise DamagedError(f"the header lies: {what} cannot hold its symbols in {length} bytes")

    def _memory(self, expected: float) -> None:
        available = memory.free()
        if available is None or expected <= available / 2:
            return
        needs = f"needs about {memory.amount(expected)} of memory, {memory.amount(available)} are free"
        if expected > available:
            raise LdcodecError(needs)
        self._batch.note(f"note: {needs}")


def _size_of(stream: BinaryIO) -> tuple[int, int] | None:
    """Width and height that a picture file claims; None if it cannot be told without using the stream up."""
    from PIL import Image

    if not stream.seekable():
        return None
    try:
        with Image.open(stream) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise LdcodecError("it claims more pixels than are allowed; --max-pixels sets another limit") from error
    except Exception:  # whatever is wrong is told when the picture is read
        return None
    finally:
        stream.seek(0)


def reader_of(stream: BinaryIO) -> Reader:
    """A file open for reading, from a pipe too. Raises FormatError or DamagedError."""
    if stream.seekable():
        return Reader(stream)
    data = read_start(stream, MAGIC)
    return Reader(io.BytesIO(data))
