"""Pillow's many exceptions and warnings, turned into ours."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from ldcodec.errors import LdcodecError, LdcodecWarning, PictureError, TooManyPixelsError


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into a PictureError that names the file, and its warnings into LdcodecWarnings.

    On damaged files its decoders raise almost anything (OSError, SyntaxError, ValueError, struct.error, zlib.error,
    EOFError, MemoryError …), so nothing narrower than Exception will do.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except LdcodecError as error:
        raise type(error)(f"{name}: {error}") from error
    except Exception as error:
        kind = TooManyPixelsError if isinstance(error, Image.DecompressionBombError) else PictureError
        raise kind(f"{name}: {reason(error)}") from error
    messages = [entry.message for entry in caught if issubclass(entry.category, UserWarning)]
    for text in dict.fromkeys(map(first_line, messages)):
        warnings.warn(text, LdcodecWarning, stacklevel=4)


def first_line(message: BaseException | str) -> str:
    """The first line of an exception or warning; the name of its class if it has no text."""
    lines = str(message).strip().splitlines()
    return lines[0] if lines else type(message).__name__


def reason(error: Exception) -> str:
    """Why Pillow could not read a picture, to follow the file's name and a colon."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a known format, or damaged in its first bytes"
    if isinstance(error, Image.DecompressionBombError):
        return "refused, because it claims more pixels than is safe to open"
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    if isinstance(error, ValueError) and "MAX_TEXT" in str(error):
        return "its texts, once inflated, are longer than Pillow reads; leave them out, as with optipng -strip all"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"cannot be read, because it is damaged: {first_line(error)}"


def warn(text: str) -> None:
    """Warn about something that is lost; `guarded` passes it on to the caller."""
    warnings.warn(text, LdcodecWarning, stacklevel=2)
