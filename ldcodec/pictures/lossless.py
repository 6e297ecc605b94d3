"""Pictures in a file without a latent: `--lossless`, and what stands in where the codec would need more bytes."""

from dataclasses import replace

import numpy as np

from ldcodec.bitstream import chunktypes, container, layout
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Slice
from ldcodec.errors import DamagedError
from ldcodec.pictures import chunks, planes
from ldcodec.pictures.picture import Picture, Pixels

SAMPLE_SIDE = 64  # of the squares that `promising` codes
SAMPLE_COUNT = 4  # of them in each direction
SAMPLE_HEADER = 50  # bytes of a WebP file that do not grow with its picture
GAIN = 0.5  # the whole may code this much better than its sample: more to refer to, and more effort


def store(picture: Picture) -> Container:
    """A file that holds every pixel exactly, the colours under transparency too.

    Raises PictureError for more pixels than `planes.readable` allows.
    """
    size = picture.width, picture.height
    fits = planes.fits_webp(picture.pixels)
    whole = Chunk(chunktypes.WEBP if fits else chunktypes.PNG, (planes.webp if fits else planes.png)(picture.pixels))
    header = Header(*size, 0, picture.grey, chunktypes.NO_MODEL)
    return Container(header, (Slice(layout.latent_size(*size)[0], b"", 0),), (*chunks.pack(picture), whole))


def restore(source: Container) -> Pixels:
    """The pixels that `store` was given, uint8 (H, W, 3) or (H, W). Raises DamagedError."""
    header = source.header
    for kind, read in ((chunktypes.WEBP, planes.read_webp), (chunktypes.PNG, planes.read_png)):
        data = source.chunk(kind)
        if data is not None:
            try:
                return read(data, (header.width, header.height), header.grey)
            except DamagedError as error:
                raise DamagedError(f"chunk {kind}: {error}") from error
    raise DamagedError("the file holds no picture without loss")


def smaller(picture: Picture, coded: Container) -> Container | None:
    """The picture without loss, if that takes fewer bytes than its coded form; what alpha hides is black there."""
    if not planes.readable(picture.width, picture.height):
        return None
    if not promising(picture.pixels, sum(len(piece.payload) for piece in coded.slices)):
        return None
    exact = store(_blackened(picture))
    return exact if len(container.write(exact)) < len(container.write(coded)) else None


def promising(pixels: Pixels, size: int) -> bool:
    """Whether lossless coding might need less than `size` bytes, judged in milliseconds from squares of the picture."""
    sample = _sample(pixels)
    share = pixels.shape[0] * pixels.shape[1] / (sample.shape[0] * sample.shape[1])
    return bool((len(planes.webp(sample, method=0, quality=0)) - SAMPLE_HEADER) * share * GAIN < size)


def _sample(pixels: Pixels) -> Pixels:
    """The picture itself if it is small, else squares spread over it, put together: (H, W, 3) or (H, W)."""
    height, width = pixels.shape[:2]
    rows, columns = (_picked(length) for length in (height, width))
    return np.ascontiguousarray(pixels[rows][:, columns])


def _picked(length: int) -> slice | np.ndarray[tuple[int], np.dtype[np.intp]]:
    if length <= SAMPLE_SIDE * SAMPLE_COUNT:
        return slice(None)
    starts = np.linspace(0, length - SAMPLE_SIDE, SAMPLE_COUNT).astype(np.intp)
    return (starts[:, None] + np.arange(SAMPLE_SIDE)).ravel()


def _blackened(picture: Picture) -> Picture:
    if picture.alpha is None:
        return picture
    shown = picture.alpha > 0
    return replace(picture, pixels=picture.pixels * (shown if picture.grey else shown[:, :, None]))
