"""Open file → picture: the whole, a region or a preview, from an intact file or from what is left of a damaged one."""

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ldcodec.bitstream.chunktypes import CRITICAL, DRAFTED
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.reader import MAX_LISTED, Damage, Reader
from ldcodec.bitstream.slices import PIXELS, Area
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.request import REALISTIC_STEPS, DecodeSettings, Request
from ldcodec.decoder.tiles import halo_of, picture_of, preview_of, region_of
from ldcodec.diffusion.samplers import OnStep
from ldcodec.errors import DamagedError, LdcodecWarning, SalvageableError, SalvageWarning
from ldcodec.pictures import chunks
from ldcodec.pictures.colour import in_8_bits
from ldcodec.pictures.patches import Mask, Patches
from ldcodec.pictures.picture import Picture, Pixels, at_depth

SIZED = CRITICAL | {DRAFTED}  # chunks that a picture of another size cannot have

FindModel = Callable[[bytes], DecoderModel]


def restore(
    source: Reader,
    find_model: FindModel,
    settings: DecodeSettings,
    request: Request | None = None,
    on_step: OnStep | None = None,
) -> Picture:
    """Decode the picture of a file. find_model: parse id → model, called only for a file that needs one.

    A damaged file raises DamagedError, which lists every damaged part. If the request says salvage, the intact parts
    are decoded and a SalvageWarning lists the lost rows. For a region, only the slices that it needs are read and
    verified.
    """
    request = request or Request()
    extra = _verified_chunks(source, request)
    if source.lossless:
        return _complete(request.cut(chunks.lossless_pixels(extra)), extra, request)
    alpha, patches, drafted = _planes(source, extra)  # first, so that bad ones are refused before the long work
    model = find_model(source.header.parse_id)
    _warn_of_steps(model, settings)
    depth = _drawn_depth(extra, request)
    latent = Latent(source, model, salvage=request.salvage, depth=depth, drafted=drafted)
    pixels = _pixels(latent, patches, settings, request, on_step)
    if latent.damaged:
        warnings.warn(_loss(latent, settings, request), SalvageWarning, stacklevel=3)
    return _complete(pixels, extra, request, alpha)


def restore_each(
    source: Reader, model: DecoderModel | None, variants: Sequence[DecodeSettings], request: Request
) -> Iterator[Picture]:
    """Decode a file once for each of several settings, parsing it only once. A lossless file yields one picture.

    model: the one that the file needs, or None for a lossless file. With several settings the whole latent is kept,
    2.3 kB per 16×16 pixels. Raises like `restore` without salvage.
    """
    extra = _verified_chunks(source, request)
    if model is None:
        yield _complete(request.cut(chunks.lossless_pixels(extra)), extra, request)
        return
    alpha, patches, drafted = _planes(source, extra)
    depth = _drawn_depth(extra, request)
    latent = Latent(source, model, keep_all=len(variants) > 1, depth=depth, drafted=drafted)
    for settings in variants:
        yield _complete(_pixels(latent, patches, settings, request, None), extra, request, alpha)


def misfits(source: Reader) -> list[Damage]:
    """List the chunks with pixels or squares that do not fit the size in the header. No pixels are decoded.

    Raises DamagedError for a truncated or altered chunk.
    """
    size = source.header.width, source.header.height
    numbers = [number for number in range(source.chunk_count) if source.chunk_kind(number) in SIZED]
    problems = [(chunk.kind, chunks.size_problem(chunk, size)) for chunk in map(source.chunk, numbers)]
    return [Damage(f"chunk {kind}", problem) for kind, problem in problems if problem is not None]


def _verified_chunks(source: Reader, request: Request) -> Container:
    """Verify a file as far as the request needs, and return its chunks as a container without slices.

    A region needs few slices, which are verified when they are read. Otherwise the whole file is loaded and verified.
    """
    if request.area(source.header) is not None and not request.salvage:
        source.check_length()
    else:
        source.load()
        _examine(source, request.salvage)
    return _chunks_of(source, request.salvage)


def _examine(source: Reader, salvage: bool) -> None:
    """Refuse a damaged file, listing every damaged part; when salvaging, refuse it only if no slice is intact."""
    damages = source.damage()
    slices = [damage for damage in damages if damage.slice is not None]
    nothing_left = bool(slices) and len(slices) == len(source.spans)
    if damages and not salvage:
        kind = DamagedError if nothing_left else SalvageableError
        raise kind(f"the file is damaged: {_listed(damages)}")
    if nothing_left:
        raise DamagedError("no slice of the file is intact, so nothing can be restored")
    for damage in damages:
        if damage.slice is None:
            warnings.warn(f"{damage} and was left out", LdcodecWarning, stacklevel=5)


def _listed(damages: list[Damage]) -> str:
    names = [str(damage) for damage in damages[:MAX_LISTED]]
    more = [f"and {len(damages) - MAX_LISTED} more parts"] if len(damages) > MAX_LISTED else []
    return "; ".join(names + more)


def _chunks_of(source: Reader, salvage: bool) -> Container:
    """The chunks of a file. A damaged one is left out when salvaging and raises DamagedError otherwise."""
    intact = []
    for number in range(source.chunk_count):
        try:
            intact.append(source.chunk(number))
        except DamagedError:
            if not salvage:
                raise
    return Container(source.header, (), tuple(intact))


def _complete(pixels: Pixels, extra: Container, request: Request, alpha: Pixels | None = None) -> Picture:
    """Combine decoded pixels with the alpha plane, cropped or reduced alike, and the metadata."""
    alpha = chunks.alpha(extra) if alpha is None else alpha
    plane = None if alpha is None else request.cut(alpha)
    depth = request.depth or extra.header.depth
    picture = chunks.unpack(pixels, None if plane is None else at_depth(plane, extra.header.depth), extra)
    return in_8_bits(picture) if depth == 8 else picture.at_depth(depth)


def _drawn_depth(extra: Container, request: Request) -> int | None:
    """The depth in which pixels are drawn: PQ and HLG in all bits, even where 8 are wanted of what they become."""
    return None if chunks.bright(extra) is not None else request.depth


def _planes(source: Reader, extra: Container) -> tuple[Pixels | None, Patches | None, Mask | None]:
    """The alpha plane of a file, its patches, and which squares are drawn as in a draft. Raises DamagedError."""
    return chunks.alpha(extra), chunks.patches_of(extra, source.layout.drawn_grey), chunks.drafted_of(extra)


def _warn_of_steps(model: DecoderModel, settings: DecodeSettings) -> None:
    if settings.realism and settings.steps is None and not model.networks.textured:
        text = f"its model has no synthesis for texture, so realism takes {REALISTIC_STEPS} steps"
        warnings.warn(text, LdcodecWarning, stacklevel=4)  # the caller of `decode_picture`


def _pixels(
    latent: Latent, patches: Patches | None, settings: DecodeSettings, request: Request, on_step: OnStep | None
) -> Pixels:
    area = request.area(latent.header)
    drawn = _drawn(latent, area, settings, request.scale, on_step)
    if patches is not None:
        patches.laid(drawn, area or Area(0, drawn.shape[0], 0, drawn.shape[1]), request.scale)
    in_three = drawn.ndim == 2 and not latent.source.header.grey
    return np.repeat(drawn[:, :, None], 3, axis=2) if in_three else drawn


def _drawn(latent: Latent, area: Area | None, settings: DecodeSettings, scale: int, on_step: OnStep | None) -> Pixels:
    if settings.draft or scale != 1:
        return preview_of(latent, scale, area)
    return picture_of(latent, settings, on_step) if area is None else region_of(latent, area, settings)


def _loss(latent: Latent, settings: DecodeSettings, request: Request) -> str:
    """Describe the lost rows of a salvaged picture; adjacent slices are merged."""
    ranges: list[tuple[int, int]] = []
    for number in sorted({damage.slice for damage in latent.damaged if damage.slice is not None}):
        first, end = latent.source.spans[number].pixel_rows(latent.header.height)
        if ranges and ranges[-1][1] == first:
            first = ranges.pop()[0]
        ranges.append((first, end))
    rows = ", ".join(f"{first} to {end - 1}" for first, end in ranges[:MAX_LISTED])
    halo = halo_of(latent.model, settings)
    nearby = f", and up to {PIXELS * (halo.denoiser + halo.synthesis)} rows next to them may be affected"
    drawn_alone = settings.draft or request.scale != 1
    more = " and others" if len(ranges) > MAX_LISTED else ""
    return f"damaged: rows {rows}{more} are lost and were filled in by the model{'' if drawn_alone else nearby}"
