"""What is asked of the encoder, and what it gives. Commands import this before NumPy and torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ldcodec.bitstream.arguments import ABOVE_ZERO, check_flag, check_number, check_region, check_whole
from ldcodec.errors import UsageError

EFFORTS = 9
PSNR, VISUAL = TUNES = "psnr", "visual"  # what bits are spent for
RANGES = {"rate": (ABOVE_ZERO, math.inf), "size": (1, math.inf), "psnr": (ABOVE_ZERO, math.inf), "quality": (0, 100)}


@dataclass(frozen=True)
class Target:
    """The target of an encoding: exactly one of the fields is set.

    rate: bits per pixel, > 0; size: bytes, ≥ 1; psnr: dB, > 0; quality: 0..100; lossless: every pixel is exact.

    Raises UsageError for no target, several targets or a value of another type or out of range.
    """

    rate: float | None = None
    size: int | None = None
    psnr: float | None = None
    quality: float | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        check_flag("lossless", self.lossless)
        given = {name: value for name in RANGES if (value := getattr(self, name)) is not None}
        if self.lossless and given:
            raise UsageError("give either lossless or one of rate, size, psnr and quality")
        if len(given) != 1 and not self.lossless:
            raise UsageError("give exactly one of rate, size, psnr and quality")
        for name, value in given.items():
            check_number(name, value, *RANGES[name])

    @property
    def tune(self) -> str:
        """The tuning that suits it: a PSNR is reached in fewest bits by the one for the PSNR.

        Without loss there is nothing to tune, and manifests that name none mean that for the PSNR.
        """
        return VISUAL if self.psnr is None and not self.lossless else PSNR

    def most_bytes(self, pixels: int) -> int | None:
        """The largest file in bytes that the target allows for so many pixels; None if it sets no limit."""
        if self.rate is not None:
            return math.floor(self.rate * pixels / 8)
        return None if self.size is None else math.floor(self.size)


@dataclass(frozen=True)
class Roi:
    """A region of interest: in its pixels squared errors weigh `decibels` more, -30..30, than elsewhere.

    Raises UsageError for other values.
    """

    x: int
    y: int
    width: int
    height: int
    decibels: float = 12.0

    def __post_init__(self) -> None:
        check_region(self.region)
        check_number("the decibels of the region of interest", self.decibels, -30, 30)

    @classmethod
    def of(cls, values: Sequence[float]) -> "Roi":
        """That of x, y, width, height and, if there are five values, decibels. Raises UsageError for anything else."""
        try:
            return cls(*values)  # type: ignore[arg-type]
        except TypeError as error:
            hint = "x, y, width and height in pixels, and decibels if you like"
            raise UsageError(f"a region of interest is {hint}, not {values!r}") from error

    @property
    def region(self) -> tuple[int, int, int, int]:
        """x, y, width and height in pixels."""
        return self.x, self.y, self.width, self.height


@dataclass(frozen=True)
class EncodeSettings:
    """How to encode a picture; see `codec.encode` for each field. Raises UsageError."""

    target: Target
    strip: bool = False
    fallback: bool = True
    effort: int = 1
    tune: str | None = None
    depth: int | None = None
    hdr: bool = False
    roi: Roi | None = None

    def __post_init__(self) -> None:
        check_flag("strip", self.strip)
        check_flag("fallback", self.fallback)
        check_flag("hdr", self.hdr)
        check_whole("effort", self.effort, 1, EFFORTS)
        if self.tune not in (None, *TUNES):
            raise UsageError(f"tune must be {' or '.join(TUNES)}, not {self.tune!r}")
        if self.depth not in (None, 8):
            raise UsageError(f"the depth must be 8, or None to keep that of the picture, not {self.depth!r}")


@dataclass(frozen=True)
class Encoded:
    """The bytes of an .ldc file, and whether they store the picture losslessly."""

    data: bytes
    lossless: bool
