"""Picture files and Pillow images → `Picture`.

Nothing is lost silently: what cannot be kept is refused with a PictureError or reported in an LdcodecWarning.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from ldcodec.bitstream.layout import size_problem
from ldcodec.errors import PictureError
from ldcodec.pictures import alpha, colour, kinds, metadata
from ldcodec.pictures.guard import guarded, warn
from ldcodec.pictures.notes import TEXTS, notes_of
from ldcodec.pictures.picture import Picture, Pixels, from_array
from ldcodec.pictures.survey import survey


def read(source: Path | BinaryIO, name: str | None = None, frame: int | None = None) -> Picture:
    """Read a picture file and turn it upright.

    name: what messages call the file; frame: which of several pictures to take, counted from 1. Raises PictureError for
    a file that is missing, damaged, too large or not a picture; warns with LdcodecWarning of anything that is not kept.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    with guarded(name), contextlib.ExitStack() as stack:
        stored = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        image = stack.enter_context(kinds.opened(stored if stored.seekable() else io.BytesIO(stored.read())))
        if frame is not None:
            _go_to(image, frame)
        picture = _picture(image)
        if frame is None:
            warn_of_frames(image)
    return picture


def as_picture(image: Image.Image | Pixels | Picture) -> Picture:
    """Convert whatever `codec.encode` accepts. Raises and warns as `read` does."""
    if isinstance(image, Picture):
        return image
    return from_image(image) if isinstance(image, Image.Image) else from_array(image)


def from_image(image: Image.Image) -> Picture:
    """Convert a Pillow image and turn it upright. Raises and warns as `read` does.

    Of an animation, the picture that it shows; whoever has gone to a later one has chosen it and is not warned.
    """
    with guarded("the picture"):
        picture = _picture(image)
        warn_of_frames(image)
    return picture


def info_of(image: Image.Image) -> dict[str, Any]:
    """Metadata of a Pillow image, as a plain copy of it can hold them in its `info`; None for what there is not."""
    file = survey(image)
    image.load()
    exif, notes = metadata.exif_of(image), notes_of(image, file)
    icc = colour.declared(image, file, exif).icc
    return {"icc_profile": icc, "exif": exif, "iptc": notes.iptc, "dpi": notes.resolution, TEXTS: notes.texts}


def _picture(image: Image.Image) -> Picture:
    problem = size_problem(*image.size)
    if problem is not None:
        raise PictureError(f"cannot be stored: {problem}")
    kinds.check(image)
    file = survey(image)
    inverted, white = kinds.is_white_zero(image), kinds.white_of(image)
    _warn_of_depth(image, file.bits)
    image.load()
    texts = metadata.collect(image, file)
    colours = colour.declared(image, file, texts.exif)
    opaque, transparency = alpha.split(texts.turned(image))
    pixels, icc = colour.plain(opaque, colours, white)
    if file.parts:
        warn(f"an .ldc file has no place for its {', '.join(dict.fromkeys(file.parts))}, left out")
    return Picture(255 - pixels if inverted else pixels, transparency, icc, texts.exif, texts.xmp, texts.notes)


def _go_to(image: Image.Image, frame: int) -> None:
    count = getattr(image, "n_frames", 1)
    if not 1 <= frame <= count:
        raise PictureError(f"there is no picture number {frame}; the file holds {count}")
    image.seek(frame - 1)


def _warn_of_depth(image: Image.Image, bits: int) -> None:
    """Must come before loading: Pillow cuts 16-bit colour to 8 bits as it decodes, and only the tiles show it.

    bits: of a sample, as its file says; 0 if only Pillow can tell.
    """
    if image.mode.startswith("I") or re.search(r";16[BLN]", str(getattr(image, "tile", ""))):
        bits = max(bits, 9) if bits else 16
    if bits > 8:
        warn(f"its {bits}-bit samples are reduced to 8 bits")


def warn_of_frames(image: Image.Image) -> None:
    """Warn if an image is the first of several. Must come last: counting them may move the file to another one."""
    try:
        several = image.tell() == 0 and getattr(image, "is_animated", False)
    except Exception:  # a damaged later frame
        several = True
    if several:
        warn("it holds several pictures; only the first is kept")
