"""An open file → pixels: all of them, a region or a preview; whole files only, or what damage has left of one."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldcodec.container import Header
from ldcodec.decoder import DecodeSettings, OnStep
from ldcodec.errors import DamagedError, LdcodecWarning, SalvageWarning, UsageError
from ldcodec.model import Model
from ldcodec.preview import preview_of
from ldcodec.reader import Damage, Reader
from ldcodec.slicing import PIXELS
from ldcodec.tiles import Area, Latent, OnSlice, halo_of, picture_of, region_of

SCALES = (1, 2, 4, 8, 16)
SHOWN = 8  # damaged parts that one message names

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """What of a file is wanted.

    region: (x, y, width, height) in pixels, None for all; scale: 1, or 2, 4, 8 or 16 for a preview at 1/scale of the
    size; salvage: restore what damage has left. Raises UsageError outside these.
    """

    region: tuple[int, int, int, int] | None = None
    scale: int = 1
    salvage: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UsageError(f"the scale must be 1/1, 1/2, 1/4, 1/8 or 1/16, not 1/{self.scale}")
        if self.region is not None and self.scale != 1:
            raise UsageError("a preview shows the whole picture: give a region or a scale")

    def area(self, header: Header) -> Area | None:
        """The region, None for the whole picture. Raises UsageError where it leaves the picture."""
        if self.region is None:
            return None
        x, y, width, height = self.region
        if min(x, y) < 0 or min(width, height) < 1 or x + width > header.width or y + height > header.height:
            size = f"{header.width}x{header.height}"
            raise UsageError(f"the region {x},{y},{width},{height} does not lie in a picture of {size} pixels")
        return Area(y, y + height, x, x + width)


def restore(
    source: Reader,
    model: Model,
    settings: DecodeSettings,
    view: View | None = None,
    on_step: OnStep | None = None,
    on_slice: OnSlice | None = None,
) -> Pixels:
    """The pixels of a file, uint8 (H, W, 3) or (H, W).

    Raises DamagedError that names every damaged part, unless the view salvages: then what is intact is restored and a
    SalvageWarning names the rows that are not. Of a region only the slices that it needs are read and tested.
    """
    view = view or View()
    area = view.area(source.header)
    if area is None or view.salvage:
        _examine(source, view.salvage)
    else:
        source.check_length()
    latent = Latent(source, model, view.salvage, on_slice)
    if view.scale != 1:
        pixels = preview_of(latent, view.scale)
    else:
        pixels = picture_of(latent, settings, on_step) if area is None else region_of(latent, area, settings)
    if latent.damaged:
        halo = halo_of(model, settings) if view.scale == 1 else None
        reach = PIXELS * (halo.denoiser + halo.synthesis) if halo else 0
        warnings.warn(_loss(latent, reach), SalvageWarning, stacklevel=3)
    return pixels


def _examine(source: Reader, salvage: bool) -> None:
    """Refuses a damaged file, or one of which nothing can be restored; tells of lost chunks."""
    found = source.damage()
    slices = [damage for damage in found if damage.slice is not None]
    if found and not salvage:
        advice = "" if len(slices) == len(source.spans) else "; --salvage restores the rest"
        raise DamagedError(f"the file is damaged: {listed(found)}{advice}")
    if slices and len(slices) == len(source.spans):
        raise DamagedError("no slice of the file is intact, so nothing can be restored")
    for damage in found:
        if damage.slice is None:
            warnings.warn(f"{damage} and was left out", LdcodecWarning, stacklevel=4)


def listed(damages: list[Damage]) -> str:
    """Damaged parts in one line, the first few by name."""
    names = [str(damage) for damage in damages[:SHOWN]]
    more = [f"{len(damages) - SHOWN} more parts likewise"] if len(damages) > SHOWN else []
    return "; ".join(names + more)


def _loss(latent: Latent, reach: int) -> str:
    """What a salvaged picture lacks, in rows of pixels; neighbouring slices are told as one."""
    ranges: list[tuple[int, int]] = []
    for number in sorted({damage.slice for damage in latent.damaged if damage.slice is not None}):
        first, end = latent.source.spans[number].pixel_rows(latent.header.height)
        if ranges and ranges[-1][1] == first:
            first = ranges.pop()[0]
        ranges.append((first, end))
    rows = ", ".join(f"{first} to {end - 1}" for first, end in ranges[:SHOWN])
    beside = f", and up to {reach} rows beside them may be disturbed" if reach else ""
    return f"damaged: rows {rows}{' and others' if len(ranges) > SHOWN else ''} were filled with what is likely{beside}"
