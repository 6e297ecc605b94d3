"""The pictures of a bench: those on the command line, or else photographs from scikit-image, or the sample."""

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
from ldcodec.pictures.colour import in_8_bits
from ldcodec.pictures.picture import Pixels

PACKAGE, FOLDER = "skimage", "data"  # scikit-image ships a few photographs as plain files
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SAMPLE = Path(__file__).with_name("landscape.png")


@dataclass(frozen=True)
class Source:
    """A readable picture file. name: unique, in results; width, height: in pixels; crc: of its samples (`crc_of`)."""

    path: Path
    name: str
    width: int
    height: int
    crc: str


def default_pictures() -> list[Path]:
    """The photographs of scikit-image if it is installed, else the sample that ldcodec ships."""
    package = find_spec(PACKAGE)
    places = [Path(place, FOLDER) for place in (package.submodule_search_locations or [])] if package else []
    found = [place / name for place in places for name in PHOTOGRAPHS if (place / name).is_file()]
    return found or [SAMPLE]


def find_pictures(arguments: Sequence[Path]) -> list[Path]:
    """The files named, and every file directly in the folders named, except hidden ones.

    Raises PictureError for a missing path and for a folder without files.
    """
    files: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            inner = sorted(p for p in argument.iterdir() if p.is_file() and not p.name.startswith("."))
            if not inner:
                raise PictureError(f"{argument}: the folder is empty")
            files += inner
        elif argument.exists():
            files.append(argument)
        else:
            raise PictureError(f"{argument}: no such file or folder")
    return list(dict.fromkeys(files))


def readable(files: list[Path], report: Callable[[str], None]) -> list[Source]:
    """The files that are pictures; `report` gets a line for each that is not. Raises PictureError if none is."""
    names = [file.name for file in files]
    kept = []
    for file in files:
        try:
            pixels = read(file)
        except (LdcodecError, OSError) as error:
            report(f"left out: {error}")
            continue
        name = file.name if names.count(file.name) == 1 else str(file)
        kept.append(Source(file, name, pixels.shape[1], pixels.shape[0], crc_of(pixels)))
    if not kept:
        raise PictureError("none of the files is a readable picture")
    return kept


def crc_of(pixels: Pixels) -> str:
    """CRC-32 of the samples, 8 hexadecimal digits, by which two runs know that they saw the same picture."""
    return f"{zlib.crc32(pixels.tobytes()):08x}"


@lru_cache(maxsize=2)
def read(path: Path) -> Pixels:
    """A picture as uint8 (H, W, 3); grey becomes three equal channels, so that all codecs do the same work.

    Raises PictureError as `pictures.read.read` does, and for transparency, which some codecs cannot hold. Warnings are
    dropped, since they concern only what a file holds besides pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LdcodecWarning)
        found = in_8_bits(picture_files.read(path))  # as most codecs take them
    if found.alpha is not None:
        raise PictureError(f"{path}: the picture has transparency, which some codecs cannot hold")
    pixels = found.pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
