"""What callers pass to the package, tested for type and range: anything else becomes a UsageError of one line.

Numbers may be NumPy's; a bool is none.
"""

import io
import math
import os
import reprlib
from collections.abc import Iterable
from numbers import Integral, Real
from typing import NoReturn

from ldcodec.errors import OutsideError, UsageError

ABOVE_ZERO = math.ulp(0.0)  # the smallest number that is not 0


def check_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise UsageError unless a value is a finite number from low to high."""
    is_number = isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value)
    if not (is_number and low <= value <= high):  # type: ignore[operator]  # whose stubs compare Real with Real only
        raise UsageError(f"{name} must be a number{_span(low, high)}, not {_shown(value)}")


def check_whole(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise UsageError unless a value is a whole number from low to high."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_whole and low <= value <= high):  # type: ignore[operator]
        raise UsageError(f"{name} must be a whole number{_span(low, high)}, not {_shown(value)}")


def check_flag(name: str, value: object) -> None:
    """Raise UsageError unless a value is True or False, or 1 or 0; a word such as "no" would count as True."""
    named_bool = type(value).__name__ in ("bool", "bool_")  # NumPy's too, which need not be imported for this
    if not (named_bool or (isinstance(value, Integral) and value in (0, 1))):
        raise UsageError(f"{name} must be True or False, not {_shown(value)}")


def check_region(region: object) -> None:
    """Raise UsageError unless a region is four whole numbers: x, y, width and height."""
    names = ("x", "y", "width", "height")
    values = tuple(region) if isinstance(region, Iterable) else ()
    if len(values) != len(names):
        raise UsageError(f"a region is x, y, width and height, not {_shown(region)}")
    for name, value in zip(names, values, strict=True):
        check_whole(f"{name} of the region", value)


def check_inside(region: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    """Raise OutsideError unless a region lies within a picture of a width and a height, and is not empty."""
    x, y, width, height = region
    if min(x, y) < 0 or min(width, height) < 1 or x + width > size[0] or y + height > size[1]:
        place = ",".join(map(str, region))
        raise OutsideError(f"the region {place} does not lie in a picture of {size[0]}x{size[1]} pixels")


def check_type(name: str, value: object, kind: object, hint: str) -> None:
    """Raise UsageError unless a value is an instance of a class, or of one of a union. hint: what it must be."""
    if not isinstance(value, kind):  # type: ignore[arg-type]
        raise UsageError(f"{name} must be {hint}, not {_shown(value)}")


def file_bytes(data: object) -> bytes:
    """The bytes of an .ldc file from anything that holds bytes: bytes, bytearray, memoryview, mmap, an array.

    Raises UsageError for anything else.
    """
    if isinstance(data, bytes):
        return data  # not copied
    try:
        return memoryview(data).tobytes()  # type: ignore[arg-type]
    except TypeError as error:
        hint = "encode returns such bytes"
        if isinstance(data, str | os.PathLike):
            hint = "open(…, 'rb').read() reads a file"
        elif hasattr(data, "read"):
            hint = "its read() returns them"
        raise UsageError(f"an .ldc file is given as its bytes, not as {_shown(data)}; {hint}") from error


def refuse_picture(value: object) -> NoReturn:
    """Raise the UsageError for what cannot be encoded."""
    hint = "numpy.asarray(…, numpy.uint8) makes an array, of shape (H, W, 3) or (H, W)"
    if isinstance(value, str | os.PathLike):
        hint = "PIL.Image.open(…) opens a file"
    elif isinstance(value, bytes | bytearray | memoryview):
        hint = "PIL.Image.open(io.BytesIO(…)) opens the bytes of a file"
    elif isinstance(value, io.IOBase):
        hint = "PIL.Image.open(…) reads it"
    raise UsageError(f"a picture is a Pillow image or an array of uint8 or uint16, not {_shown(value)}; {hint}")


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _span(low: float, high: float) -> str:
    if math.isfinite(high):
        return f" from {low} to {high}"
    return "" if math.isinf(low) else " above 0" if low == ABOVE_ZERO else f" of at least {low}"


def _shown(value: object) -> str:
    """A number or a word as it is, shortened; of all else its type, since it may be long."""
    plain = value is None or isinstance(value, str | bool | Real)
    return reprlib.repr(value) if plain else f"something of type {type(value).__name__}"
