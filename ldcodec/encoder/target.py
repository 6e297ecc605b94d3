"""What is asked of the encoder, and what it gives. Commands import this before NumPy and torch."""

import math
from dataclasses import dataclass

from ldcodec.errors import UsageError

EFFORTS = 9


@dataclass(frozen=True)
class Target:
    """The target of an encoding: exactly one of the fields is set.

    rate: bits per pixel, > 0; size: bytes, ≥ 1; psnr: dB, > 0; quality: 0..100; lossless: every pixel is exact.

    Raises UsageError for no target, several targets or a value that is out of range.
    """

    rate: float | None = None
    size: int | None = None
    psnr: float | None = None
    quality: float | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        values = [v for v in (self.rate, self.size, self.psnr, self.quality) if v is not None]
        if self.lossless and values:
            raise UsageError("give either lossless or one of rate, size, psnr and quality")
        if self.lossless:
            return
        if len(values) != 1:
            raise UsageError("give exactly one of rate, size, psnr and quality")
        if not math.isfinite(values[0]) or values[0] < 0 or (self.quality is None and values[0] <= 0):
            raise UsageError(f"the target must be a positive number, not {values[0]}")
        if self.quality is not None and self.quality > 100:
            raise UsageError(f"quality must be from 0 to 100, not {self.quality}")

    def most_bytes(self, pixels: int) -> int | None:
        """The largest file in bytes that the target allows for so many pixels; None if it sets no limit."""
        return self.size if self.rate is None else math.floor(self.rate * pixels / 8)


@dataclass(frozen=True)
class EncodeSettings:
    """How to encode a picture; see `codec.encode` for each field. Raises UsageError for an effort outside 1..9."""

    target: Target
    strip: bool = False
    fallback: bool = True
    effort: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.effort <= EFFORTS:
            raise UsageError(f"effort must be from 1 to {EFFORTS}, not {self.effort}")


@dataclass(frozen=True)
class Encoded:
    """The bytes of an .ldc file, and whether they store the picture losslessly."""

    data: bytes
    lossless: bool
