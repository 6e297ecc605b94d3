"""An open file → picture: all of it, a region or a preview; whole files only, or what damage has left of one."""

import warnings
from collections.abc import Callable, Iterator, Sequence

from ldcodec.bitstream.chunktypes import CRITICAL
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.reader import Damage, Reader
from ldcodec.bitstream.slices import PIXELS
from ldcodec.decoder.latent import Latent, OnSlice
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.request import REALISTIC_STEPS, DecodeSettings, Request
from ldcodec.decoder.reverse import OnStep
from ldcodec.decoder.tiles import halo_of, picture_of, preview_of, region_of
from ldcodec.errors import DamagedError, LdcodecWarning, SalvageableError, SalvageWarning
from ldcodec.pictures import chunks
from ldcodec.pictures.picture import Picture, Pixels

FindModel = Callable[[bytes], DecoderModel]
SHOWN = 8  # damaged parts that one message names


def restore(
    source: Reader,
    find_model: FindModel,
    settings: DecodeSettings,
    request: Request | None = None,
    on_step: OnStep | None = None,
    on_slice: OnSlice | None = None,
) -> Picture:
    """The picture of a file. find_model: parse id → model, called only for files that need one.

    Raises DamagedError that names every damaged part, unless the request salvages: then what is intact is restored and
    a SalvageWarning names the rows that are not. Of a region only the slices that it needs are read and tested.
    """
    request = request or Request()
    beside = _tested_chunks(source, request)
    if source.lossless:
        return _complete(request.cut(chunks.lossless_pixels(beside)), beside, request)
    alpha = chunks.alpha(beside)  # refused, if it must be, before the long work
    model = find_model(source.header.parse_id)
    _warn_of_steps(model, settings)
    latent = Latent(source, model, request.salvage, on_slice)
    pixels = _pixels(latent, settings, request, on_step)
    if latent.damaged:
        warnings.warn(_loss(latent, settings, request), SalvageWarning, stacklevel=3)
    return _complete(pixels, beside, request, alpha)


def restore_each(
    source: Reader, model: DecoderModel | None, wanted: Sequence[DecodeSettings], request: Request
) -> Iterator[Picture]:
    """The pictures of a file with several settings, one after the other, parsing it once; a lossless file has one.

    model: the one that the file needs, None for a lossless file. For several settings the latent is kept whole, 2.3 kB
    for each 16×16 pixels shown. Raises as `restore` without salvage.
    """
    beside = _tested_chunks(source, request)
    if model is None:
        yield _complete(request.cut(chunks.lossless_pixels(beside)), beside, request)
        return
    alpha = chunks.alpha(beside)
    latent = Latent(source, model, keep_all=len(wanted) > 1)
    for settings in wanted:
        yield _complete(_pixels(latent, settings, request, None), beside, request, alpha)


def misfits(source: Reader) -> list[Damage]:
    """Chunks of pixels whose own data claim another size than the header; nothing is decoded.

    Raises DamagedError for a chunk that is cut short or altered.
    """
    size = source.header.width, source.header.height
    numbers = [number for number in range(source.chunk_count) if source.chunk_kind(number) in CRITICAL]
    told = [(chunk.kind, chunks.size_problem(chunk, size)) for chunk in map(source.chunk, numbers)]
    return [Damage(f"chunk {kind}", problem) for kind, problem in told if problem is not None]


def _tested_chunks(source: Reader, request: Request) -> Container:
    """The chunks of a file that has been tested as far as the request needs, as a container without slices.

    A region needs few slices, which are tested when they are read; otherwise the whole file is loaded and tested now.
    """
    if request.area(source.header) is not None and not request.salvage:
        source.check_length()
    else:
        source.load()
        _examine(source, request.salvage)
    return _chunks_of(source, request.salvage)


def _examine(source: Reader, salvage: bool) -> None:
    """Refuse a damaged file and name every damaged part; when salvaging, only one of which nothing is left."""
    found = source.damage()
    slices = [damage for damage in found if damage.slice is not None]
    nothing_left = bool(slices) and len(slices) == len(source.spans)
    if found and not salvage:
        kind = DamagedError if nothing_left else SalvageableError
        raise kind(f"the file is damaged: {_listed(found)}")
    if nothing_left:
        raise DamagedError("no slice of the file is intact, so nothing can be restored")
    for damage in found:
        if damage.slice is None:
            warnings.warn(f"{damage} and was left out", LdcodecWarning, stacklevel=5)


def _listed(damages: list[Damage]) -> str:
    names = [str(damage) for damage in damages[:SHOWN]]
    more = [f"{len(damages) - SHOWN} more parts likewise"] if len(damages) > SHOWN else []
    return "; ".join(names + more)


def _chunks_of(source: Reader, salvage: bool) -> Container:
    """All chunks; when salvaging, without the damaged ones. Raises DamagedError for a damaged one otherwise."""
    found = []
    for number in range(source.chunk_count):
        try:
            found.append(source.chunk(number))
        except DamagedError:
            if not salvage:
                raise
    return Container(source.header, (), tuple(found))


def _complete(pixels: Pixels, beside: Container, request: Request, alpha: Pixels | None = None) -> Picture:
    """Pixels as requested, with the alpha plane cut likewise and the metadata, as one picture."""
    alpha = chunks.alpha(beside) if alpha is None else alpha
    return chunks.unpack(pixels, None if alpha is None else request.cut(alpha), beside)


def _warn_of_steps(model: DecoderModel, settings: DecodeSettings) -> None:
    if settings.realism and settings.steps is None and not model.networks.textured:
        text = f"its model has no synthesis for texture, so realism takes {REALISTIC_STEPS} steps"
        warnings.warn(text, LdcodecWarning, stacklevel=4)


def _pixels(latent: Latent, settings: DecodeSettings, request: Request, on_step: OnStep | None) -> Pixels:
    area = request.area(latent.header)
    if request.scale != 1:
        return preview_of(latent, request.scale)
    return picture_of(latent, settings, on_step) if area is None else region_of(latent, area, settings)


def _loss(latent: Latent, settings: DecodeSettings, request: Request) -> str:
    """What a salvaged picture lacks, in rows of pixels; neighbouring slices are merged."""
    ranges: list[tuple[int, int]] = []
    for number in sorted({damage.slice for damage in latent.damaged if damage.slice is not None}):
        first, end = latent.source.spans[number].pixel_rows(latent.header.height)
        if ranges and ranges[-1][1] == first:
            first = ranges.pop()[0]
        ranges.append((first, end))
    rows = ", ".join(f"{first} to {end - 1}" for first, end in ranges[:SHOWN])
    halo = halo_of(latent.model, settings)
    beside = f", and up to {PIXELS * (halo.denoiser + halo.synthesis)} rows beside them may be disturbed"
    more = " and others" if len(ranges) > SHOWN else ""
    return f"damaged: rows {rows}{more} were filled with what is likely{beside if request.scale == 1 else ''}"
