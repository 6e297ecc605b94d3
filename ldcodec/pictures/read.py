"""Picture files and Pillow images → `Picture`.

Nothing is lost silently: what cannot be kept is refused with a PictureError or reported in an LdcodecWarning.
"""

import contextlib
import io
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ldcodec.bitstream.layout import size_problem
from ldcodec.errors import PictureError
from ldcodec.pictures import alpha, colour, kinds, metadata, samples
from ldcodec.pictures.guard import guarded, warn
from ldcodec.pictures.notes import TEXTS, notes_of
from ldcodec.pictures.picture import Picture, Pixels, from_array, white_of
from ldcodec.pictures.survey import survey


def read(source: Path | BinaryIO, name: str | None = None, frame: int | None = None) -> Picture:
    """Read a picture file and turn it upright.

    name: what messages call the file; frame: which of several pictures to take, counted from 1. Raises PictureError for
    a file that is missing, damaged, too large or not a picture; warns with LdcodecWarning of anything that is not kept.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    with guarded(name), contextlib.ExitStack() as stack:
        stored = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        stored = stored if stored.seekable() else io.BytesIO(stored.read())
        image = stack.enter_context(kinds.opened(stored, frame or 1))
        if frame is not None and not isinstance(image, TiffImageFile):
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
    samples.warn_if_reduced(image, file)
    exif, notes = metadata.exif_of(image), notes_of(image, file)
    icc = colour.declared(image, file, exif).icc
    return {"icc_profile": icc, "exif": exif, "iptc": notes.iptc, "dpi": notes.resolution, TEXTS: notes.texts}


def _picture(image: Image.Image) -> Picture:
    problem = size_problem(*image.size)
    if problem is not None:
        raise PictureError(f"cannot be stored: {problem}")
    kinds.check(image)
    file = survey(image)
    if file.refused is not None:
        raise PictureError(file.refused)
    inverted = kinds.is_white_zero(image)
    deep = samples.loaded(image, file)
    texts = metadata.collect(image, file)
    grey = None if deep is None else deep.grey  # Pillow opens grey of 16 bits with alpha as RGBA
    colours = colour.declared(image, file, texts.exif, grey)
    if deep is None:
        opaque, transparency = alpha.split(texts.turned(image), file.bits)
        pixels, colours = colour.plain(opaque, colours)
    else:
        turned = texts.turned_samples(deep.values)
        pixels, transparency = alpha.parted(turned, deep.white, image.info.get("transparency"))
        pixels, colours = colour.storable(pixels, colours)
    if file.parts:
        warn(f"an .ldc file has no place for its {', '.join(dict.fromkeys(file.parts))}, left out")
    pixels = white_of(pixels) - pixels if inverted else pixels
    depth = 8 if deep is None else deep.bits
    return Picture(pixels, transparency, colours.icc, texts.exif, texts.xmp, texts.notes, depth, colours.bright)


def _go_to(image: Image.Image, frame: int) -> None:
    count = 1 if image.format == "PSD" else getattr(image, "n_frames", 1)  # whose frames are its layers
    if not 1 <= frame <= count:
        raise PictureError(f"there is no picture number {frame}; the file holds {count}")
    if frame > 1:
        image.seek(frame - 1)


def warn_of_frames(image: Image.Image) -> None:
    """Warn if an image is the first of several. Must come last: counting them may move the file to another one."""
    try:
        several = image.tell() == 0 and getattr(image, "is_animated", False)
    except Exception:  # a damaged later frame
        several = True
    if several:
        warn("it holds several pictures; only the first is kept")
