"""A file's latent, slice by slice, and its picture, tile by tile, so that neither lies in memory as a whole in floats.

A tile is rendered from its own latents and a halo around them as wide as the networks see, cut to the latent of the
whole picture: slices do not show, and the noise goes by absolute position, so tiles give the pixels that one pass over
everything would give, within a level.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.layout import latent_size
from ldcodec.bitstream.reader import Damage, Reader, Slice
from ldcodec.bitstream.slices import PARSED_AT_ONCE, PIXELS, Area, meeting
from ldcodec.decoder.reverse import (
    DecoderModel,
    DecodeSettings,
    OnStep,
    blank_slice,
    check_model,
    condition,
    parse_slice,
    reconstruct,
    render,
)
from ldcodec.decoder.threads import lanes_for, side_by_side
from ldcodec.diffusion.samplers import evaluations
from ldcodec.entropy.integer import Parsed
from ldcodec.errors import DamagedError
from ldcodec.pictures.picture import Pixels

WHOLE_AREA = 1 << 13  # latent positions, 2.1 megapixels: the largest picture that the networks see in one pass
TILE = 96  # latent rows and columns of a tile without its halo
DENOISER_HALO = 24  # at most, however many evaluations: what lies further off moves single pixels by one level

OnSlice = Callable[[], object]
Use = TypeVar("Use")


@dataclass(frozen=True)
class _Compact:
    """A parsed slice in 7 bytes an element: symbols int16, means int32 (2⁻⁹ step), scale indices uint8."""

    symbols: NDArray[np.int16]
    mean: NDArray[np.int32]
    index: NDArray[np.uint8]


class Latent:
    """The latent of a file, of which only slices that are asked for are read and parsed, and the last ones kept."""

    def __init__(
        self,
        source: Reader,
        model: DecoderModel,
        salvage: bool = False,
        on_slice: OnSlice | None = None,
        forgetful: bool = True,
    ) -> None:
        """salvage: damaged slices become blank ones and are added to `damaged`, where DamagedError would be raised.

        on_slice is called after each slice; forgetful: whether slices above a window are dropped, so that memory stays
        bounded. Raises ModelError for another model's file.
        """
        check_model(source.header, model)
        self.source, self.model, self.header = source, model, source.header
        self.rows, self.columns = latent_size(source.header.width, source.header.height)
        self.damaged: list[Damage] = []
        self._salvage, self._on_slice, self._forgetful = salvage, on_slice, forgetful
        self._kept: dict[int, _Compact] = {}

    def parse(self, number: int) -> Parsed:
        """One slice by its number from 0, not kept. Raises DamagedError unless damage is to be passed over."""
        return next(self.each([number], _as_it_is))

    def each(self, numbers: Sequence[int], use: Callable[[Parsed], Use]) -> Iterator[Use]:
        """What `use` makes of each of these slices, in their order; as many at once as there are threads for, within
        PARSED_AT_ONCE. Errors as for `parse`, in the order of the slices whatever runs first.

        `use` is called where the slice is parsed: in a thread of its own where several are.
        """
        area = max((self.source.spans[number].rows for number in numbers), default=1) * self.columns
        lanes = lanes_for(len(numbers), PARSED_AT_ONCE // area) if self.model.integers.arithmetic.in_lanes else 1

        def parsed(read: tuple[int, Slice | DamagedError]) -> tuple[Use, Damage | None]:
            found, damage = self._parsed(*read)
            return use(found), damage

        for used, damage in side_by_side(parsed, map(self._read, numbers), lanes):
            if damage is not None:
                self.damaged.append(damage)
            if self._on_slice is not None:
                self._on_slice()
            yield used

    def _read(self, number: int) -> tuple[int, Slice | DamagedError]:
        """A slice's bytes; what is wrong with them is kept, to be told in its place. A file has one position only, so
        that slices are read one after the other.
        """
        try:
            return number, self.source.slice(number)
        except DamagedError as error:
            return number, error

    def _parsed(self, number: int, read: Slice | DamagedError) -> tuple[Parsed, Damage | None]:
        span = self.source.spans[number]
        try:
            if isinstance(read, DamagedError):
                raise read
            return parse_slice(read, self.header, span, self.model), None
        except DamagedError as error:
            if not self._salvage:
                raise
            first, last = span.pixel_rows(self.header.height)
            part = f"slice {number + 1} of {len(self.source.spans)} (rows {first} to {last - 1})"
            return blank_slice(self.header, span, self.model), Damage(part, str(error), number)

    def window(self, area: Area) -> Parsed:
        """The latent of an area. Slices above it may be forgotten, so that areas are best asked for from the top."""
        wanted = meeting(self.source.spans, area.top, area.bottom)
        if self._forgetful:
            self._kept = {number: held for number, held in self._kept.items() if number >= wanted[0]}
        missing = [number for number in wanted if number not in self._kept]
        self._kept |= dict(zip(missing, self.each(missing, _compact), strict=True))
        parts = [self._part(number, area) for number in wanted]
        return Parsed(
            np.concatenate([part.symbols for part in parts], axis=1).astype(np.int32),
            np.concatenate([part.mean for part in parts], axis=1).astype(np.int32),
            np.concatenate([part.index for part in parts], axis=1),
        )

    def _part(self, number: int, area: Area) -> _Compact:
        held, top = self._kept[number], self.source.spans[number].top
        part = slice(None), slice(max(0, area.top - top), max(0, area.bottom - top)), slice(area.left, area.right)
        return _Compact(held.symbols[part], held.mean[part], held.index[part])


def _as_it_is(parsed: Parsed) -> Parsed:
    return parsed


def _compact(parsed: Parsed) -> _Compact:
    return _Compact(parsed.symbols.astype(np.int16), parsed.mean, parsed.index)


@dataclass(frozen=True)
class Halo:
    """Latent rows and columns that the pixels of a tile depend on, beyond the tile's own."""

    denoiser: int
    synthesis: int


def halo_of(model: DecoderModel, settings: DecodeSettings) -> Halo:
    """What the networks of a model see with these settings."""
    asked = evaluations(settings.sampler, settings.course(model).steps)
    networks = model.networks
    return Halo(min(asked * networks.denoiser_halo, DENOISER_HALO), networks.synthesis_halo)


def picture_of(latent: Latent, settings: DecodeSettings, on_step: OnStep | None = None) -> Pixels:
    """The whole picture of a file, uint8 (H, W, 3) or (H, W): in one pass where it is small, else tile by tile."""
    header = latent.header
    if latent.rows * latent.columns <= WHOLE_AREA:
        known = condition(latent.window(Area(0, latent.rows, 0, latent.columns)), header, latent.model)
        return render(known, header, latent.model, settings, on_step)
    return region_of(latent, Area(0, header.height, 0, header.width), settings)


def region_of(latent: Latent, region: Area, settings: DecodeSettings) -> Pixels:
    """The pixels of a region of the picture, uint8 (H, W, 3) or (H, W), from the slices it needs."""
    shape = (region.bottom - region.top, region.right - region.left)
    pixels = np.empty(shape if latent.header.grey else (*shape, 3), np.uint8)
    for place, rendered in tiles_of(latent, region, settings):
        pixels[place.inside(region)] = rendered
    return pixels


def tiles_of(latent: Latent, region: Area, settings: DecodeSettings) -> Iterator[tuple[Area, Pixels]]:
    """The tiles of a region of pixels, row by row from the top: where each lies in the picture, and its pixels."""
    halo = halo_of(latent.model, settings)
    first, last = region.top // PIXELS, -(-region.bottom // PIXELS)
    left, right = region.left // PIXELS, -(-region.right // PIXELS)
    for top, bottom in evenly(first, last, TILE):
        for start, end in evenly(left, right, TILE):
            tile = Area(top, bottom, start, end)
            shown = Area(
                max(region.top, top * PIXELS),
                min(region.bottom, bottom * PIXELS),
                max(region.left, start * PIXELS),
                min(region.right, end * PIXELS),
            )
            yield shown, _tile(latent, tile, halo, settings)[shown.inside(Area(*(PIXELS * edge for edge in tile)))]


def _tile(latent: Latent, tile: Area, halo: Halo, settings: DecodeSettings) -> Pixels:
    """The pixels of a tile of latents."""
    seen = tile.grown(halo.synthesis, latent.rows, latent.columns)
    window = seen.grown(halo.denoiser, latent.rows, latent.columns)
    known = condition(latent.window(window), latent.header, latent.model)
    restored = reconstruct(known, latent.model, settings, origin=(window.top, window.left))
    rows, columns = seen.inside(window)
    share = settings.course(latent.model).texture
    least, grained = (part[:, :, rows, columns] for part in restored)
    picture = latent.model.networks.drawn(least, grained, known.quality, share)
    rows, columns = tile.inside(seen, PIXELS)
    return latent.model.networks.levels(picture[0, :, rows, columns], latent.header.grey)


def evenly(start: int, end: int, largest: int) -> Iterator[tuple[int, int]]:
    """start … end cut into the fewest parts of at most `largest`, all about equal."""
    count = -(-(end - start) // largest)
    edges = [start + (end - start) * k // count for k in range(count + 1)]
    return pairwise(edges)
