"""Picture files and Pillow images → `Picture`.

Nothing is lost silently: what cannot be kept is refused with a PictureError or reported in an LdcodecWarning.
"""

import io
import re
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ldcodec.bitstream.layout import size_problem
from ldcodec.errors import PictureError
from ldcodec.pictures import alpha, colour, metadata
from ldcodec.pictures.guard import guarded, warn
from ldcodec.pictures.picture import Picture, Pixels, from_array


def read(source: Path | BinaryIO, name: str | None = None, frame: int | None = None) -> Picture:
    """Read a picture file and turn it upright.

    name: what messages call the file; frame: which of several pictures to take, counted from 1. Raises PictureError for
    a file that is missing, damaged, too large or not a picture; warns with LdcodecWarning of anything that is not kept.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    with guarded(name):
        stored = source if isinstance(source, Path) or source.seekable() else io.BytesIO(source.read())
        with Image.open(stored) as image:
            if frame is not None:
                _go_to(image, frame)
            picture = _picture(image)
            if frame is None:
                _warn_of_frames(image)
    return picture


def as_picture(image: Image.Image | Pixels | Picture) -> Picture:
    """Convert whatever `codec.encode` accepts. Raises and warns as `read` does."""
    if isinstance(image, Picture):
        return image
    return from_image(image) if isinstance(image, Image.Image) else from_array(image)


def from_image(image: Image.Image) -> Picture:
    """Convert a Pillow image and turn it upright. Raises and warns as `read` does."""
    with guarded("the picture"):
        return _picture(image)


def _picture(image: Image.Image) -> Picture:
    problem = size_problem(*image.size)
    if problem is not None:
        raise PictureError(f"cannot be stored: {problem}")
    _warn_of_depth(image)
    image.load()
    exif, xmp = metadata.collect(image)
    upright = metadata.upright(image)
    opaque, transparency = alpha.split(upright)
    pixels, icc = colour.plain(opaque, image.info.get("icc_profile"))
    return Picture(pixels, transparency, icc, exif, xmp)


def _go_to(image: Image.Image, frame: int) -> None:
    count = getattr(image, "n_frames", 1)
    if not 1 <= frame <= count:
        raise PictureError(f"there is no picture number {frame}; the file holds {count}")
    image.seek(frame - 1)


def _warn_of_depth(image: Image.Image) -> None:
    """Must come before loading: Pillow cuts 16-bit colour to 8 bits as it decodes, and only the tiles show it."""
    if image.mode.startswith("I") or re.search(r";16[BLN]", str(getattr(image, "tile", ""))):
        warn("its 16-bit samples are reduced to 8 bits")


def _warn_of_frames(image: Image.Image) -> None:
    """Must come last: counting the frames may move the file to another one."""
    try:
        several = getattr(image, "is_animated", False)
    except Exception:  # a damaged later frame
        several = True
    if several:
        warn("it holds several pictures; only the first is kept")
