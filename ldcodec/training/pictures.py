"""Training pictures, all in memory as 8-bit pixels, and random crops of them."""

import glob
import io
import tarfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcodec.errors import LdcodecWarning, PictureError
from ldcodec.pictures.read import read

Pixels = NDArray[np.uint8]


def load_pictures(patterns: Iterable[str], limit: int | None = None) -> list[Pixels]:
    """All pictures of tars, folders and picture files, or the first `limit`, as uint8 (H, W, 3).

    Patterns may hold wildcards; grey pictures get three equal channels. Files that are no picture this codec takes are
    passed over; raises PictureError if none is left.
    """
    found: list[Pixels] = []
    patterns = list(patterns)
    for pixels in _all(patterns):
        if limit is not None and len(found) == limit:
            break
        found.append(pixels)
    if not found:
        raise PictureError(f"no pictures in {', '.join(patterns) or 'the settings: name some with --data'}")
    return found


def _all(patterns: Iterable[str]) -> Iterator[Pixels]:
    for pattern in patterns:
        for path in map(Path, sorted(glob.glob(pattern, recursive=True))):
            for data in _files(path):
                pixels = _read(data)
                if pixels is not None:
                    yield pixels


def _files(path: Path) -> Iterator[bytes]:
    """The contents of a picture file, of a tar's members, or of a folder's files in order of name."""
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LdcodecWarning)
        try:
            picture = read(io.BytesIO(data))
        except PictureError:
            return None
    if picture.alpha is not None:  # what alpha hides is no photograph
        return None
    pixels = picture.pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


class Crops:
    """Random crops, flipped and transposed, cut where the pictures live: in GPU memory if there is one."""

    def __init__(self, found: list[Pixels], device: torch.device, largest: int) -> None:
        """largest: pictures with a shorter side than this are left out. Raises PictureError if none is large enough."""
        large = [pixels for pixels in found if min(pixels.shape[:2]) >= largest]
        if not large:
            raise PictureError(f"no training picture has {largest}x{largest} pixels, the size of a crop")
        self.found = [torch.from_numpy(np.ascontiguousarray(a.transpose(2, 0, 1))).to(device) for a in large]

    def batch(self, count: int, size: int, rng: np.random.Generator) -> Tensor:
        """[count, 3, size, size] float32 in 0..1, channels last."""
        cut = torch.stack([self._crop(size, rng) for _ in range(count)])
        return (cut.float() / 255).contiguous(memory_format=torch.channels_last)

    def _crop(self, size: int, rng: np.random.Generator) -> Tensor:
        pixels = self.found[rng.integers(len(self.found))]
        top, left = (int(rng.integers(length - size + 1)) for length in pixels.shape[1:])
        crop = pixels[:, top : top + size, left : left + size]
        crop = crop.flip(2) if rng.random() < 0.5 else crop
        return crop.transpose(1, 2) if rng.random() < 0.5 else crop
