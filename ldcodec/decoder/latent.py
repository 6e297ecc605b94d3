"""The latent of a file, read and parsed slice by slice on demand, so that it need not fit into memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.layout import latent_size
from ldcodec.bitstream.reader import Damage, Reader, Slice
from ldcodec.bitstream.slices import PARSED_AT_ONCE, Area, meeting
from ldcodec.decoder.parse import blank_slice, coder_of, parse_slice
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.threads import map_in_threads
from ldcodec.entropy.integer import Parsed
from ldcodec.errors import DamagedError
from ldcodec.pictures.patches import Mask

Use = TypeVar("Use")


@dataclass(frozen=True)
class Compact:
    """A parsed slice in 8 bytes per element: symbols (int16), means (int32), scale indices and kinds (uint8)."""

    symbols: NDArray[np.int16]
    mean: NDArray[np.int32]
    index: NDArray[np.uint8]
    kind: NDArray[np.uint8]


class Latent:
    """The latent of a file. Slices are read and parsed when needed, and only the most recent ones are kept."""

    def __init__(
        self,
        source: Reader,
        model: DecoderModel,
        salvage: bool = False,
        keep_all: bool = False,
        depth: int | None = None,
        drafted: Mask | None = None,
        parsed: Mapping[int, Compact] | None = None,
    ) -> None:
        """Prepare to parse an open file with its model; nothing is read yet.

        `header` is the file's, but grey for all pictures that are drawn as single values.

        salvage: replace a damaged slice by a blank one and list it in `damaged` instead of raising DamagedError.
        keep_all: keep the slices above a window too, at 8 bytes per latent element.
        depth: bits a sample in which the picture is wanted, None for as many as the file says; `header` has them.
        drafted: the squares that are drawn as in a draft (`pictures.squares`), None for none; kept here for who draws.
        parsed: slices that are parsed already, by number.

        Raises ModelError for a file of another model.
        """
        coder_of(source.header, model)
        self.source, self.model, self.drafted = source, model, drafted
        drawn = replace(source.header, grey=source.layout.drawn_grey)
        self.header = replace(drawn, depth=depth or drawn.depth)
        self.rows, self.columns = latent_size(source.header.width, source.header.height)
        self.damaged: list[Damage] = []
        self._salvage, self._keep_all = salvage, keep_all
        self._kept = dict(parsed or {})

    def each(self, numbers: Sequence[int], use: Callable[[Parsed], Use]) -> Iterator[Use]:
        """Parse these slices and yield what `use` returns for each, in order; several are parsed in parallel.

        `use` runs in the thread that parsed the slice. Unless salvaging, raises DamagedError for the first damaged
        slice in this order, whichever thread finds one first.
        """
        area = max((self.source.spans[number].rows for number in numbers), default=1) * self.columns
        threads = at_once(self.model, len(numbers), area)

        def work(read: tuple[int, Slice | DamagedError]) -> tuple[Use, Damage | None]:
            parsed, damage = self._parsed(*read)
            return use(parsed), damage

        with self.model.integers.arithmetic.beside() if threads > 1 else nullcontext():
            for used, damage in map_in_threads(work, map(self._read, numbers), threads):
                if damage is not None:
                    self.damaged.append(damage)
                yield used

    def _read(self, number: int) -> tuple[int, Slice | DamagedError]:
        """Read a slice, or return the error, which is raised when the slice's turn comes.

        Runs in the caller's thread, because the stream has only one position.
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
            return blank_slice(self.header, span, self.model), Damage(
                self.source.slice_name(number), str(error), number
            )

    def window(self, area: Area) -> Parsed:
        """The latent of an area. Slices above it are forgotten, so request areas from top to bottom."""
        numbers = meeting(self.source.spans, area.top, area.bottom)
        if not self._keep_all:
            self._kept = {number: kept for number, kept in self._kept.items() if number >= numbers[0]}
        missing = [number for number in numbers if number not in self._kept]
        self._kept |= dict(zip(missing, self.each(missing, compact), strict=True))
        crops = [self._cropped(number, area) for number in numbers]
        return Parsed(
            np.concatenate([crop.symbols for crop in crops], axis=1).astype(np.int32),
            np.concatenate([crop.mean for crop in crops], axis=1).astype(np.int32),
            np.concatenate([crop.index for crop in crops], axis=1),
            np.concatenate([crop.kind for crop in crops], axis=1),
        )

    def _cropped(self, number: int, area: Area) -> Compact:
        kept, top = self._kept[number], self.source.spans[number].top
        crop = slice(None), slice(max(0, area.top - top), max(0, area.bottom - top)), slice(area.left, area.right)
        return Compact(kept.symbols[crop], kept.mean[crop], kept.index[crop], kept.kind[crop])


def at_once(model: DecoderModel, slices: int, area: int) -> int:
    """How many of some slices are parsed or coded at once, each in a thread; area: positions of the largest.

    Parsing takes 13 kB per position, so the number of positions bounds the memory.
    """
    return max(1, min(slices, PARSED_AT_ONCE // area, model.threads)) if model.integers.arithmetic.parallel else 1


def compact(parsed: Parsed) -> Compact:
    return Compact(parsed.symbols.astype(np.int16), parsed.mean, parsed.index, parsed.kind)  # |s| ≤ 32767
