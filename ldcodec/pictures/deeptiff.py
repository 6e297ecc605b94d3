"""TIFF of 16 bits a sample, of which Pillow writes no colours: the pixels are coded here, the tags by Pillow."""

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ldcodec.pictures.exif import DIRECTORIES
from ldcodec.pictures.notes import ICC
from ldcodec.pictures.picture import Pixels

STRIP = 1 << 18  # samples of a strip, about
LEVEL = 6  # of zlib, as libtiff has it
SAMPLES_PER_PIXEL, EXTRA_SAMPLES, PREDICTOR = 277, 338, 317
DEFLATE, DIFFERENCES, INCHES, BLACK_IS_ZERO, RGB, UNASSOCIATED = 8, 2, 2, 1, 2, 2


def write(
    pixels: Pixels, target: BinaryIO, tags: Image.Exif, icc: bytes | None, resolution: tuple[float, float] | None
) -> None:
    """Write uint16 (H, W) or (H, W, 2 to 4), alpha last, with tags beside those that say how it is coded.

    icc: a profile; resolution: pixels per inch, across and down.
    """
    height, width = pixels.shape[:2]
    planes = pixels.reshape(height, width, -1)
    rows = max(1, STRIP // planes[0].size)
    strips = list(_strips(planes, rows))
    channels = planes.shape[2]
    directory = ImageFileDirectory_v2(prefix=b"II")
    described: dict[int, Any] = {tag: tags.get_ifd(tag) if tag in DIRECTORIES else tags[tag] for tag in tags}
    described |= {
        ExifTags.Base.ImageWidth: width,
        ExifTags.Base.ImageLength: height,
        ExifTags.Base.BitsPerSample: (16,) * channels,
        ExifTags.Base.Compression: DEFLATE,
        ExifTags.Base.PhotometricInterpretation: RGB if channels > 2 else BLACK_IS_ZERO,
        ExifTags.Base.StripOffsets: tuple(np.cumsum([0, *map(len, strips[:-1])]).tolist()),  # made absolute by Pillow
        SAMPLES_PER_PIXEL: channels,
        ExifTags.Base.RowsPerStrip: rows,
        ExifTags.Base.StripByteCounts: tuple(map(len, strips)),
        PREDICTOR: DIFFERENCES,
    }
    described |= {EXTRA_SAMPLES: UNASSOCIATED} if channels in (2, 4) else {}
    described |= {ICC: icc} if icc is not None else {}
    if resolution is not None:
        described |= {ExifTags.Base.ResolutionUnit: INCHES}
        described |= {ExifTags.Base.XResolution: resolution[0], ExifTags.Base.YResolution: resolution[1]}
    for tag, value in described.items():
        directory[tag] = value
    directory.save(target)
    for strip in strips:
        target.write(strip)


def _strips(planes: Pixels, rows: int) -> Iterator[bytes]:
    """Strips of rows, each deflated as differences from the pixel to the left."""
    for top in range(0, len(planes), rows):
        strip = planes[top : top + rows].astype("<u2")
        strip[:, 1:] -= planes[top : top + rows, :-1]
        yield zlib.compress(strip.tobytes(), LEVEL)
