"""Parts of a picture: areas, and slices, the groups of latent rows that are coded by themselves (docs/bitstream.md).

A picture of at most SLICE_AREA latent positions (3.1 megapixels) is one slice. A larger one is cut into as many slices
as keep to that area, as equal in height as multiples of 4 rows allow. Parsing takes about 13 kB for each position.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from ldcodec.bitstream.layout import MAX_SLICES, coded_size, latent_size

SLICE_AREA = 3 << 12  # latent positions, each of 16×16 pixels
PARSED_AT_ONCE = 2 * SLICE_AREA  # latent positions: so many are parsed side by side where there are threads for it
UNIT = 4  # a hyper-latent row covers four latent rows
PIXELS = 16  # of the picture's rows for each latent row
PREVIEW_SCALES = (2, 4, 8, 16)  # a preview has 1/scale of the size

# How the networks go over a picture, in latent positions. The memory forecast needs these too, without torch.
WHOLE_AREA = 1 << 13  # 2.1 megapixels: the largest picture that the networks see in one pass
TILE = 96  # rows and columns of a tile without its halo
DENOISER_HALO = 24  # at most, however many evaluations: what lies further off moves single pixels by one level
REFINED_SIDE, REFINED_MARGIN = 48, 8  # of a square that is refined at once, and of what is refined with it and dropped


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


class Area(NamedTuple):
    """A rectangle of pixels or of latents: rows top … bottom − 1, columns left … right − 1."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, halo: int, rows: int, columns: int) -> "Area":
        """The area and `halo` more on every side, within 0 … rows and 0 … columns."""
        top, left = max(0, self.top - halo), max(0, self.left - halo)
        return Area(top, min(rows, self.bottom + halo), left, min(columns, self.right + halo))

    def inside(self, outer: "Area", unit: int = 1) -> tuple[slice, slice]:
        """Where this area lies in an array that holds `outer`, `unit` elements for each row and column."""
        rows = slice((self.top - outer.top) * unit, (self.bottom - outer.top) * unit)
        return rows, slice((self.left - outer.left) * unit, (self.right - outer.left) * unit)

    @property
    def size(self) -> int:
        """How many positions it has."""
        return (self.bottom - self.top) * (self.right - self.left)


def is_large(width: int, height: int) -> bool:
    """Whether a picture of width × height pixels is coded and rendered in tiles instead of one pass."""
    rows, columns = latent_size(width, height)
    return rows * columns > WHOLE_AREA


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
