"""How a picture is divided: slices, which are coded independently (docs/bitstream.md), and areas of pixels or latents.

A picture of at most SLICE_AREA latent positions (3.1 megapixels) is one slice. A larger one is cut into as few slices
as keep to about that area, as equal in height as multiples of 4 rows allow. Slices bound the memory of coding: parsing
takes about 13 kB per position.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from ldcodec.bitstream.layout import MAX_SLICES, coded_size, latent_size

SLICE_AREA = 3 << 12  # latent positions, each of 16×16 pixels
PARSED_AT_ONCE = 2 * SLICE_AREA  # latent positions parsed in parallel at most: about 320 MB
UNIT = 4  # latent rows (and columns) per hyper-latent row (and column)
PIXELS = 16  # pixels per latent row and column
PREVIEW_SCALES = (2, 4, 8, 16)  # a preview has 1/scale of the picture's width and height
VIEW_SCALES = (1, *PREVIEW_SCALES)

# How the networks go over a picture, in latent positions. The memory forecast needs these too, without torch.
WHOLE_AREA = 1 << 13  # the largest picture that the networks see in one pass: 2.1 megapixels
TILE = 100  # rows and columns of a square tile without its halo; others have no larger area
DRAWN_AT_ONCE = 2  # tiles at most
DENOISER_HALO = 24  # at most, however many evaluations: anything farther away moves single pixels by one level
REFINED_SIDE, REFINED_MARGIN = 48, 8  # squares are refined one by one, each with a margin that is then discarded


@dataclass(frozen=True)
class Span:
    """The latent rows top … bottom − 1 of one slice."""

    top: int
    bottom: int

    @property
    def rows(self) -> int:
        return self.bottom - self.top

    def meets(self, top: int, bottom: int) -> bool:
        """Whether the slice holds any of the latent rows top … bottom − 1."""
        return self.top < bottom and top < self.bottom

    def pixel_rows(self, height: int) -> tuple[int, int]:
        """The slice's rows of the picture: the first, and the one after the last."""
        return self.top * PIXELS, min(self.bottom * PIXELS, height)


class Area(NamedTuple):
    """A rectangle of pixels or of latents: rows top … bottom − 1, columns left … right − 1."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, halo: int, rows: int, columns: int) -> "Area":
        """The area enlarged by `halo` on every side, clipped to 0 … rows and 0 … columns."""
        top, left = max(0, self.top - halo), max(0, self.left - halo)
        return Area(top, min(rows, self.bottom + halo), left, min(columns, self.right + halo))

    def within(self, other: "Area") -> "Area":
        """The part of this area that lies in another, which it meets."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Area(top, min(self.bottom, other.bottom), left, min(self.right, other.right))

    def inside(self, outer: "Area", unit: int = 1) -> tuple[slice, slice]:
        """Index of this area in an array that covers `outer` with `unit` elements per row and column."""
        rows = slice((self.top - outer.top) * unit, (self.bottom - outer.top) * unit)
        return rows, slice((self.left - outer.left) * unit, (self.right - outer.left) * unit)

    @property
    def size(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


def is_large(width: int, height: int) -> bool:
    """Whether a picture of width × height pixels is coded and rendered in tiles rather than in one pass."""
    rows, columns = latent_size(width, height)
    return rows * columns > WHOLE_AREA


def cut(width: int, height: int, area: int = SLICE_AREA) -> list[Span]:
    """Cut a picture of width × height pixels into slices of about `area` latent positions, from top to bottom."""
    rows, columns = latent_size(width, height)
    units = rows // UNIT
    count = min(-(-rows * columns // area), units, MAX_SLICES)  # a slice has at least one hyper-latent row
    edges = [UNIT * (units * k // count) for k in range(count + 1)]
    return [Span(top, bottom) for top, bottom in pairwise(edges)]


def tiling(area: Area, halo: int) -> list[Area]:
    """Cut an area into tiles, row by row from the top, so that as few positions as possible are seen by several.

    halo: positions around a tile that the networks see, but for the area's edges.
    """

    def seen(counts: tuple[int, int]) -> int:
        down, across = counts
        return (rows + 2 * halo * (down - 1)) * (columns + 2 * halo * (across - 1))

    rows, columns = area.bottom - area.top, area.right - area.left
    possible = []
    for down in range(1, rows + 1):
        widest = min(columns, max(1, TILE**2 // -(-rows // down)))
        possible.append((down, -(-columns // widest)))
        if widest == columns:
            break
    down, across = min(possible, key=seen)
    rows_of, columns_of = evenly(area.top, area.bottom, down), list(evenly(area.left, area.right, across))
    return [Area(top, bottom, left, right) for top, bottom in rows_of for left, right in columns_of]


def evenly(start: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut start … end into so many pieces, all about equal."""
    return pairwise(start + (end - start) * k // count for k in range(count + 1))


def groups(spans: list[Span]) -> list[list[Span]]:
    """Group neighbouring slices to be analysed together, since fewer rows are seen twice then."""
    grouped: list[list[Span]] = []
    for span in spans:
        if grouped and span.bottom - grouped[-1][0].top <= TILE:
            grouped[-1].append(span)
        else:
            grouped.append([span])
    return grouped


def spans_of(rows: Iterable[int]) -> list[Span]:
    """The spans of consecutive slices with these numbers of latent rows."""
    counts = list(rows)
    return [Span(end - count, end) for count, end in zip(counts, accumulate(counts), strict=True)]


def coded_rows(span: Span, width: int, height: int) -> tuple[int, int]:
    """Rows and columns of a slice's latent that hold symbols; the positions beyond cover padding only."""
    rows, columns = coded_size(width, height)
    return min(span.bottom, rows) - span.top, columns


def meeting(spans: Sequence[Span], top: int, bottom: int) -> list[int]:
    """The numbers, from 0, of the slices that hold any of the latent rows top … bottom − 1."""
    return [number for number, span in enumerate(spans) if span.meets(top, bottom)]
