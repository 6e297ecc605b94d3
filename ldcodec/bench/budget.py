"""Equal bytes: the setting whose file is the largest of at most so many bytes."""

import math

from ldcodec.bench.codecs import Codec
from ldcodec.pictures.picture import Pixels


def setting_within(codec: Codec, pixels: Pixels, size: int, sizes: dict[int, int] | None = None) -> float:
    """The setting of the largest file of at most `size` bytes; that of the smallest file if all are larger.

    The codec's own search, or one over its grid: files are taken to grow along it. sizes: of the files of this picture
    that are known, by the place of their setting in the grid; those that the search makes join them.
    """
    if codec.find is not None:
        return codec.find(pixels, size)
    sizes = {} if sizes is None else sizes
    low = max((place for place, known in sizes.items() if known <= size), default=-1)
    high = min((place for place, known in sizes.items() if known > size), default=len(codec.grid))
    tries = 0
    while high - low > 1:
        tries += 1
        place = _between(low, high, sizes, size) if tries % 3 else (low + high) // 2  # lest one end stay far away
        sizes[place] = len(codec.encode(pixels, codec.grid[place]))
        low, high = (place, high) if sizes[place] <= size else (low, place)
    return codec.grid[max(low, 0)]


def _between(low: int, high: int, sizes: dict[int, int], size: int) -> int:
    """Where the logarithm of the size, taken for straight between two known places, meets `size`; else the middle."""
    if low not in sizes or high not in sizes:
        return (low + high) // 2
    share = math.log(size / sizes[low]) / math.log(sizes[high] / sizes[low])
    return min(high - 1, max(low + 1, low + round(share * (high - low))))
