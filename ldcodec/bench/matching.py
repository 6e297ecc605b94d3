"""Pictures for the report: each one through every codec within the same bytes, encoded for a browser."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from PIL import Image, features

from ldcodec.bench.catalogue import OwnOptions
from ldcodec.bench.catalogue import codec as codec_named
from ldcodec.bench.measurement import passage
from ldcodec.bench.rows import Row
from ldcodec.bench.sweep import Sweep, processes
from ldcodec.bench.testset import Source, read
from ldcodec.pictures.picture import Pixels

SHOWN_PIXELS = 1_000_000  # of a larger picture the report shows the middle, unscaled


@dataclass(frozen=True)
class Shown:
    """A picture as one codec returns it; codec "original" is the picture itself, without bpp and psnr.

    bpp and psnr: of the whole picture; data: a visually lossless file for browsers, of MIME type `mime`.
    """

    codec: str
    bpp: float | None
    psnr: float | None
    mime: str
    data: bytes


@dataclass(frozen=True)
class SideBySide:
    """A picture and what each codec makes of it; width and height in pixels, of the part that is shown."""

    picture: str
    width: int
    height: int
    shown: tuple[Shown, ...]


def side_by_side(sweep: Sweep) -> Iterator[SideBySide]:
    """Each picture of a finished sweep through every codec, at the settings that fit the fewest bits it compares at."""
    setup, names = sweep.setup, [codec.name for codec in sweep.codecs]
    rows = [row for row in sweep.held() if row.limit == min(setup.limits)]
    rows_of = [[r for n in names for r in rows if (r.picture, r.codec) == (s.name, n)] for s in sweep.sources]
    work = partial(_through_codecs, options=setup.own)
    if setup.jobs == 1:
        yield from map(work, sweep.sources, rows_of)
        return
    with processes(setup) as executor:
        yield from executor.map(work, sweep.sources, rows_of)


def _through_codecs(source: Source, rows: list[Row], options: OwnOptions) -> SideBySide:
    pixels = read(source.path)
    view = _middle(pixels)
    shown = [Shown("original", None, None, *for_browser(view))]
    for row in rows:
        decoded = passage(codec_named(row.codec, options), pixels, row.setting).decoded
        shown.append(Shown(row.codec, row.bpp, row.psnr, *for_browser(_middle(decoded))))
    return SideBySide(source.name, view.shape[1], view.shape[0], tuple(shown))


def _middle(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    if height * width <= SHOWN_PIXELS:
        return pixels
    shrink = math.sqrt(SHOWN_PIXELS / (height * width))
    h, w = int(height * shrink), int(width * shrink)
    top, left = (height - h) // 2, (width - w) // 2
    return pixels[top : top + h, left : left + w]


def for_browser(pixels: Pixels) -> tuple[str, bytes]:
    """The MIME type and bytes of a picture for browsers: visually lossless AVIF 4:4:4, a fraction of a lossless file.

    Lossless WebP if Pillow was built without AVIF.
    """
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if features.check("avif"):
        image.save(file, "AVIF", quality=90, speed=8, subsampling="4:4:4", max_threads=1)
        return "image/avif", file.getvalue()
    image.save(file, "WEBP", lossless=True)
    return "image/webp", file.getvalue()
