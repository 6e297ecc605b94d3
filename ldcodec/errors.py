"""What can go wrong, as one tree; the class carries the exit code of the command line.

LdcodecError                 1
├── PictureError             1   a picture cannot be read, is of an unknown kind, or cannot be written
│   └── TooManyPixelsError   1   a picture claims more pixels than the caller allows
├── FormatError              1   not an .ldc file, or one this version cannot read
│   └── DamagedError         1   an .ldc file that is cut short or altered
│       └── SalvageableError 1   … of which a part can be restored
├── ModelError               1   weights are missing, damaged, or not the ones a file names
│   └── ChosenModelError     1   … and they are the user's choice, so that no input can be processed
└── UsageError               2   options that contradict each other or are out of range

LdcodecWarning               0   work that was done, but not quite as asked
└── SalvageWarning           3   a damaged file of which only a part was restored
"""


class LdcodecError(Exception):
    """Base of every error that ldcodec raises on purpose; its text is one line that says what to do."""

    exit_code = 1


class PictureError(LdcodecError):
    """A picture cannot be read, is of an unknown kind or size, or cannot be written."""


class TooManyPixelsError(PictureError):
    """A picture claims more pixels than the caller allows."""


class FormatError(LdcodecError):
    """The data is not an .ldc file, or needs a newer version of ldcodec."""


class DamagedError(FormatError):
    """The data began as an .ldc file but is cut short or altered."""


class SalvageableError(DamagedError):
    """A damaged file of which a part can be restored: `ldcodec.decode` does so if its request salvages."""


class ModelError(LdcodecError):
    """Weights are missing, damaged, or not the ones that a file was written with."""


class ChosenModelError(ModelError):
    """The model that the user chose cannot be used, so that no input can be processed."""


class UsageError(LdcodecError):
    """Options or arguments that contradict each other or lie outside their range."""

    exit_code = 2


class LdcodecWarning(UserWarning):
    """Something the user should know that did not stop the work, such as a target rate out of reach."""


class SalvageWarning(LdcodecWarning):
    """A damaged file was restored in part; the text names the rows of the picture that are lost."""

    exit_code = 3
