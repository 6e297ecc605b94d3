"""Training pictures, all in memory as 8-bit pixels, and random crops of them."""

import glob
import io
import itertools
import os
import tarfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec.errors import LdcodecWarning, PictureError
from ldcodec.pictures.colour import in_8_bits
from ldcodec.pictures.picture import Pixels
from ldcodec.pictures.read import read


def load_pictures(patterns: Iterable[str], limit: int | None = None) -> list[Pixels]:
    """The pictures in tars, folders and files, or the first `limit` of them, as uint8 (H, W, 3).

    Patterns may contain wildcards. Grey pictures become RGB. Files that this codec cannot read, and pictures with
    transparency, are skipped; raises PictureError if none is left.
    """
    patterns = list(patterns)
    with warnings.catch_warnings():  # the filters are shared by all threads; this restores them afterwards
        warnings.simplefilter("ignore", LdcodecWarning)
        found = list(itertools.islice(_all(patterns), limit))
    if not found:
        raise PictureError(f"no pictures in {', '.join(patterns) or 'the settings: name some with --data'}")
    return found


def _all(patterns: Iterable[str]) -> Iterator[Pixels]:
    """Pictures in order, decoded by a thread for each core, so that a GPU does not have to wait long."""
    paths = (Path(name) for pattern in patterns for name in sorted(glob.glob(pattern, recursive=True)))
    contents = (data for path in paths for data in _files(path))
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        while some := list(itertools.islice(contents, 4 * cores)):
            yield from (pixels for pixels in pool.map(_read, some) if pixels is not None)


def _files(path: Path) -> Iterator[bytes]:
    """The contents of a file, of the members of a tar, or of the files in a folder, ordered by name."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            yield from _files(inner) if inner.is_file() else ()
    elif path.suffix == ".tar":
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield content.read()
    else:
        yield path.read_bytes()


def _read(data: bytes) -> Pixels | None:
    try:
        picture = read(io.BytesIO(data))
    except PictureError:
        return None
    if picture.alpha is not None:  # what alpha hides is not part of a photograph
        return None
    pixels = in_8_bits(picture).pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


class Crops:
    """Random crops, flipped and transposed at random, cut in the memory of the device.

    All pixels of all pictures are in one tensor [n, 3]. A crop is then a first pixel and two strides, and a batch is a
    single gather, which a GPU does without waiting for the CPU.
    """

    def __init__(self, found: list[Pixels], device: torch.device, largest: int) -> None:
        """largest: the least side of a picture, others are left out. Raises PictureError if none is large enough."""
        large = [pixels for pixels in found if min(pixels.shape[:2]) >= largest]
        if not large:
            raise PictureError(f"no training picture has {largest}x{largest} pixels, the size of a crop")
        self.device = device
        self.pixels = torch.from_numpy(np.concatenate([pixels.reshape(-1, 3) for pixels in large])).to(device)
        self.sizes = np.array([pixels.shape[:2] for pixels in large])
        self.starts = np.cumsum([0, *self.sizes.prod(1)[:-1]])

    def batch(self, count: int, size: int, rng: np.random.Generator) -> Tensor:
        """Crops [count, 3, size, size], float32 in 0..1, in channels-last memory."""
        first, down, right = _moved(self._cuts(count, size, rng), self.device)[:, :, None, None]
        steps = torch.arange(size, device=self.device)
        places = first + down * steps[:, None] + right * steps
        cut = self.pixels.index_select(0, places.flatten()).view(count, size, size, 3)
        return (cut.float() / 255).permute(0, 3, 1, 2)

    def _cuts(self, count: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """The first pixel of each crop and its strides downwards and to the right, [3, count]."""
        chosen = rng.integers(len(self.sizes), size=count)
        width = self.sizes[chosen, 1]
        top, left = rng.integers(self.sizes[chosen] - size + 1).T
        flipped, transposed = rng.random((2, count)) < 0.5
        first = self.starts[chosen] + top * width + left + np.where(flipped, size - 1, 0)
        right = np.where(flipped, -1, 1)
        return np.stack([first, np.where(transposed, right, width), np.where(transposed, width, right)])


def _moved(values: NDArray[np.int64], device: torch.device) -> Tensor:
    """Copy to the device, from pinned memory because any other copy waits until the GPU is idle."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
