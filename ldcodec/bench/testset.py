"""The pictures of a bench: those named, or natural ones out of installed packages and the project's own sample."""

import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ldcodec.errors import LdcodecError, LdcodecWarning, PictureError
from ldcodec.pictures import read as picture_files
from ldcodec.pictures.picture import Pixels

PACKAGE, FOLDER = "skimage", "data"  # scikit-image ships a few photographs as plain files
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SAMPLE = Path(__file__).with_name("landscape.png")


@dataclass(frozen=True)
class Source:
    """A picture file that can be read. name: how results call it, unlike any other's; width and height in pixels; crc:
    of its RGB samples (`crc_of`).
    """

    path: Path
    name: str
    width: int
    height: int
    crc: str


def default_pictures() -> list[Path]:
    """Photographs of scikit-image where it is installed, else the project's sample."""
    package = find_spec(PACKAGE)
    places = [Path(place, FOLDER) for place in (package.submodule_search_locations or [])] if package else []
    found = [place / name for place in places for name in PHOTOGRAPHS if (place / name).is_file()]
    return found or [SAMPLE]


def find_pictures(arguments: Sequence[Path]) -> list[Path]:
    """Files as named, and every file in folders, those in hidden or deeper folders left out.

    Raises PictureError for what is missing and for a folder with no file in it.
    """
    files: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            inner = sorted(p for p in argument.iterdir() if p.is_file() and not p.name.startswith("."))
            if not inner:
                raise PictureError(f"{argument}: an empty folder")
            files += inner
        elif argument.exists():
            files.append(argument)
        else:
            raise PictureError(f"{argument}: no such file or folder")
    return list(dict.fromkeys(files))


def readable(files: list[Path], tell: Callable[[str], None]) -> list[Source]:
    """The files that are pictures; `tell` gets a line for each that is not. Raises PictureError if none is."""
    names = [file.name for file in files]
    kept = []
    for file in files:
        try:
            pixels = read(file)
        except (LdcodecError, OSError) as error:
            tell(f"left out: {error}")
            continue
        name = file.name if names.count(file.name) == 1 else str(file)
        kept.append(Source(file, name, pixels.shape[1], pixels.shape[0], crc_of(pixels)))
    if not kept:
        raise PictureError("none of the files is a picture that can be read")
    return kept


def crc_of(pixels: Pixels) -> str:
    """CRC-32 of the samples, 8 hexadecimal digits: it tells whether two runs saw the same picture."""
    return f"{zlib.crc32(pixels.tobytes()):08x}"


@lru_cache(maxsize=2)
def read(path: Path) -> Pixels:
    """uint8 (H, W, 3); a grey picture gets three equal channels, since every codec is to do the same work.

    Raises PictureError as `pictures.read.read` does, and for transparency, which not every codec can hold; warnings of
    what a file holds beside pixels do not matter here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LdcodecWarning)
        found = picture_files.read(path)
    if found.alpha is not None:
        raise PictureError(f"{path}: it is transparent in places, and not every codec can hold that")
    pixels = found.pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
