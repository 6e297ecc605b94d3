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

LdcodecWarning               0   the work was done, but not quite as requested
└── SalvageWarning           3   only part of a damaged file was restored
"""


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


class LdcodecWarning(UserWarning):
    """Something that the user should know but that did not stop the work, such as a profile that is left out."""


class SalvageWarning(LdcodecWarning):
    """Only part of a damaged file was restored. The message names the lost rows of the picture."""

    exit_code = 3
