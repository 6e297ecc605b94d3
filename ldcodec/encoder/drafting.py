"""Squares that come out better as in a draft: a mode decision where a picture holds what no photograph does.

On textures of single pixels the residual branch of the synthesis can do worse than the linear shortcut alone. Whether
it does, only a real drawing tells, which takes a third of the time of coding. So it is made where the picture itself is
strange, and photographs pay for nothing but the look at that (docs/experiments.md has the figures).
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ldcodec.bitstream import chunktypes, container, quality
from ldcodec.bitstream.layout import coded_size
from ldcodec.bitstream.reader import Chunk, Reader
from ldcodec.bitstream.slices import PIXELS, TILE, Area
from ldcodec.decoder.latent import Compact, Latent
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.tiles import drafted_over, drafts_of, region_of
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.patching import as_one, distinct, spread
from ldcodec.encoder.ratecontrol import Coded
from ldcodec.pictures import squares
from ldcodec.pictures.patches import Mask
from ldcodec.pictures.picture import Pixels, at_depth, white_of
from ldcodec.pictures.squares import SQUARE

WINDOW = 4  # pixels: side of the windows whose colours are counted, which lie at every second row and column
PLACE = WINDOW // 2  # pixels: side of the places that say where windows are strange
# Noise and blur give nearly all of the 16 pixels of a window a colour of their own, unless it is flat.
FEW = 3, 48  # colours of a strange window at most, and the contrast in one of its channels, of 0..255, at least
CORNERS = 8, 224  # or these, in all of its channels
VIVID = 224  # or its only colour has channels so far apart
ROWS = 1024  # pixels: rows that are looked at at once, a multiple of 16
WORTH = 1.0  # bit that the gain in a square weighs at least
# What all of a map gains weighs at least this share of the error in what is strange, 0.04 dB, and so many bits.
SHARE, LEAST = 1 / 100, 8.0
SMALLEST = 8  # blocks: sides of rectangles that are not divided
SIGHT = 16  # positions around an area that are computed for it, about

File = TypeVar("File", bound=Coded)


def strange_places(picture: Pixels) -> Mask:
    """Which 2×2 pixels of a picture, (H, W, 3) or (H, W), lie in a strange window: bool [8·⌈H/16⌉, 8·⌈W/16⌉]."""
    rows, columns = coded_size(picture.shape[1], picture.shape[0])
    found = np.zeros((PIXELS // PLACE * rows, PIXELS // PLACE * columns), np.bool_)
    for top in range(0, len(picture), ROWS):
        strange = _strange(at_depth(picture[top : top + ROWS + PLACE], 8))
        for down, across in np.ndindex(2, 2):
            part = found[top // PLACE + down :, across:]
            part[: strange.shape[0], : strange.shape[1]] |= strange
    return found


def _strange(part: Pixels) -> Mask:
    """Which windows of some pixels of 8 bits have few colours, far apart, or a vivid one alone: bool [h/2-1, w/2-1]."""
    height, width = (side // PLACE * PLACE for side in part.shape[:2])
    if min(height, width) < WINDOW:
        return np.zeros((0, 0), np.bool_)
    planes = np.ascontiguousarray(np.atleast_3d(part)[:height, :width].transpose(2, 0, 1))
    most, least = (_over_windows(function, planes) for function in (np.maximum, np.minimum))
    contrast = most - least
    y, x = (contrast.max(0) >= FEW[1]).nonzero()
    colours = sliding_window_view(as_one(part), (WINDOW, WINDOW))[::PLACE, ::PLACE]
    some = np.sort(colours[y, x, :: WINDOW - 1, :: WINDOW - 1].reshape(-1, 4), 1)
    alike = (np.diff(some, axis=1) == 0).any(1) | (contrast[:, y, x].min(0) >= CORNERS[1])  # most are not
    y, x = y[alike], x[alike]
    count = distinct(colours[y, x])
    found: Mask = ~contrast.any(0) & (np.ptp(most, 0) >= VIVID)
    found[y, x] = (count <= FEW[0]) | (count <= CORNERS[0]) & (contrast[:, y, x].min(0) >= CORNERS[1])
    return found


def _over_windows(function: np.ufunc, planes: Pixels) -> Pixels:
    """The largest or least value of each window of planes [C, h, w], of even sides: [C, h/2-1, w/2-1]."""
    halves = function(planes[:, ::2], planes[:, 1::2])
    places = function(halves[:, :, ::2], halves[:, :, 1::2])
    rows = function(places[:, 1:], places[:, :-1])
    windows: Pixels = function(rows[:, :, 1:], rows[:, :, :-1])
    return windows


def _pattern(picture: Pixels, blocks: Area, places: Mask) -> Mask:
    """Which pixels of some blocks belong to a pattern: bool (h, w).

    They lie in a strange window, or next to one and have a colour of one around, because windows miss a pattern's last
    row. places: of `strange_places`.
    """
    whole = Area(0, picture.shape[0], 0, picture.shape[1])
    place = Area(*(PIXELS * edge for edge in blocks)).within(whole)
    around = place.grown(PIXELS, whole.bottom, whole.right)  # in blocks beside, which may be patches
    rows, columns = (index // PLACE for index in np.ogrid[around.top : around.bottom, around.left : around.right])
    inside = places[rows, columns]
    colours = as_one(at_depth(picture[around.inside(whole)], 8))
    pattern: Mask = spread(inside) & np.isin(colours, np.unique(colours[inside]))
    return pattern[place.inside(around)]


def with_drafts(
    coded: File, picture: Pixels, places: Mask, taken: Mask, model: EncoderModel, parsed: Mapping[int, Compact]
) -> File:
    """The file of a picture, with the squares that a draft draws better.

    What is gained or lost beside a pattern does not count: a square at its edge would else be drawn for what is natural
    in it. places: of `strange_places`; taken: which blocks are in patches, [⌈H/16⌉, ⌈W/16⌉];
    parsed: slices of the file, which need not be parsed again.
    """
    if not places.any():
        return coded
    in_blocks = spread(places).reshape(taken.shape[0], PIXELS // PLACE, taken.shape[1], PIXELS // PLACE)
    examined = in_blocks.any((1, 3)) & ~taken
    weight = quality.multiplier(quality.fraction(coded.container.header.quality))
    drawn, drafted = np.zeros((2, *examined.shape, 2, 2))
    latent = Latent(Reader(io.BytesIO(coded.data)), model, keep_all=True, parsed=parsed)
    for blocks in rectangles(examined):
        place = blocks.inside(Area(0, 0, 0, 0))
        drawn[place], drafted[place] = (weight * error for error in _errors(picture, latent, blocks, places))
    gains = drawn - drafted
    wanted = (gains > WORTH) & examined[:, :, None, None]
    if gains[wanted].sum() <= max(LEAST, SHARE * drawn[examined].sum()):
        return coded
    chunk = Chunk(chunktypes.DRAFTED, squares.packed(wanted))
    file = replace(coded.container, chunks=(*coded.container.chunks, chunk))
    data = container.write(file)
    forecast = replace(coded.forecast, overhead=coded.forecast.overhead + len(data) - len(coded.data))
    return replace(coded, container=file, data=data, forecast=forecast)


def rectangles(examined: Mask, top: int = 0, left: int = 0) -> list[Area]:
    """Rectangles, of at most a tile, that hold all blocks to examine, with little work for what lies around them."""
    rows, columns = examined.nonzero()
    if not len(rows):
        return []
    first, last, start, end = int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
    whole, inner = Area(top + first, top + last, left + start, left + end), examined[first:last, start:end]
    height, width = inner.shape
    if max(height, width) <= SMALLEST:
        return [whole]
    down, across = (height // 2, width) if height >= width else (height, width // 2)
    rest = inner[down:] if down < height else inner[:, across:]
    place = (whole.top + down % height, whole.left + across % width)
    halves = rectangles(inner[:down, :across], whole.top, whole.left) + rectangles(rest, *place)
    return [whole] if max(height, width) <= TILE and _work([whole]) <= _work(halves) else halves


def _work(areas: list[Area]) -> int:
    """Positions that are drawn for some areas."""
    return sum((bottom - top + 2 * SIGHT) * (right - left + 2 * SIGHT) for top, bottom, left, right in areas)


def _errors(picture: Pixels, latent: Latent, blocks: Area, places: Mask) -> Iterator[NDArray[np.float64]]:
    """The squared errors of the pattern in each square as it is drawn and in a draft, each [h, w, 2, 2].

    They are those of `patching.losses`. places: of `strange_places`.
    """
    place = Area(*(PIXELS * edge for edge in blocks)).within(Area(0, picture.shape[0], 0, picture.shape[1]))
    original = picture[place.top : place.bottom, place.left : place.right]
    pattern = _pattern(picture, blocks, places)
    drawn = region_of(latent, place, DecodeSettings())
    every = np.ones((blocks.bottom, blocks.right, 2, 2), np.bool_)
    drafts = drafts_of(every, latent.window(blocks), blocks, blocks)
    rows, columns = blocks.bottom - blocks.top, blocks.right - blocks.left
    for shown in (drawn, drafted_over(drawn.copy(), drafts, latent.header, latent.model)):
        error = np.square(np.subtract(shown, original, dtype=np.float32)).reshape(*original.shape[:2], -1).mean(2)
        whole = np.zeros((rows * PIXELS, columns * PIXELS), np.float32)
        whole[: len(error), : error.shape[1]] = error * pattern
        sums = whole.reshape(rows, 2, SQUARE, columns, 2, SQUARE).sum((2, 5), dtype=np.float64)
        yield sums.transpose(0, 2, 1, 3) * (255 / white_of(picture)) ** 2
