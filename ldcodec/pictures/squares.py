"""Squares of 8×8 pixels that a file wants drawn as in a draft, by the linear shortcut alone (docs/bitstream.md).

There are four in each block of 16×16 pixels, so a mask of them is bool [⌈H/16⌉, ⌈W/16⌉, 2, 2].
"""

import numpy as np

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.layout import coded_size
from ldcodec.errors import DamagedError
from ldcodec.pictures.patches import Mask

SQUARE = 8  # pixels


def packed(wanted: Mask) -> bytes:
    """The chunk that says which squares are drawn as in a draft."""
    return chunktypes.pack(np.packbits(wanted).tobytes())


def unpacked(data: bytes, size: tuple[int, int]) -> Mask:
    """The inverse of `packed` for a picture of (width, height). Raises DamagedError."""
    rows, columns = coded_size(*size)
    count, bits = 4 * rows * columns, chunktypes.unpack(data)
    if bits is None or len(bits) != -(-count // 8):
        raise DamagedError(f"chunk {chunktypes.DRAFTED}: it does not say which squares it means")
    flags = np.unpackbits(np.frombuffer(bits, np.uint8), count=count)
    return flags.reshape(rows, columns, 2, 2).astype(np.bool_)


def size_problem(data: bytes, size: tuple[int, int]) -> str | None:
    """What is wrong with the squares that a chunk names in a file of (width, height); None if nothing is."""
    try:
        unpacked(data, size)
    except DamagedError:
        return "without a valid map of its squares"
    return None
