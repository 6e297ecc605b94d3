"""Large Pillow images ⇄ arrays and files without a second copy: some rows at a time, or straight through."""

import io
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGE = 1 << 24  # pixels from which a copy of all of them matters
STRIP = 1 << 22  # pixels that are copied at a time


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an image of mode L or RGB, uint8 (H, W) or (H, W, 3)."""
    width, height = image.size
    pixels = np.empty((height, width, 3) if image.mode == "RGB" else (height, width), np.uint8)
    step = max(1, STRIP // max(1, width))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def save(image: Image.Image, target: BinaryIO, format: str, options: dict[str, Any]) -> None:
    """Write an image as a picture file. Small ones are encoded first and written in one go; of large ones not even the
    encoded bytes lie in memory. An OSError of the target is raised as TargetError.
    """
    if image.width * image.height < LARGE or format == "TIFF":  # which is written back and forth
        encoded = io.BytesIO()
        image.save(encoded, format, **options)
        _Target(target).write(encoded.getbuffer())
    else:
        image.save(cast(BinaryIO, _Target(target)), format, **options)


class TargetError(Exception):
    """Carries the OSError of a target through Pillow, whose own errors are OSErrors too."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Target(io.RawIOBase):
    """A stream whose own errors can be told from those of Pillow; it cannot seek, as pipes cannot."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            raise TargetError(error) from error
