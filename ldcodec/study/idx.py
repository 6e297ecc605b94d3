"""The idx files of MNIST: two zeros, type, dimensions, sizes, numbers (yann.lecun.com/exdb/mnist)."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldcodec.errors import PictureError

BYTES = 0x08  # the type of unsigned bytes, the only one that MNIST has
LARGEST = 1 << 28  # numbers in a file: MNIST has 47 million


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file, gzipped or not: uint8, of the shape that it names.

    Raises PictureError for anything else, and before it is unpacked for more than 2²⁸ numbers.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            count = math.prod(shape)
            if zeros or kind != BYTES or not 1 <= dimensions <= 3 or count > LARGEST:
                raise PictureError(f"{path}: not an idx file of bytes")
            data = file.read(count + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise PictureError(f"{path}: not a readable idx file ({error})") from error
    if len(data) != count:
        raise PictureError(f"{path}: {count} numbers announced, {'more' if len(data) > count else len(data)} found")
    return np.frombuffer(data, np.uint8).reshape(shape)
