"""Squares that come out better as in a draft: a mode decision where a picture holds what no photograph does.

On textures of single pixels the residual branch of the synthesis can do worse than the linear shortcut alone. Whether
it does, only a real drawing tells, which takes a third of the time of coding. So it is made where the picture itself is
strange, and photographs pay for nothing but the look at that (docs/experiments.md has the figures).
"""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream import chunktypes, container, quality
from ldcodec.bitstream.layout import coded_size
from ldcodec.bitstream.reader import Chunk, Reader
from ldcodec.bitstream.slices import PIXELS, TILE, Area
from ldcodec.decoder.latent import Compact, Latent
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.tiles import drafted_over, drafts_of, region_of
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.patching import distinct, spread
from ldcodec.encoder.ratecontrol import Coded
from ldcodec.pictures import squares
from ldcodec.pictures.patches import Mask
from ldcodec.pictures.picture import Pixels, at_depth, white_of
from ldcodec.pictures.squares import SQUARE

CELL = 4  # pixels: side of the cells whose colours are counted
# Noise and blur give nearly all of the 16 pixels of a cell a colour of their own, unless the cell is flat.
FEW = 3, 48  # colours of a strange cell at most, and the contrast in one of its channels, of 0..255, at least
CORNERS = 8, 224  # or these, in all of its channels
VIVID = 224  # or its only colour has channels so far apart
HALF = CELL // 2  # pixels: a pattern goes on by so much where it ends within a cell, which is then not strange
ROWS = 1024  # pixels: rows that are looked at at once, a multiple of 16
WORTH = 1.0  # bit that the gain in a square weighs at least; the map takes less for each in strange places
# The gains weigh at least this share of the map's bits. With 1, every map would pay, but more patterns would be drawn
# worse than a draft does.
SHARE = 1 / 8
SMALLEST = 8  # blocks: sides of rectangles that are not divided
SIGHT = 16  # positions around an area that are computed for it, about
MAP_BITS = 8 * 13  # of the chunk beside its data

File = TypeVar("File", bound=Coded)


def strange_cells(picture: Pixels) -> Mask:
    """Which cells of 4×4 pixels of a picture, (H, W, 3) or (H, W), are strange: bool [4·⌈H/16⌉, 4·⌈W/16⌉]."""
    rows, columns = coded_size(picture.shape[1], picture.shape[0])
    found = np.zeros((4 * rows, 4 * columns), np.bool_)
    for top in range(0, len(picture), ROWS):
        part = _strange(picture[top : top + ROWS])
        found[top // CELL : top // CELL + part.shape[0], : part.shape[1]] = part
    return found


def _around(cells: Mask) -> Mask:
    """Which 2×2 pixels lie in strange cells or touch one: bool [8·⌈H/16⌉, 8·⌈W/16⌉]."""
    return spread(cells.repeat(CELL // HALF, 0).repeat(CELL // HALF, 1))


def _strange(part: Pixels) -> Mask:
    """Which cells of a part of a picture have few colours, far apart, or a single vivid one: bool [h/4, w/4]."""
    height, width = (side // CELL for side in part.shape[:2])
    part = at_depth(part[: height * CELL, : width * CELL], 8)  # the rest, at two edges, is less than a cell
    colours = 1 if part.ndim == 2 else part.shape[2]
    rows = part.reshape(height, CELL, width * CELL * colours)
    most, least = (ends.reshape(height, width, CELL, colours) for ends in (rows.max(1), rows.min(1)))
    most, least = most.max(2), least.min(2)
    contrast = most - least
    y, x = (contrast.max(-1) >= FEW[1]).nonzero()
    count = distinct(part.reshape(height, CELL, width, CELL, colours)[y, :, x])
    found: Mask = ~contrast.any(-1) & (np.ptp(most, -1) >= VIVID)
    found[y, x] = (count <= FEW[0]) | (count <= CORNERS[0]) & (contrast[y, x].min(-1) >= CORNERS[1])
    return found


def with_drafts(
    coded: File, picture: Pixels, cells: Mask, taken: Mask, model: EncoderModel, parsed: Mapping[int, Compact]
) -> File:
    """The file of a picture, with the squares that a draft draws better.

    What is gained or lost beside a pattern does not count: a square at its edge would else be drawn for what is natural
    in it. cells: of `strange_cells`; taken: which blocks are in patches, [⌈H/16⌉, ⌈W/16⌉];
    parsed: slices of the file, which need not be parsed again.
    """
    if not cells.any():
        return coded
    places = _around(cells)
    in_blocks = places.reshape(taken.shape[0], PIXELS // HALF, taken.shape[1], PIXELS // HALF)
    examined = in_blocks.any((1, 3)) & ~taken
    weight = quality.multiplier(quality.fraction(coded.container.header.quality))
    gains = np.zeros((*examined.shape, 2, 2))
    latent = Latent(Reader(io.BytesIO(coded.data)), model, keep_all=True, parsed=parsed)
    for blocks in rectangles(examined):
        gains[blocks.top : blocks.bottom, blocks.left : blocks.right] = weight * _gains(picture, latent, blocks, places)
    wanted = (gains > WORTH) & examined[:, :, None, None]
    chunk = Chunk(chunktypes.DRAFTED, squares.packed(wanted))
    if gains[wanted].sum() <= SHARE * (MAP_BITS + 8 * len(chunk.data)):
        return coded
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


def _gains(picture: Pixels, latent: Latent, blocks: Area, places: Mask) -> NDArray[np.float64]:
    """By how much the squared error of each square is less in a draft: [h, w, 2, 2], as in `patching.losses`.

    places: the 2×2 pixels that count.
    """
    place = Area(*(PIXELS * edge for edge in blocks)).within(Area(0, picture.shape[0], 0, picture.shape[1]))
    original = picture[place.top : place.bottom, place.left : place.right]
    drawn = region_of(latent, place, DecodeSettings())
    every = np.ones((blocks.bottom, blocks.right, 2, 2), np.bool_)
    drafts = drafts_of(every, latent.window(blocks), blocks, blocks)
    drafted = drafted_over(drawn.copy(), drafts, latent.header, latent.model)
    rows, columns = blocks.bottom - blocks.top, blocks.right - blocks.left
    gained = np.zeros((rows * PIXELS, columns * PIXELS), np.float32)
    for sign, shown in ((1, drawn), (-1, drafted)):
        error = np.square(np.subtract(shown, original, dtype=np.float32)).reshape(*original.shape[:2], -1).mean(2)
        gained[: len(error), : error.shape[1]] += sign * error
    gained *= places[blocks.inside(Area(0, 0, 0, 0), PIXELS // HALF)].repeat(HALF, 0).repeat(HALF, 1)
    sums = gained.reshape(rows, 2, SQUARE, columns, 2, SQUARE).sum((2, 5), dtype=np.float64)
    found: NDArray[np.float64] = sums.transpose(0, 2, 1, 3) * (255 / white_of(picture)) ** 2
    return found
