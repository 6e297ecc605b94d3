"""How a picture is cut into slices, the groups of latent rows that are coded by themselves (docs/bitstream.md).

A picture of at most SLICE_AREA latent positions (3.1 megapixels) is one slice. A larger one is cut into as many slices
as keep to that area, as equal in height as multiples of 4 rows allow. Parsing takes about 22 kB for each position.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from ldcodec.container import MAX_SLICES, coded_size, latent_size

SLICE_AREA = 3 << 12  # latent positions, each of 16×16 pixels
UNIT = 4  # a hyper-latent row covers four latent rows
PIXELS = 16  # of the picture's rows for each latent row


@dataclass(frozen=True)
class Span:
    """The latent rows top … bottom − 1 of one slice."""

    top: int
    bottom: int

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.bottom - self.top

    def meets(self, top: int, bottom: int) -> bool:
        """Whether a slice holds any of the latent rows top … bottom − 1."""
        return self.top < bottom and top < self.bottom

    def pixel_rows(self, height: int) -> tuple[int, int]:
        """The first row of the picture that the slice shows and the one after its last."""
        return self.top * PIXELS, min(self.bottom * PIXELS, height)


def cut(width: int, height: int, area: int = SLICE_AREA) -> list[Span]:
    """The slices of a picture of width × height pixels, from top to bottom, each of about `area` latent positions."""
    rows, columns = latent_size(width, height)
    units = rows // UNIT
    count = min(-(-rows * columns // area), units, MAX_SLICES)
    edges = [UNIT * (units * k // count) for k in range(count + 1)]
    return [Span(top, bottom) for top, bottom in pairwise(edges)]


def spans_of(rows: Iterable[int]) -> list[Span]:
    """The slices of a file, given the latent rows of each."""
    counts = list(rows)
    return [Span(end - count, end) for count, end in zip(counts, accumulate(counts), strict=True)]


def coded_rows(span: Span, width: int, height: int) -> tuple[int, int]:
    """Rows and columns of a slice's latent that hold symbols; beyond them lies only padding."""
    rows, columns = coded_size(width, height)
    return min(span.bottom, rows) - span.top, columns


def meeting(spans: Sequence[Span], top: int, bottom: int) -> list[int]:
    """The numbers, from 0, of the slices that hold any of the latent rows top … bottom − 1."""
    return [number for number, span in enumerate(spans) if span.meets(top, bottom)]
