"""An open file → picture: all of it, a region or a preview; whole files only, or what damage has left of one."""

import warnings
from collections.abc import Callable, Iterator, Sequence

from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import PIXELS
from ldcodec.decoder.preview import preview_of
from ldcodec.decoder.request import View
from ldcodec.decoder.reverse import DecoderModel, DecodeSettings, OnStep
from ldcodec.decoder.stored import SHOWN, chunks_of, completed, exact_picture, examine
from ldcodec.decoder.tiles import Latent, OnSlice, halo_of, picture_of, region_of
from ldcodec.errors import SalvageWarning
from ldcodec.pictures import chunks
from ldcodec.pictures.picture import Picture, Pixels

Find = Callable[[bytes], DecoderModel]


def restore(
    source: Reader,
    find: Find,
    settings: DecodeSettings,
    view: View | None = None,
    on_step: OnStep | None = None,
    on_slice: OnSlice | None = None,
) -> Picture:
    """The picture of a file; find gives the model of a parse id, if one is needed.

    Raises DamagedError that names every damaged part, unless the view salvages: then what is intact is restored and a
    SalvageWarning names the rows that are not. Of a region only the slices that it needs are read and tested.
    """
    view = view or View()
    if source.lossless:
        return exact_picture(source, view)
    examine(source, view)
    found = chunks_of(source, view.salvage)
    alpha = chunks.alpha(found)  # refused, if it is to be, before the work
    latent = Latent(source, find(source.header.parse_id), view.salvage, on_slice)
    pixels = _pixels(latent, settings, view, on_step)
    if latent.damaged:
        halo = halo_of(latent.model, settings) if view.scale == 1 else None
        reach = PIXELS * (halo.denoiser + halo.synthesis) if halo else 0
        warnings.warn(_loss(latent, reach), SalvageWarning, stacklevel=3)
    return completed(pixels, alpha, found, view)


def restore_each(
    source: Reader, model: DecoderModel, wanted: Sequence[DecodeSettings], view: View
) -> Iterator[Picture]:
    """The pictures of a coded file with several settings, one after the other, for which it is parsed once.

    For several its latent is kept whole, 2.3 kB for each 16×16 pixels that are shown. Errors as `restore`, which
    salvages; this does not.
    """
    examine(source, view)
    found = chunks_of(source, salvage=False)
    alpha = chunks.alpha(found)
    latent = Latent(source, model, forgetful=len(wanted) == 1)
    for settings in wanted:
        yield completed(_pixels(latent, settings, view, None), alpha, found, view)


def _pixels(latent: Latent, settings: DecodeSettings, view: View, on_step: OnStep | None) -> Pixels:
    area = view.area(latent.header)
    if view.scale != 1:
        return preview_of(latent, view.scale)
    return picture_of(latent, settings, on_step) if area is None else region_of(latent, area, settings)


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
