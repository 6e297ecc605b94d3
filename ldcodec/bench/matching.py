"""Pictures for the report: each one through every codec at the same number of bits, encoded for a browser."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image, features

from ldcodec.bench.catalogue import OwnOptions
from ldcodec.bench.catalogue import codec as codec_named
from ldcodec.bench.codecs import Codec
from ldcodec.bench.measurement import Passage, passage
from ldcodec.bench.metrics import psnr, squared_error
from ldcodec.bench.rows import Row
from ldcodec.bench.sweep import Setup, processes
from ldcodec.bench.testset import Source, read
from ldcodec.pictures.picture import Pixels

SHOWN_PIXELS = 1_000_000  # of a larger picture the report shows the middle, unscaled
CLOSE = 0.03  # relative: a match that misses the bits by no more gets no second try


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


def side_by_side(
    sources: list[Source], codecs: list[Codec], rows: list[Row], bpp: float, setup: Setup
) -> Iterator[SideBySide]:
    """Each picture through every codec at about `bpp` bits per pixel; the others match the bits of the first codec."""
    names = [codec.name for codec in codecs]
    work = partial(_through_codecs, names=names, options=setup.own, bpp=bpp)
    rows_of = [[row for row in rows if row.picture == source.name] for source in sources]
    if setup.jobs == 1:
        yield from map(work, sources, rows_of)
        return
    with processes(setup) as executor:
        yield from executor.map(work, sources, rows_of)


def _through_codecs(source: Source, rows: list[Row], names: list[str], options: OwnOptions, bpp: float) -> SideBySide:
    pixels = read(source.path)
    view = _middle(pixels)
    shown = [Shown("original", None, None, *for_browser(view))]
    target = bpp
    for name in names:
        points = [(row.bpp, row.setting) for row in rows if row.codec == name]
        if not points:
            continue
        through = matched(codec_named(name, options), pixels, points, target)
        reached = 8 * through.file_bytes / (pixels.shape[0] * pixels.shape[1])
        quality = psnr(squared_error(pixels, through.decoded))
        shown.append(Shown(name, reached, quality, *for_browser(_middle(through.decoded))))
        target = shown[1].bpp or bpp
    return SideBySide(source.name, view.shape[1], view.shape[0], tuple(shown))


def matched(codec: Codec, pixels: Pixels, points: Sequence[tuple[float, float]], bpp: float) -> Passage:
    """Pass a picture through a codec at the setting whose file comes closest to `bpp` bits per pixel.

    points: (bpp, setting) pairs already measured on this picture. A first try that misses by more than CLOSE joins them
    for a second one.
    """
    known = sorted(points)
    best: tuple[float, Passage] | None = None
    for _ in range(2):
        setting = setting_at(known, bpp, codec.whole)
        through = passage(codec, pixels, setting)
        reached = 8 * through.file_bytes / (pixels.shape[0] * pixels.shape[1])
        miss = abs(math.log(reached / bpp))
        best = min(best, (miss, through), key=lambda pair: pair[0]) if best else (miss, through)
        again = (reached, setting) in known
        known = sorted({*known, (reached, setting)})
        if miss <= CLOSE or again:
            break
    return best[1]  # type: ignore[index]


def setting_at(points: Sequence[tuple[float, float]], bpp: float, whole: bool = False) -> float:
    """The setting at `bpp`, interpolated linearly over log bpp between (bpp, setting) pairs of rising bpp.

    Beyond the pairs it is that of the nearest one.
    """
    import numpy as np

    bits, settings = zip(*points, strict=True)
    setting = float(np.interp(math.log(bpp), [math.log(b) for b in bits], settings))
    return round(setting) if whole else setting


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
