"""Pictures for the eye: one picture through every codec at the same number of bits, coded for a browser."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image, features

from ldcodec.bench.catalogue import codec as codec_named
from ldcodec.bench.codecs import Codec
from ldcodec.bench.measurement import Passage, passage
from ldcodec.bench.metrics import psnr, squared_error
from ldcodec.bench.rows import Row
from ldcodec.bench.subject import Subject
from ldcodec.bench.sweep import Way, processes
from ldcodec.bench.testset import Source, read
from ldcodec.pictures.picture import Pixels

LARGEST = 1_000_000  # pixels shown of a picture: the middle of a larger one, unscaled
CLOSE = 0.03  # share of the bits by which a match may miss without a second try


@dataclass(frozen=True)
class Shown:
    """A picture as one codec gives it back; codec: "original" for the picture itself, which has no bits.

    data: a file for browsers, of kind `mime`, that looks like the exact pixels; bpp and psnr: of the whole picture.
    """

    codec: str
    bpp: float | None
    psnr: float | None
    mime: str
    data: bytes


@dataclass(frozen=True)
class Exhibit:
    """A picture and what each codec makes of it; width and height: of what is shown."""

    picture: str
    width: int
    height: int
    shown: tuple[Shown, ...]


def exhibits(sources: list[Source], codecs: list[Codec], rows: list[Row], bpp: float, way: Way) -> Iterator[Exhibit]:
    """An exhibit for each picture at about `bpp` bits a pixel: the first codec sets the bits, the others match them."""
    names = [codec.name for codec in codecs]
    work = partial(_exhibit, names=names, subject=way.subject, bpp=bpp)
    own = [[row for row in rows if row.picture == source.name] for source in sources]
    if way.jobs == 1:
        yield from map(work, sources, own)
        return
    with processes(way) as executor:
        yield from executor.map(work, sources, own)


def _exhibit(source: Source, rows: list[Row], names: list[str], subject: Subject, bpp: float) -> Exhibit:
    pixels = read(source.path)
    view = _middle(pixels)
    shown = [Shown("original", None, None, *for_browser(view))]
    target = bpp
    for name in names:
        points = [(row.bpp, row.setting) for row in rows if row.codec == name]
        if not points:
            continue
        through = matched(codec_named(name, subject), pixels, points, target)
        reached = 8 * through.file_bytes / (pixels.shape[0] * pixels.shape[1])
        quality = psnr(squared_error(pixels, through.decoded))
        shown.append(Shown(name, reached, quality, *for_browser(_middle(through.decoded))))
        target = shown[1].bpp or bpp
    return Exhibit(source.name, view.shape[1], view.shape[0], tuple(shown))


def matched(codec: Codec, pixels: Pixels, points: Sequence[tuple[float, float]], bpp: float) -> Passage:
    """A picture through a codec at the setting whose file comes closest to `bpp` bits a pixel.

    points: (bpp, setting) pairs already measured on this picture; a try that misses by more than CLOSE corrects them.
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
    """The setting at `bpp`, by straight lines over log bpp between (bpp, setting) pairs of rising bpp; the nearest end
    outside them.
    """
    import numpy as np

    bits, settings = zip(*points, strict=True)
    setting = float(np.interp(math.log(bpp), [math.log(b) for b in bits], settings))
    return round(setting) if whole else setting


def _middle(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    if height * width <= LARGEST:
        return pixels
    shrink = math.sqrt(LARGEST / (height * width))
    h, w = int(height * shrink), int(width * shrink)
    top, left = (height - h) // 2, (width - w) // 2
    return pixels[top : top + h, left : left + w]


def for_browser(pixels: Pixels) -> tuple[str, bytes]:
    """MIME type and bytes of a picture that browsers show: AVIF 4:4:4 at a quality that hides its own errors, which is
    a fraction of a lossless file; lossless WebP where Pillow has no AVIF.
    """
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if features.check("avif"):
        image.save(file, "AVIF", quality=90, speed=8, subsampling="4:4:4", max_threads=1)
        return "image/avif", file.getvalue()
    image.save(file, "WEBP", lossless=True)
    return "image/webp", file.getvalue()
