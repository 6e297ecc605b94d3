"""Pictures in a folder for each class, root/class/picture, as MNIST and CIFAR-10 are also passed on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ldcodec.errors import PictureError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


def class_folders(root: Path) -> list[Path]:
    """The folders of a folder that hold pictures themselves, by name."""
    if not root.is_dir():
        return []
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and _pictures(folder)]


def read_class_folders(root: Path, side: int, colours: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures [N, colours, side, side] uint8 and the numbers of their classes [N].

    A picture of another shape is cut to its central square and resized. colours: 1 for grey or 3. Raises
    PictureError where there are not two classes, or a picture cannot be read.
    """
    folders = class_folders(root)
    if len(folders) < 2:
        raise PictureError(f"{root}: no two folders of pictures, one for each class, in it")
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
