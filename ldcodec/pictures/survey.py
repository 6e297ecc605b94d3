"""What a picture file says that Pillow does not tell: code points, depth, and what an .ldc file cannot hold."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ldcodec.pictures import boxes
from ldcodec.pictures.boxes import Described
from ldcodec.pictures.codepoints import CodePoints
from ldcodec.pictures.exif import ORIENTATION

MOST_BYTES = 1 << 24  # of a chunk that is read
MOST_CHUNKS = 100_000


def survey(image: Image.Image) -> Described:
    """Look at the file of a Pillow image, which is best not loaded yet; one without a file says nothing.

    A file that is damaged is described as far as its order can be followed.
    """
    look = _LOOKS.get(image.format or "")
    if look is None:
        return Described()
    with _file_of(image) as stream:
        return Described() if stream is None else look(image, stream)


@contextmanager
def _file_of(image: Image.Image) -> Iterator[BinaryIO | None]:
    """The file of an image at its beginning; one that was closed, as loading does, is opened again by its name."""
    stream = cast(BinaryIO | None, getattr(image, "fp", None))
    if stream is not None and stream.seekable():
        place = stream.tell()
        try:
            stream.seek(0)
            yield stream
        finally:
            stream.seek(place)
        return
    try:
        again = open(getattr(image, "filename", ""), "rb")  # noqa: SIM115  # closed below
    except OSError:
        yield None
        return
    with again:
        yield again


def _tiff(image: Image.Image, stream: BinaryIO) -> Described:
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    turned = tags.get(ORIENTATION, 1)
    return Described(turned=turned if isinstance(turned, int) else 1)


def _iso(image: Image.Image, stream: BinaryIO) -> Described:
    return boxes.described(stream)


def _png(image: Image.Image, stream: BinaryIO) -> Described:
    found = Described()
    for kind, data in _png_chunks(stream):
        if kind == b"cICP" and len(data) == 4:
            found.code_points = CodePoints(data[0], data[1], bool(data[3]))
    return found


def _png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The kind and content of each chunk of a PNG file; pixels, and chunks that are too long, are not read."""
    stream.seek(8)
    for _ in range(MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        skipped = kind in (b"IDAT", b"fdAT") or length > MOST_BYTES
        data = b"" if skipped else stream.read(length)
        stream.seek(length + 4 if skipped else 4, 1)
        yield kind, data


_LOOKS: dict[str, Callable[[Image.Image, BinaryIO], Described]] = {
    "PNG": _png,
    "AVIF": _iso,
    "HEIF": _iso,
    "JPEG2000": _iso,
    "TIFF": _tiff,
}
