"""TIFF files of kinds that Pillow does not decode: floats, planes of 16 bits, 9 to 15 bits, grey with alpha.

tifffile reads their samples; tags, profile and metadata come from Pillow as for other files.
"""

import io
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from ldcodec.errors import PictureError
from ldcodec.pictures.exif import ORIENTATION
from ldcodec.pictures.guard import warn
from ldcodec.pictures.notes import ICC

PHOTOMETRIC, BITS, SAMPLES_PER_PIXEL, PLANES, EXTRA_SAMPLES, SAMPLE_FORMAT = 262, 258, 277, 284, 338, 339  # tags
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha, by which colours have been multiplied or not
INTEGERS, FLOATS = 1, 3
INCHES, CENTIMETRES = 2, 3
MOST_PIXELS = 1500  # that a byte of a file can hold: LZW reaches 1365 bytes, deflate 1032
BEYOND = 0.01  # the share of floats that may lie outside 0..1 and be clipped


def is_odd(tags: ImageFileDirectory_v2) -> bool:
    """Whether a TIFF file has tags of one of these kinds."""
    bits, formats = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (INTEGERS,)))
    if len(bits) != 1 or tags.get(PHOTOMETRIC) not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        return False
    depth, colours = bits.pop(), 3 if tags[PHOTOMETRIC] == RGB else 1
    if not colours <= tags.get(SAMPLES_PER_PIXEL, 1) <= colours + 1:
        return False
    return (formats == {FLOATS} and depth in (16, 32, 64)) or (formats == {INTEGERS} and 8 < depth <= 16)


class OddTiff(TiffImageFile):
    """A TIFF file whose samples `samples` reads. Its mode tells grey (I;16) from colours (RGB); it holds no pixels."""

    def _setup(self) -> None:
        tags = self.tag_v2
        self._size = tags[256], tags[257]
        self._mode = "RGB" if tags[PHOTOMETRIC] == RGB else "I;16"
        self.tile = []
        if ICC in tags:
            self.info["icc_profile"] = tags[ICC]
        unit = {INCHES: 1.0, CENTIMETRES: 2.54}.get(tags.get(296, INCHES))
        if unit is not None and 282 in tags and 283 in tags:
            self.info["dpi"] = tags[282] * unit, tags[283] * unit

    def load(self) -> Any:
        """Nothing, since Pillow has no image of such samples; orientation is applied as in other files of TIFF."""
        self.getexif().pop(ORIENTATION, None)

    def samples(self) -> tuple[NDArray[np.uint16], int]:
        """The samples, uint16 (H, W) or (H, W, 2 to 4) with alpha last, not turned yet; and the value of white.

        Raises PictureError for floats beyond 0..1, and where tifffile is missing.
        """
        values = self._read()
        colours = 3 if self.mode == "RGB" else 1
        kind = self.tag_v2.get(EXTRA_SAMPLES, (0,))[0]
        if values.ndim == 3 and values.shape[2] > colours and kind not in (ASSOCIATED, UNASSOCIATED):
            values = values[:, :, :colours]
        if values.dtype.kind == "f":
            values, white = _whole(values), 65535
        else:
            white = (1 << self.tag_v2[BITS][0]) - 1
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[:, :, 0]
        return values.astype(np.uint16, copy=False), white

    @property
    def associated(self) -> bool:
        """Whether colours were multiplied by alpha."""
        return bool(self.tag_v2.get(EXTRA_SAMPLES, (0,))[0] == ASSOCIATED)

    def _read(self) -> NDArray[Any]:
        try:
            from tifffile import TiffFile
        except ImportError as error:
            hint = "needs tifffile: pip install 'ldcodec[deep]'"
            raise PictureError(f"a TIFF picture of a kind that {hint}") from error
        stream = cast(BinaryIO, self.fp)
        length = stream.seek(0, io.SEEK_END)
        if self.width * self.height > MOST_PIXELS * length:  # before memory for them is allocated
            raise PictureError(f"{self.width}x{self.height} pixels do not fit its {length} bytes")
        stream.seek(0)
        with TiffFile(stream) as file:
            values = np.asarray(file.pages[self.tell()].asarray())
        if values.ndim == 3 and self.tag_v2.get(PLANES) == 2:
            values = np.moveaxis(values, 0, 2)
        return values


def _whole(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Floats from 0 to 1 as 0 to 65535. Raises PictureError if more than a few lie outside."""
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    outside = ~((values >= 0) & (values <= 1))  # not a number is outside too
    if outside.mean() > BEYOND:
        raise PictureError(f"its samples are floats from {least:g} to {most:g}; scale them to 0..1 first")
    if outside.any():
        warn(f"its floats from {least:g} to {most:g} are clipped to 0..1")
    warn("its floats are rounded to 16 bits")
    whole = np.empty(values.shape, np.uint16)
    for row, floats in zip(whole, values, strict=True):
        row[...] = np.rint(np.clip(np.nan_to_num(floats, nan=0.0), 0, 1).astype(np.float64) * 65535)
    return whole
