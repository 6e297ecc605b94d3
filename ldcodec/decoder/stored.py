"""What a file stores beside coded slices: chunks, in them sometimes the whole picture. Nothing here needs a model."""

import warnings

from ldcodec.bitstream.chunktypes import CRITICAL
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.reader import Damage, Reader
from ldcodec.decoder.request import View
from ldcodec.errors import DamagedError, LdcodecWarning
from ldcodec.pictures import chunks
from ldcodec.pictures.picture import Picture, Pixels

SHOWN = 8  # damaged parts that one message names


def examine(source: Reader, view: View) -> None:
    """Refuses a damaged file, naming every damaged part, unless the view salvages; then one of which nothing is left.

    Of a region the slices that it needs are tested when they are read. Raises DamagedError; warns of lost chunks.
    """
    if view.area(source.header) is not None and not view.salvage:
        source.check_length()
        return
    found = source.damage()
    slices = [damage for damage in found if damage.slice is not None]
    if found and not view.salvage:
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


def misfits(source: Reader) -> list[Damage]:
    """Chunks of pixels whose own data tell another size than the header, without decoding them.

    Raises DamagedError for a chunk that is cut short or altered.
    """
    size = source.header.width, source.header.height
    numbers = [number for number in range(source.chunk_count) if source.chunk_kind(number) in CRITICAL]
    told = [(chunk.kind, chunks.size_problem(chunk, size)) for chunk in map(source.chunk, numbers)]
    return [Damage(f"chunk {kind}", problem) for kind, problem in told if problem is not None]


def exact_picture(source: Reader, view: View) -> Picture:
    """The picture of a file that stores it without loss. Raises DamagedError or UsageError."""
    examine(source, view)
    found = chunks_of(source, view.salvage)
    return completed(view.shown(chunks.lossless_pixels(found)), chunks.alpha(found), found, view)


def chunks_of(source: Reader, salvage: bool) -> Container:
    """A container without slices: the chunks of a file, damaged ones left out if it is to be salvaged.

    Raises DamagedError for a damaged one otherwise.
    """
    found = []
    for number in range(source.chunk_count):
        try:
            found.append(source.chunk(number))
        except DamagedError:
            if not salvage:
                raise
    return Container(source.header, (), tuple(found))


def completed(pixels: Pixels, alpha: Pixels | None, beside: Container, view: View) -> Picture:
    """Pixels as a view shows them, the whole picture's alpha and its metadata as one picture."""
    return chunks.unpack(pixels, None if alpha is None else view.shown(alpha), beside)
