"""Pages of TIFF files. Pillow counts them by setting each up, which fails for all where it does not know one."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ldcodec.errors import PictureError

MOST_PAGES = 100_000


def beginning_with(stream: BinaryIO, page: int) -> BinaryIO:
    """A copy of a TIFF file, which is at its beginning, in which a page, counted from 1, is the first.

    Raises PictureError if there is no such page.
    """
    places = list(_places(stream))
    if page > len(places):
        raise PictureError(f"there is no picture number {page}; the file holds {len(places)}")
    stream.seek(0)
    data = bytearray(stream.read())
    order, big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    struct.pack_into(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4, places[page - 1])
    return io.BytesIO(data)


def _places(stream: BinaryIO) -> Iterator[int]:
    """Where the directory of each page stands; damage, and a directory that was there before, end the search."""
    header = stream.read(8)
    header += stream.read(8) if b"+" in header[2:4] else b""  # the mark of BigTIFF
    tags, seen = ImageFileDirectory_v2(header), set[int]()
    while tags.next and tags.next not in seen and len(seen) < MOST_PAGES:
        seen.add(tags.next)
        yield tags.next
        stream.seek(tags.next)
        try:
            tags.load(stream)
        except Exception:  # on a damaged directory Pillow raises almost anything
            return
