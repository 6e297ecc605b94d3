"""Exceptions and warnings, each with the exit code that the command line gives it.

LdcodecError                 1
├── PictureError             1   a picture cannot be read, has an unsupported format, or cannot be written
│   └── TooManyPixelsError   1   a picture claims more pixels than the caller allows
├── TargetError              1   no file that the options allow meets the target
├── FormatError              1   not an .ldc file, or one that this version cannot read
│   └── DamagedError         1   an .ldc file that is truncated or altered
│       └── SalvageableError 1   … part of which can still be restored
├── ModelError               1   weights are missing, damaged, or not those that a file names
│   └── ChosenModelError     1   … and the user chose them, so no input can be processed
└── UsageError               2   options that contradict each other or are out of range
    └── OutsideError         2   … for this picture: a region that does not lie in it

LdcodecWarning               0   the work was done, but not quite as requested
└── SalvageWarning           3   only part of a damaged file was restored
"""

from unicodedata import category

CONTROLS = "Cc", "Zl", "Zp"  # categories of Unicode: control characters, and those that separate lines


class LdcodecError(Exception):
    """Base class of every error that ldcodec raises deliberately. The message is one line and says what to do."""

    exit_code = 1


class PictureError(LdcodecError):
    """A picture cannot be read, has an unsupported format or size, or cannot be written."""


class TooManyPixelsError(PictureError):
    """A picture claims more pixels than the caller allows."""


class TargetError(LdcodecError):
    """No file that the options allow is as small, or its picture as exact, as the target demands."""


class FormatError(LdcodecError):
    """The data is not an .ldc file, or needs a newer version of ldcodec."""


class DamagedError(FormatError):
    """The data starts like an .ldc file but is truncated or altered."""


class SalvageableError(DamagedError):
    """Part of a damaged file can still be restored: pass `ldcodec.decode` a request with `salvage=True`."""


class ModelError(LdcodecError):
    """Weights are missing, damaged, or not those that a file was written with."""


class ChosenModelError(ModelError):
    """The model chosen by the user cannot be used, so no input can be processed."""


class UsageError(LdcodecError):
    """Options or arguments contradict each other or are out of range."""

    exit_code = 2


class OutsideError(UsageError):
    """A region does not lie in a picture; in another one it may."""


class LdcodecWarning(UserWarning):
    """Something that the user should know but that did not stop the work, such as a profile that is left out."""


class SalvageWarning(LdcodecWarning):
    """Only part of a damaged file was restored. The message names the lost rows of the picture."""

    exit_code = 3


def one_line(text: object) -> str:
    """A name or a message as it may stand in a line of a terminal: control characters, which names may hold, escaped.

    A new line becomes \\n, and an escape sequence is shown instead of obeyed.
    """
    found = str(text)
    if found.isprintable():
        return found
    return "".join(c.encode("unicode_escape").decode() if category(c) in CONTROLS else c for c in found)
