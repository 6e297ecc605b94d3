"""What a page shows of a file: its picture with several settings, the original, and the map of bits."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from PIL import Image

from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.quality import psnr
from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import PIXELS, Area, meeting
from ldcodec.decoder.bitmap import Bits, block_bits, per_pixel
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.decoder.restore import restore_each
from ldcodec.errors import UsageError
from ldcodec.pictures.picture import Picture, total_error
from ldcodec.pictures.planes import WEBP_SIDE
from ldcodec.pictures.write import to_image

REALISMS = (0.0, 0.5, 1.0)
STEPS = (1, 4)
SHOWN_PIXELS = 1 << 22  # larger pictures are reduced

OnRendering = Callable[[], object]
Made = tuple[float | None, int | None]  # realism and steps, None for a lossless picture


@dataclass(frozen=True)
class Rendering:
    """A picture of the file as the page shows it.

    psnr: in dB against the original, None without one; realism, steps: its settings, None for a lossless picture.
    """

    image: Image.Image
    psnr: float | None
    realism: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class BitMap:
    """Bits per pixel on a grid of squares; the first one begins `left` and `top` pixels outside the shown picture.

    values: float [rows, columns]; cell: side of the squares in shown pixels; hyper: the hyper-latent's share of the
    bits, 0..1.
    """

    values: Bits
    left: float
    top: float
    cell: int
    hyper: float


@dataclass(frozen=True)
class PageContent:
    """All that a page shows of a file; factor: by how much its pictures were reduced, 1 for not at all."""

    renderings: tuple[Rendering, ...]
    original: Image.Image | None
    bits: BitMap | None
    factor: int


def reduction(width: int, height: int) -> int:
    """The whole number by which the sides of a picture are divided to fit a page, 1 if it does."""
    area = math.isqrt(max(0, width * height - 1) // SHOWN_PIXELS) + 1
    return max(area, -(-max(width, height) // WEBP_SIDE))


def content_of(
    source: Reader, model: DecoderModel | None, view: Request, original: Picture | None, done: OnRendering | None = None
) -> PageContent:
    """Render what a page shows of a file, with all of REALISMS and STEPS unless the picture must be reduced.

    model: the one the file needs, None for a lossless file; view: the whole picture or a region; done: called after
    each rendering. Raises UsageError for an original of another size, DamagedError and ModelError as `restore`.
    """
    header = source.header
    part = None if original is None else _part(original, view, header)
    area = view.area(header)
    size = (header.width, header.height) if area is None else (area.right - area.left, area.bottom - area.top)
    factor = reduction(*size)
    shown = []
    for picture, settings in _pictures(source, model, view, factor):
        match = None if part is None else psnr_of(picture, part)
        shown.append(Rendering(_reduced(picture, factor), match, *settings))
        if done is not None:
            done()
    bits = None if model is None else _bit_map(source, model, view, factor)
    return PageContent(tuple(shown), None if part is None else _reduced(part, factor), bits, factor)


def choices(factor: int) -> list[DecodeSettings]:
    """The settings to render; only the default ones for a picture that is reduced."""
    if factor > 1:
        return [DecodeSettings(1)]
    return [DecodeSettings(steps, realism) for steps in STEPS for realism in REALISMS]


def psnr_of(picture: Picture, original: Picture) -> float | None:
    """PSNR in dB against an original of the same size; None if nothing differs.

    None too with alpha, and where only one is grey or only one has high dynamic range.
    """
    if picture.alpha is not None or original.alpha is not None or picture.grey != original.grey:
        return None
    if picture.bright != original.bright:
        return None
    error = total_error(picture.pixels, original.pixels) / original.pixels.size
    return psnr(error) if error else None


def _pictures(source: Reader, model: DecoderModel | None, view: Request, factor: int) -> Iterator[tuple[Picture, Made]]:
    if model is None:
        yield next(restore_each(source, None, [], view)), (None, None)
        return
    wanted = choices(factor)
    for settings, picture in zip(wanted, restore_each(source, model, wanted, view), strict=True):
        yield picture, (settings.realism, settings.steps)


def _part(picture: Picture, view: Request, header: Header) -> Picture:
    if (picture.width, picture.height) != (header.width, header.height):
        sizes = f"{picture.width}x{picture.height} pixels, the file has {header.width}x{header.height}"
        raise UsageError(f"the original has {sizes}")
    alpha = picture.alpha if picture.alpha is None else view.cut(picture.alpha)
    return replace(picture, pixels=view.cut(picture.pixels), alpha=alpha)


def _reduced(picture: Picture, factor: int) -> Image.Image:
    image = to_image(picture, deep=False)  # as browsers show it
    return image.reduce(factor) if factor > 1 else image


def _bit_map(source: Reader, model: DecoderModel, view: Request, factor: int) -> BitMap:
    """The grid begins with the latent position of the first shown pixel."""
    height, width = source.header.height, source.header.width
    area = view.area(source.header) or Area(0, height, 0, width)
    top, bottom, left, right = (edge // PIXELS for edge in (area.top, area.bottom + 15, area.left, area.right + 15))
    spent = block_bits(source, model, meeting(source.spans, top, bottom))
    size = min(width, right * PIXELS) - left * PIXELS, min(height, bottom * PIXELS) - top * PIXELS
    values = per_pixel(spent.total[top:bottom, left:right], *size, factor)
    share = float(spent.hyper.sum() / max(spent.total.sum(), 1e-9))
    return BitMap(values, (area.left - left * PIXELS) / factor, (area.top - top * PIXELS) / factor, PIXELS, share)
