"""Pillow at work: whatever it raises or warns of becomes one line of ours."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from ldcodec.errors import LdcodecError, LdcodecWarning, PictureError


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into a PictureError that names the file, and its warnings into LdcodecWarnings.

    Its decoders raise nearly anything on damaged files (OSError, SyntaxError, ValueError, struct.error, zlib.error,
    EOFError, MemoryError …), so no narrower class than Exception would do.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except LdcodecError as error:
        raise type(error)(f"{name}: {error}") from error
    except Exception as error:
        raise PictureError(f"{name}: {reason(error)}") from error
    told = [entry.message for entry in caught if issubclass(entry.category, UserWarning)]
    for text in dict.fromkeys(map(first_line, told)):
        warnings.warn(text, LdcodecWarning, stacklevel=4)


def first_line(message: BaseException | str) -> str:
    """What an exception or warning says, in one line; its class if it says nothing."""
    lines = str(message).strip().splitlines()
    return lines[0] if lines else type(message).__name__


def reason(error: Exception) -> str:
    """Why Pillow could not read a picture, as the end of a sentence."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known kind, or damaged in its first bytes"
    if isinstance(error, Image.DecompressionBombError):
        return "refused, because it claims more pixels than is safe to open; --max-pixels sets the limit"
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"cannot be read, because it is damaged: {first_line(error)}"


def warn(text: str) -> None:
    """Tell what is not kept; `guarded` passes it on."""
    warnings.warn(text, LdcodecWarning, stacklevel=2)
