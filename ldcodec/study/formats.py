"""Files of pictures: idx files of MNIST, binary batches of CIFAR-10, and folders with a subfolder for each class."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ldcodec.errors import PictureError

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
BYTES = 0x08  # the idx type of unsigned bytes, the only one in MNIST
LARGEST = 1 << 28  # bytes that are read of a file: the largest of MNIST has 47 million, of CIFAR-10 31 million
CIFAR_SIDE = 32
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an idx file, gzipped or not: uint8, of the shape that its header names.

    The format is two zero bytes, type, dimensions, sizes and numbers (yann.lecun.com/exdb/mnist). Raises PictureError
    for anything else, and before unpacking more than 2²⁸ numbers.
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


def read_cifar_batch(path: Path) -> Labelled:
    """Pictures [N, 3, 32, 32] and labels [N] of a batch of CIFAR-10 in the binary version.

    It is a byte of label and 3072 of picture, over and over (cs.toronto.edu/~kriz/cifar.html). Raises PictureError for
    anything else. The Python version of the data set is not read: it is pickled, and a pickle can run code.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})") from error
    size = 1 + 3 * CIFAR_SIDE**2
    if not content or len(content) > LARGEST or len(content) % size:
        raise PictureError(f"{path}: {len(content)} bytes, not a batch of pictures of {size} bytes each")
    rows = np.frombuffer(content, np.uint8).reshape(-1, size)
    return rows[:, 1:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE), rows[:, 0].astype(np.int64)


def class_folders(root: Path) -> list[Path]:
    """The folders directly in a folder that contain pictures, by name: root/class/picture."""
    if not root.is_dir():
        return []
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and _pictures(folder)]


def read_class_folders(root: Path, side: int, colours: int) -> Labelled:
    """Pictures [N, colours, side, side] and the numbers of their classes [N]; colours is 1 for grey or 3.

    A picture of another shape is cut to its central square and resized. Raises PictureError where there are fewer than
    two classes or a picture cannot be read.
    """
    folders = class_folders(root)
    if len(folders) < 2:
        raise PictureError(f"{root}: needs at least two folders of pictures, one for each class")
    named = [(path, number) for number, folder in enumerate(folders) for path in _pictures(folder)]
    pictures = np.stack([_read(path, side, colours) for path, _ in named])
    return pictures, np.array([number for _, number in named])


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _read(path: Path, side: int, colours: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if colours == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path}: not a readable picture ({error})") from error
    if picture.size != (side, side):
        picture = ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, np.uint8)
    return pixels[None] if colours == 1 else pixels.transpose(2, 0, 1)
