"""PNG of 16 bits a sample, of which Pillow writes no colours: the pixels are coded here, all other chunks by Pillow."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ldcodec.pictures.picture import Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
STRIP = 1 << 20  # samples that are filtered at a time

Rows = NDArray[np.uint8]


def written(pixels: Pixels, level: int) -> bytes:
    """Encode uint16 (H, W) or (H, W, 2 to 4), alpha last, with zlib's level 0 to 9."""
    file = io.BytesIO()
    write(pixels, file, level)
    return file.getvalue()


def write(pixels: Pixels, target: BinaryIO, level: int, template: bytes = b"") -> None:
    """Write what `written` returns. template: a PNG file, whose chunks beside the pixels are taken over."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    target.write(SIGNATURE + _chunk(b"IHDR", header) + b"".join(_others(template)))
    deflater = zlib.compressobj(level)
    for rows in _filtered(pixels.reshape(height, -1), 2 * channels):
        if data := deflater.compress(rows):
            target.write(_chunk(b"IDAT", data))
    target.write(_chunk(b"IDAT", deflater.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _others(template: bytes) -> Iterator[bytes]:
    """The chunks of a PNG file that say nothing of how its pixels are coded."""
    place = len(SIGNATURE)
    while place < len(template):
        length, kind = struct.unpack_from(">I4s", template, place)
        if kind not in (b"IHDR", b"IDAT", b"IEND"):
            yield template[place : place + 12 + length]
        place += 12 + length


def _filtered(samples: Pixels, step: int) -> Iterator[bytes]:
    """The rows [H, W·C] as filtered bytes, some at a time. step: bytes of a pixel."""
    count = max(1, STRIP // max(1, samples.shape[1]))
    above = np.zeros((1, 2 * samples.shape[1]), np.uint8)
    for top in range(0, len(samples), count):
        rows = np.ascontiguousarray(samples[top : top + count], ">u2").view(np.uint8)
        yield _smallest(rows, np.concatenate([above, rows[:-1]]), step)
        above = rows[-1:]


def _smallest(rows: Rows, above: Rows, step: int) -> bytes:
    """Each row by that filter of None, Sub, Up and Paeth whose bytes, taken as signed, have the least sum.

    So section 12.7 of the PNG specification advises.
    """
    left, corner = (np.pad(values, ((0, 0), (step, 0)))[:, :-step] for values in (rows, above))
    forms = np.stack([rows, rows - left, rows - above, rows - _paeth(left, above, corner)])
    costs = np.minimum(forms, -forms).sum(2, dtype=np.int64)
    best = costs.argmin(0)
    chosen = forms[best, np.arange(len(rows))]
    return np.concatenate([np.array([0, 1, 2, 4], np.uint8)[best, None], chosen], axis=1).tobytes()


def _paeth(left: Rows, above: Rows, corner: Rows) -> Rows:
    """The neighbour nearest to left + above − corner; of equally near ones the first."""
    a, b, c = (values.astype(np.int16) for values in (left, above, corner))
    to_left, to_above, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
