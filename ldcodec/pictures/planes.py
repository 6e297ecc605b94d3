"""Pixels as lossless WebP where it can hold them, and as PNG elsewhere, for what a file stores exactly.

Data from a file are not trusted: their size is checked before anything is decoded.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from ldcodec.errors import DamagedError, PictureError
from ldcodec.pictures import deeppng, samples
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.guard import reason
from ldcodec.pictures.picture import Pixels, at_depth

_WEBP, _PNG, _DEEP_PNG = b"\0", b"\1", b"\2"  # the first byte of what `packed` returns says how the rest is coded
WEBP_SIDE = 16383  # pixels: the largest width and height that WebP can hold
EFFORT = {"method": 6, "quality": 80}  # 0.3 s for a Kodak picture; quality 100 takes 7 s and saves at most 1 %


def fits_webp(pixels: Pixels) -> bool:
    """Whether both sides and the depth are within WebP's limits."""
    return bool(max(pixels.shape[:2]) <= WEBP_SIDE and pixels.dtype == np.uint8)


def readable(width: int, height: int) -> bool:
    """Whether Pillow would read a picture of this size in pixels; it refuses more than twice its MAX_IMAGE_PIXELS."""
    return Image.MAX_IMAGE_PIXELS is None or width * height <= 2 * Image.MAX_IMAGE_PIXELS


def packed(pixels: Pixels, as_webp: bool = True) -> bytes:
    """Encode (H, W, 3) or (H, W) in the fewest bytes, after one byte that says how: in uint16 only if it needs that.

    as_webp: whether WebP is tried too.
    """
    if pixels.dtype != np.uint8:
        short = at_depth(pixels, 8)
        if not np.array_equal(at_depth(short, 16), pixels):
            return _DEEP_PNG + png(pixels)
        pixels = short
    forms = [_PNG + png(pixels)]
    if as_webp and fits_webp(pixels):
        forms.append(_WEBP + webp(pixels))
    return min(forms, key=len)


def unpacked(data: bytes, size: tuple[int, int], grey: bool, depth: int = 8) -> Pixels:
    """The inverse of `packed` for a file with so many bits a sample; shapes and errors as for `read_webp`."""
    read = {_WEBP: read_webp, _PNG: read_png, _DEEP_PNG: read_deep_png}.get(data[:1])
    if read is None or (read is read_deep_png and depth == 8):
        raise DamagedError("it uses an unknown coding")
    return at_depth(read(data[1:], size, grey), depth)


def size_problem(data: bytes, size: tuple[int, int], of: str = "a file") -> str | None:
    """What is wrong with the size that `packed` data claim beside the (width, height) of what they belong to, if it is.

    Only the first bytes are read.
    """
    claim = {_WEBP: webp_problem, _PNG: png_problem, _DEEP_PNG: png_problem}.get(data[:1])
    return "an unknown coding" if claim is None else claim(data[1:], size, of)


def webp_problem(data: bytes, size: tuple[int, int], of: str = "a file") -> str | None:
    """What is wrong with the size that WebP data claim, as `size_problem` says it."""
    return _mismatch("WebP", webp_size(data), size, of)


def png_problem(data: bytes, size: tuple[int, int], of: str = "a file") -> str | None:
    """What is wrong with the size that PNG data claim, as `size_problem` says it."""
    return _mismatch("PNG", png_size(data), size, of)


def _mismatch(name: str, claimed: tuple[int, int] | None, size: tuple[int, int], of: str) -> str | None:
    if claimed is None:
        return f"not {name} data of the kind that a file may hold"
    if claimed == size:
        return None
    return f"a picture of {claimed[0]}x{claimed[1]} pixels in {of} of {size[0]}x{size[1]}"


def webp(pixels: Pixels, method: int = EFFORT["method"], quality: int = EFFORT["quality"]) -> bytes:
    """Encode uint8 (H, W, 3) or (H, W) as lossless WebP in its simple layout, grey as three equal channels.

    Raises PictureError for more pixels than `readable` allows.
    """
    from PIL import WebPImagePlugin  # noqa: F401 (or Pillow loads all its formats to find this one, for 12 ms)

    _check(pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, "WEBP", lossless=True, method=method, quality=quality)
    return file.getvalue()


def png(pixels: Pixels) -> bytes:
    """Encode uint8 or uint16 (H, W, 3) or (H, W) as PNG of that depth. Raises PictureError as `webp` does."""
    _check(pixels)
    if pixels.dtype != np.uint8:
        return deeppng.written(pixels, level=9)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=9)
    return file.getvalue()


def read_webp(data: bytes, size: tuple[int, int], grey: bool) -> Pixels:
    """Decode what `webp` wrote to uint8 (H, W) if grey, else (H, W, 3).

    Raises DamagedError for any other layout, or a size other than the given (width, height). Pillow allocates memory
    for the claimed size as soon as it opens WebP data, so the claim is checked first.
    """
    if webp_size(data) != size:
        raise DamagedError(f"its WebP data are damaged or not a picture of {size[0]}x{size[1]} pixels")
    if not readable(*size):  # Pillow itself checks this for PNG, but not for WebP
        raise DamagedError(f"its WebP data: {reason(Image.DecompressionBombError())}")
    pixels = _decoded(data, "WEBP", size, "RGB")
    return np.ascontiguousarray(pixels[:, :, 1]) if grey else pixels


def read_png(data: bytes, size: tuple[int, int], grey: bool) -> Pixels:
    """Decode what `png` wrote; shapes and errors as for `read_webp`."""
    return _decoded(data, "PNG", size, "L" if grey else "RGB")


def read_deep_png(data: bytes, size: tuple[int, int], grey: bool) -> Pixels:
    """Decode what `png` wrote of uint16; shapes and errors as for `read_webp`."""
    with _opened(data, "PNG", size, "I;16" if grey else "RGB") as image:
        found = samples.loaded(image, Findings())
        if found is None:
            raise DamagedError("its PNG data have 8 bits a sample instead of 16")
        return found.values


def webp_size(data: bytes) -> tuple[int, int] | None:
    """The (width, height) that lossless WebP data claim; None for anything but the simple layout without alpha."""
    fields = int.from_bytes(data[21:25], "little")
    alpha = fields >> 28 & 1
    if len(data) < 25 or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or data[20] != 0x2F or alpha:
        return None
    return (fields & 0x3FFF) + 1, (fields >> 14 & 0x3FFF) + 1


def png_size(data: bytes) -> tuple[int, int] | None:
    """The (width, height) that PNG data claim; None for anything else."""
    if len(data) < 24 or data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _check(pixels: Pixels) -> None:
    height, width = pixels.shape[:2]
    if not readable(width, height):
        raise PictureError(f"{width}x{height} are too many pixels for alpha or lossless storage")


def _decoded(data: bytes, format: str, size: tuple[int, int], mode: str) -> Pixels:
    with _opened(data, format, size, mode) as image:
        return np.array(image)


@contextmanager
def _opened(data: bytes, format: str, size: tuple[int, int], mode: str) -> Iterator[Image.Image]:
    """The image in some data. Raises DamagedError for one of another kind, and for whatever is raised with it."""
    try:
        with (  # opening reads only the header; Pillow raises there if the data claim more pixels than is safe
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(data), formats=[format]) as image,
        ):
            if (image.size, image.mode) != (size, mode):
                raise DamagedError(f"its {format} data are not a {mode} picture of {size[0]}x{size[1]} pixels")
            yield image
    except DamagedError:
        raise
    except Exception as error:  # nothing narrower will do, see `guarded`
        raise DamagedError(f"its {format} data: {reason(error)}") from error
