"""What a page shows of a file: its picture with every choice of settings, the original, the map of bits."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import PIXELS, Area, meeting
from ldcodec.decoder.bitmap import Bits, expense_of, per_pixel
from ldcodec.decoder.request import View
from ldcodec.decoder.restore import restore_each
from ldcodec.decoder.reverse import DecoderModel, DecodeSettings
from ldcodec.decoder.stored import exact_picture
from ldcodec.errors import UsageError
from ldcodec.pictures.picture import Picture
from ldcodec.pictures.write import to_image

REALISMS = (0.0, 0.5, 1.0)
STEPS = (1, 4)
SHOWN_PIXELS = 1 << 22  # of a page's picture at most: larger ones are reduced
SHOWN_SIDE = 16383  # WebP's limit

OnRendering = Callable[[], object]
Made = tuple[float | None, int | None]  # realism and steps


@dataclass(frozen=True)
class Rendering:
    """One picture of a file as a page shows it, and its PSNR in dB against the original, if there is one.

    realism and steps are those it was made with; None for a picture stored without loss.
    """

    image: Image.Image
    psnr: float | None
    realism: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class BitMap:
    """Bits a pixel of the squares of a grid whose first one begins `left` and `top` pixels before the shown picture.

    cell: the squares' side in shown pixels; hyper: the share 0..1 of the hyper-latent in the bits of the slices here.
    """

    values: Bits
    left: float
    top: float
    cell: int
    hyper: float


@dataclass(frozen=True)
class Exhibit:
    """All that a page shows of a file. factor: by how much the picture was reduced, 1 for every pixel."""

    renderings: tuple[Rendering, ...]
    original: Image.Image | None
    bits: BitMap | None
    factor: int


def reduction(width: int, height: int) -> int:
    """By what whole number a picture's sides are divided for a page, 1 where it fits."""
    area = math.isqrt(max(0, width * height - 1) // SHOWN_PIXELS) + 1
    return max(area, -(-max(width, height) // SHOWN_SIDE))


def exhibit_of(
    source: Reader, model: DecoderModel | None, view: View, original: Picture | None, done: OnRendering | None = None
) -> Exhibit:
    """A file's exhibit. model: the one it needs, None for a file without loss; view: the whole or a region; done:
    called after each rendering.

    A picture that must be reduced is rendered with the default settings alone, others with all of REALISMS and STEPS.
    Raises UsageError for an original of another size, DamagedError and ModelError as `restore`.
    """
    header = source.header
    part = None if original is None else _part(original, view, header)
    area = view.area(header)
    size = (header.width, header.height) if area is None else (area.right - area.left, area.bottom - area.top)
    factor = reduction(*size)
    shown = []
    for picture, settings in _pictures(source, model, view, factor):
        psnr = None if part is None else psnr_of(picture, part)
        shown.append(Rendering(_reduced(picture, factor), psnr, *settings))
        if done is not None:
            done()
    bits = None if model is None else _bit_map(source, model, view, factor)
    return Exhibit(tuple(shown), None if part is None else _reduced(part, factor), bits, factor)


def choices(factor: int) -> list[DecodeSettings]:
    """The settings a picture that is reduced by a factor is rendered with."""
    if factor > 1:
        return [DecodeSettings(1)]
    return [DecodeSettings(steps, realism) for steps in STEPS for realism in REALISMS]


def psnr_of(picture: Picture, original: Picture) -> float | None:
    """PSNR in dB of a picture against one of its size; None where alpha hides some of it, only one of them is grey, or
    nothing differs.
    """
    if picture.alpha is not None or original.alpha is not None or picture.grey != original.grey:
        return None
    difference = picture.pixels.astype(np.float32) - original.pixels
    error = float(np.square(difference).mean(dtype=np.float64))
    return 10 * math.log10(255**2 / error) if error else None


def _pictures(source: Reader, model: DecoderModel | None, view: View, factor: int) -> Iterator[tuple[Picture, Made]]:
    if model is None:
        yield exact_picture(source, view), (None, None)
        return
    wanted = choices(factor)
    for settings, picture in zip(wanted, restore_each(source, model, wanted, view), strict=True):
        yield picture, (settings.realism, settings.steps)


def _part(picture: Picture, view: View, header: Header) -> Picture:
    if (picture.width, picture.height) != (header.width, header.height):
        sizes = f"{picture.width}x{picture.height} pixels, the file has {header.width}x{header.height}"
        raise UsageError(f"the original has {sizes}")
    alpha = picture.alpha if picture.alpha is None else view.shown(picture.alpha)
    return replace(picture, pixels=view.shown(picture.pixels), alpha=alpha)


def _reduced(picture: Picture, factor: int) -> Image.Image:
    image = to_image(picture)
    return image.reduce(factor) if factor > 1 else image


def _bit_map(source: Reader, model: DecoderModel, view: View, factor: int) -> BitMap:
    """The grid begins with the block that holds the first pixel shown."""
    height, width = source.header.height, source.header.width
    area = view.area(source.header) or Area(0, height, 0, width)
    top, bottom, left, right = (edge // PIXELS for edge in (area.top, area.bottom + 15, area.left, area.right + 15))
    spent = expense_of(source, model, meeting(source.spans, top, bottom))
    size = min(width, right * PIXELS) - left * PIXELS, min(height, bottom * PIXELS) - top * PIXELS
    values = per_pixel(spent.total[top:bottom, left:right], *size, factor)
    share = float(spent.hyper.sum() / max(spent.total.sum(), 1e-9))
    return BitMap(values, (area.left - left * PIXELS) / factor, (area.top - top * PIXELS) / factor, PIXELS, share)
