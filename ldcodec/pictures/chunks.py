"""Pictures as chunks of a file: metadata and alpha that accompany coded pixels, or a whole lossless picture."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ldcodec.bitstream import chunktypes, container, layout
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Slice
from ldcodec.errors import DamagedError
from ldcodec.pictures import codepoints, patches, planes, squares
from ldcodec.pictures.codepoints import CodePoints
from ldcodec.pictures.guard import warn
from ldcodec.pictures.notes import Notes
from ldcodec.pictures.patches import Mask, Patches
from ldcodec.pictures.picture import Picture, Pixels, scaled, white_at, white_of

Content = TypeVar("Content")

SQUARE_SIDE = 64  # pixels: side of the squares that `may_beat` codes as a sample
SQUARE_COUNT = 4  # squares in each direction
SAMPLE_HEADER = 50  # bytes of a WebP file that do not grow with the picture
GAIN = 0.5  # a whole picture may take this share of what its sample predicts: more context and a higher effort


def pack(picture: Picture) -> tuple[Chunk, ...]:
    """The chunks for those of profile, metadata and alpha that a picture has.

    Raises PictureError for an alpha plane with more pixels than `planes.readable` allows.
    """
    notes = picture.notes
    texts = {
        chunktypes.ICC: picture.icc,
        chunktypes.EXIF: picture.exif,
        chunktypes.XMP: picture.xmp,
        chunktypes.IPTC: notes.iptc,
    }
    found = [Chunk(kind, chunktypes.pack(text)) for kind, text in texts.items() if text is not None]
    if notes.texts:
        found.append(Chunk(chunktypes.TEXTS, chunktypes.pack_texts(notes.texts)))
    if notes.resolution is not None:
        found.append(Chunk(chunktypes.RESOLUTION, chunktypes.pack_resolution(notes.resolution)))
    if picture.alpha is not None:
        found.append(Chunk(chunktypes.ALPHA, planes.packed(picture.alpha)))
    if picture.bright is not None:
        found.append(Chunk(chunktypes.BRIGHT, codepoints.pack(picture.bright)))
    return tuple(found)


def unpack(pixels: Pixels, plane: Pixels | None, source: Container) -> Picture:
    """Join decoded pixels (H, W, 3) or (H, W) and an alpha plane (H, W) with the metadata of their file.

    Metadata that cannot be read is left out with an LdcodecWarning.
    """
    kinds = (chunktypes.ICC, chunktypes.EXIF, chunktypes.XMP, chunktypes.IPTC)
    icc, exif, xmp, iptc = (_unpacked(source, kind, chunktypes.unpack) for kind in kinds)
    texts = _unpacked(source, chunktypes.TEXTS, chunktypes.unpack_texts) or ()
    resolution = _unpacked(source, chunktypes.RESOLUTION, chunktypes.unpack_resolution)
    notes = Notes(iptc, texts, resolution)
    return Picture(pixels, plane, icc, exif, xmp, notes, source.header.depth, bright(source))


def bright(source: Container) -> CodePoints | None:
    """The code points of a file with PQ or HLG, None for others. Raises DamagedError."""
    data = source.chunk(chunktypes.BRIGHT)
    points = None if data is None else codepoints.unpack(data)
    if data is not None and (points is None or source.header.depth == 8):
        raise DamagedError(f"chunk {chunktypes.BRIGHT} names no colours that it may")
    return points


def alpha(source: Container) -> Pixels | None:
    """The alpha plane of a file, (H, W) in the type of its depth, or None for an opaque one. Raises DamagedError."""
    data = source.chunk(chunktypes.ALPHA)
    if data is None:
        return None
    try:
        return planes.unpacked(data, _size(source.header), True, source.header.depth)
    except DamagedError as error:
        raise DamagedError(f"chunk {chunktypes.ALPHA}: {error}") from error


def patches_of(source: Container, grey: bool) -> Patches | None:
    """The patches of a file, or None if it has none. grey: whether the picture is drawn grey. Raises DamagedError."""
    data = source.chunk(chunktypes.PATCHES)
    return None if data is None else patches.unpacked(data, _size(source.header), grey, source.header.depth)


def drafted_of(source: Container) -> Mask | None:
    """Which squares of a picture are drawn as in a draft (`pictures.squares`), None for none. Raises DamagedError."""
    data = source.chunk(chunktypes.DRAFTED)
    return None if data is None else squares.unpacked(data, _size(source.header))


def lossless(picture: Picture) -> Container:
    """A file that stores every pixel exactly, including the colours of transparent pixels.

    Raises PictureError for a picture with more pixels than `planes.readable` allows.
    """
    size, largest = (picture.width, picture.height), (1 << picture.depth) - 1
    exact = scaled(picture.pixels, white_of(picture.pixels), largest)
    fits = planes.fits_webp(exact)
    whole = Chunk(chunktypes.WEBP if fits else chunktypes.PNG, (planes.webp if fits else planes.png)(exact))
    header = Header(*size, 0, picture.grey, chunktypes.NO_MODEL, depth=picture.depth)
    return Container(header, (Slice(layout.latent_size(*size)[0], b"", 0),), (*pack(picture), whole))


def lossless_pixels(source: Container) -> Pixels:
    """The pixels of a lossless file, (H, W, 3) or (H, W) in the type of its depth. Raises DamagedError."""
    depth = source.header.depth
    read_png = planes.read_png if depth == 8 else planes.read_deep_png
    for kind, read in ((chunktypes.WEBP, planes.read_webp), (chunktypes.PNG, read_png)):
        data = source.chunk(kind)
        if data is not None:
            try:
                exact = read(data, _size(source.header), source.header.grey)
                return scaled(exact, (1 << depth) - 1, white_at(depth))
            except DamagedError as error:
                raise DamagedError(f"chunk {kind}: {error}") from error
    raise DamagedError("the file holds no lossless picture")


def smaller_lossless(picture: Picture, payload: int, size: int) -> bytes | None:
    """The picture as the bytes of a lossless file if that is smaller than its coded file, else None.

    payload: bytes of the coded slices; size: of the whole coded file.
    """
    promising = planes.readable(picture.width, picture.height) and may_beat(picture.pixels, payload)
    exact = visible_lossless(picture) if promising else None
    return exact if exact is not None and len(exact) < size else None


def visible_lossless(picture: Picture) -> bytes | None:
    """The picture as the bytes of a lossless file, None if it has too many pixels for one.

    Fully transparent pixels become black in it, as a coded file does not keep their colours either.
    """
    readable = planes.readable(picture.width, picture.height)
    return container.write(lossless(_blackened(picture))) if readable else None


def may_beat(pixels: Pixels, size: int) -> bool:
    """Whether lossless coding might take fewer than `size` bytes, judged within milliseconds from a sample."""
    sample = _sample(pixels)
    share = pixels.shape[0] * pixels.shape[1] / (sample.shape[0] * sample.shape[1])
    if sample.dtype == np.uint8:
        least = len(planes.webp(sample, method=0, quality=0)) - SAMPLE_HEADER
    else:
        least = len(planes.png(sample))
    return bool(least * share * GAIN < size)


def size_problem(chunk: Chunk, size: tuple[int, int]) -> str | None:
    """What is wrong with the (width, height) that a chunk of pixels or squares claims in a file of `size`, or None.

    Of pixels only the first bytes are read. Chunks of other kinds have no size and pass.
    """
    examine = {
        chunktypes.ALPHA: planes.size_problem,
        chunktypes.PATCHES: patches.size_problem,
        chunktypes.DRAFTED: squares.size_problem,
        chunktypes.WEBP: planes.webp_problem,
        chunktypes.PNG: planes.png_problem,
    }.get(chunk.kind)
    return None if examine is None else examine(chunk.data, size)


def _unpacked(source: Container, kind: str, unpack: Callable[[bytes], Content | None]) -> Content | None:
    data = source.chunk(kind)
    content = None if data is None else unpack(data)
    if data is not None and content is None:
        warn(f"chunk {kind} cannot be read and is left out")
    return content


def _size(header: Header) -> tuple[int, int]:
    return header.width, header.height


def _sample(pixels: Pixels) -> Pixels:
    """A small picture as it is; of a larger one, squares spread evenly over it, joined. (H, W, 3) or (H, W)."""
    height, width = pixels.shape[:2]
    rows, columns = (_picked(length) for length in (height, width))
    return np.ascontiguousarray(pixels[rows][:, columns])


def _picked(length: int) -> slice | np.ndarray[tuple[int], np.dtype[np.intp]]:
    if length <= SQUARE_SIDE * SQUARE_COUNT:
        return slice(None)
    starts = np.linspace(0, length - SQUARE_SIDE, SQUARE_COUNT).astype(np.intp)
    return (starts[:, None] + np.arange(SQUARE_SIDE)).ravel()


def _blackened(picture: Picture) -> Picture:
    if picture.alpha is None:
        return picture
    shown = picture.alpha > 0
    return replace(picture, pixels=picture.pixels * (shown if picture.grey else shown[:, :, None]))
