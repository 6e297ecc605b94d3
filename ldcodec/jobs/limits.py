"""Limits that inputs are held to before anything of their claimed size is made: pixels, symbols, memory; the cores.

The figures in bytes were measured with `base` through ncnn (docs/large-pictures.md) and are rounded up. Sizes of tiles
and their halos are those of the code that makes them and of the model that will be used.
"""

import ctypes
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ldcodec.bitstream.chunktypes import PATCHES
from ldcodec.bitstream.layout import Header, latent_size
from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import (
    DENOISER_HALO,
    DRAWN_AT_ONCE,
    PARSED_AT_ONCE,
    REFINED_MARGIN,
    REFINED_SIDE,
    UNIT,
    Area,
    Span,
    cut,
    groups,
    is_large,
    tiling,
)
from ldcodec.decoder.threads import let_threads_sleep
from ldcodec.encoder.target import EncodeSettings
from ldcodec.entropy.config import Config
from ldcodec.entropy.modelfiles import read_config
from ldcodec.errors import DamagedError, LdcodecError, ModelError, PictureError, TooManyPixelsError
from ldcodec.jobs.messages import Console

PROGRAM = 250e6  # interpreter, libraries and weights
TORCH = 300e6  # beyond that, for refinement alone
TILED = 120e6  # weights in the form for tiles
CODING = 35e3  # each latent position of a slice while it is coded, with what is kept of freed memory
PARSING = 28e3  # each latent position of a slice while it is parsed
ANALYSED = 2.6e3  # each latent position of a row of tiles, analysed, and of that before it
KEPT = 2.3e3  # each latent position of the rows that tiles need
TILE_POSITION = 20e3  # each latent position of a tile and its halo while it is analysed
DRAWN_POSITION = 9e3  # and while it is drawn, most of which needs less of the halo
ONE_PASS = 220  # each pixel of a picture that is coded or rendered in one pass
REFINING = 500e6  # a whole square of the latent while it is refined, and in proportion for less
OPENED = (
    8  # each pixel while Pillow reads or writes the picture: 4 bytes of Pillow's, 3 of ours; of 16 bits twice as many
)
LAID = 16  # each pixel of patches, of 8 bits
PNG_RATIO = 1032  # bytes of a PNG's rows that one byte of its file can hold at most, a limit of deflate
MALLOC = (-1, 1 << 28), (-2, 1 << 24), (-3, 12 << 20)  # glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Limits:
    """Tests inputs against the limits of one call, and warns of work that will need much of the memory."""

    def __init__(self, console: Console, max_pixels: int, share: float | None = None) -> None:
        """share: bytes of memory for this process, one of several; None where it works alone."""
        self._console, self._max_pixels, self._share = console, max_pixels, share

    def check_picture(
        self, stream: BinaryIO, settings: EncodeSettings | None = None, weights: Path | None = None, page: int = 1
    ) -> None:
        """Test a picture file before it is decoded.

        settings: how it will be encoded, None where it is only shown; weights: the file with the integers of the model
        that a lossy target needs; page: the one of a TIFF file that is taken, counted from 1. A file that is no picture
        passes, because reading it will report why. Raises LdcodecError.
        """
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # this file's size is tested here
        claimed = _claimed_size(stream, page)
        self._limit_pillow()
        if claimed is None:
            return
        width, height, wide, problem = claimed
        self._check_pixels(width, height)
        if problem:
            raise PictureError(problem)
        keep_memory()
        effort, config = 1, None
        if settings is not None and not settings.target.lossless:
            effort, config = settings.effort, config_of(weights)
        halo = 0 if config is None else config.analysis.halo
        self.check_memory(encoding_memory(width, height, cut(width, height), effort, halo, wide))

    def check_file(
        self, source: Reader, region: tuple[int, int, int, int] | None, scale: int, weights: Path | None
    ) -> None:
        """Test an .ldc file before its model is loaded.

        region (x, y, width, height) and scale 1..16 are what is wanted of it; weights: the file with the integers of
        its model, None if that is not installed. Raises LdcodecError.
        """
        header = source.header
        shown = region[2] * region[3] if region else header.width * header.height // scale**2
        self._check_pixels(header.width, header.height)
        if source.lossless:
            self._limit_pillow()
            self.check_memory(OPENED * sample_bytes(header) * header.width * header.height)
            return
        if not source.holds_a_slice():
            raise DamagedError("the file is cut short before the end of its first slice, so nothing can be restored")
        config = config_of(weights)
        if weights is None or config is None:  # loading the model will report why
            return
        _check_payloads(source, weights)
        keep_memory()
        needed = decoding_memory(header, source.spans, config.synthesis.halo + DENOISER_HALO, shown)
        self.check_memory(needed + patching_memory(source))

    def check_memory(self, needed: float) -> None:
        """Raise LdcodecError if that many bytes are not free; warn if they are more than half of the free memory."""
        bounds = [bound for bound in (free_memory(), self._share) if bound is not None]
        if not bounds or needed <= min(bounds) / 2:
            return
        available = min(bounds)
        shared = " for it beside other jobs; see --jobs" if available == self._share else ""
        line = f"needs about {amount(needed)} of memory, {amount(available)} are free{shared}"
        if needed > available:
            raise LdcodecError(line)
        self._console.note(f"note: {line}")

    def _limit_pillow(self) -> None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = max(1, self._max_pixels // 2)  # Pillow refuses from twice this number on

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise TooManyPixelsError(f"{width}x{height} pixels are more than the {self._max_pixels} allowed")


def config_of(weights: Path | None) -> Config | None:
    """The sizes of the model in a weights file; None if there is no readable one, which loading it will report."""
    with suppress(ModelError):
        return None if weights is None else read_config(weights)
    return None


def _check_payloads(source: Reader, weights: Path) -> None:
    """Refuse lengths that cannot hold a slice's symbols, as `read_slice` does, before seconds go into loading torch."""
    from ldcodec.entropy.weights import read_coder

    columns = -(-source.header.width // 64)
    try:
        coder = read_coder(weights, source.header.parse_id)
    except ModelError:  # reported when the model is loaded
        return
    for number, span in enumerate(source.spans):
        length = source.payload_length(number)
        if coder.is_too_small(length, span.rows // UNIT * columns):
            what = f"slice {number + 1} of {len(source.spans)}"
            raise DamagedError(f"the header lies: {what} cannot hold its symbols in {length} bytes")


class _ClaimedSize(NamedTuple):
    """The size in pixels that a picture file claims, bytes a sample, and the reason why it cannot be true, if any."""

    width: int
    height: int
    wide: int
    problem: str


def _claimed_size(stream: BinaryIO, page: int) -> _ClaimedSize | None:
    """What a picture file claims; None for a pipe, which can be read only once, and for a file that is no picture."""
    from ldcodec.pictures.kinds import opened
    from ldcodec.pictures.samples import sample_bytes as bytes_of

    if not stream.seekable():
        return None
    try:
        length = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        with opened(stream, page) as image:
            lies = image.format == "PNG" and image.width * image.height * _bits(image.mode) > 8 * PNG_RATIO * length
            problem = f"{image.width}x{image.height} pixels do not fit its {length} bytes" if lies else ""
            return _ClaimedSize(*image.size, bytes_of(image), problem)
    except Exception:  # Pillow raises nearly anything; reading the picture reports it
        return None
    finally:
        stream.seek(0)


def _bits(mode: str) -> int:
    """Bits that a pixel of a Pillow mode takes in a PNG at least."""
    return {"RGB": 24, "RGBA": 32, "LA": 16}.get(mode, 1)


def sample_bytes(header: Header) -> int:
    """The bytes of a sample of a decoded picture."""
    return 1 if header.depth == 8 else 2


def encoding_memory(width: int, height: int, spans: list[Span], effort: int, halo: int, wide: int = 1) -> float:
    """Bytes that the process takes at its peak while it compresses a picture.

    effort: 1..9; halo: latent rows around a tile that the analysis needs; wide: bytes of a sample.
    """
    rows, columns = latent_size(width, height)
    square = (REFINED_SIDE + 2 * REFINED_MARGIN) ** 2
    refining = TORCH + REFINING * min(1.0, rows * columns / square) if effort > 1 else 0.0
    if not is_large(width, height):
        return PROGRAM + max(ONE_PASS * width * height, refining)
    together = max(group[-1].bottom - group[0].top for group in groups(spans))
    strip = together * columns * ANALYSED
    tile = _largest(Area(0, together, 0, columns), halo, rows, columns).size * TILE_POSITION
    work = TILED + strip + _at_once(spans, columns) * CODING + max(tile, refining)  # slices are coded meanwhile
    return max(OPENED * wide * width * height, PROGRAM + 3 * wide * width * height + work)


def decoding_memory(header: Header, spans: list[Span], halo: int, shown: int) -> float:
    """Bytes that the process takes at its peak while it decompresses.

    halo: latent rows around a tile that its pixels depend on; shown: pixels of the picture that are wanted.
    """
    rows, columns = latent_size(header.width, header.height)
    if not is_large(header.width, header.height):
        return PROGRAM + ONE_PASS * header.width * header.height
    parsing = _at_once(spans, columns) * PARSING
    tile = _largest(Area(0, rows, 0, columns), halo, rows, columns)
    kept = (tile.bottom - tile.top + max(span.rows for span in spans)) * columns * KEPT
    drawing = DRAWN_AT_ONCE * tile.size * DRAWN_POSITION
    shown *= sample_bytes(header)
    return PROGRAM + max(OPENED * shown, TILED + 3 * shown + kept + parsing + drawing)  # parsed while tiles are drawn


def patching_memory(source: Reader) -> float:
    """Bytes that the patches of a file take while they are laid over what was drawn; 0 where there are none."""
    if not source.layout.patched:
        return 0
    from ldcodec.pictures.patches import area_of

    number = next(k for k in range(source.chunk_count) if source.chunk_kind(k) == PATCHES)
    with suppress(DamagedError):  # which decoding reports
        area = area_of(source.chunk(number).data, (source.header.width, source.header.height))
        return LAID * sample_bytes(source.header) * area
    return 0


def _largest(area: Area, halo: int, rows: int, columns: int) -> Area:
    """The largest tile of an area of a latent of so many rows and columns, with its halo."""
    return max((tile.grown(halo, rows, columns) for tile in tiling(area, halo)), key=lambda seen: seen.size)


def _at_once(spans: list[Span], columns: int) -> int:
    """Latent positions that are parsed or coded at once, where there are as many threads."""
    largest = max(span.rows for span in spans) * columns
    return largest * max(1, min(len(spans), PARSED_AT_ONCE // largest))


def keep_memory() -> None:
    """Make glibc keep freed memory for the next arrays, but for blocks of 12 MB and more; elsewhere this does nothing.

    By itself it gives freed blocks of a megabyte back to the system at first, which must then fill as many pages with
    zeros for the next array: a tenth of the time of a small picture, a quarter of that of a large one. Later it keeps
    blocks of up to 32 MB, which slices and tiles consist of, in pieces that do not fit the next slice.
    """
    with suppress(OSError, AttributeError, TypeError):
        options = ctypes.CDLL(None).mallopt
        for option, size in MALLOC:
            options(option, size)


def free_memory() -> float | None:
    """Bytes that this machine can still give, within the limit of the control group; None where that is unknown."""
    available = _field(Path("/proc/meminfo"), "MemAvailable:")
    limit, used = _number(Path("/sys/fs/cgroup/memory.max")), _number(Path("/sys/fs/cgroup/memory.current"))
    bounds = [1024 * available] if available is not None else []
    bounds += [max(0.0, limit - used)] if limit is not None and used is not None else []
    return min(bounds, default=None)


def amount(size: float) -> str:
    """A number of bytes for people, such as 1.2 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _field(path: Path, name: str) -> float | None:
    try:
        lines = path.read_text().splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(name)), None)
    except (OSError, ValueError, IndexError):
        return None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def bound_threads(threads: int) -> None:
    """Bound the threads of libraries that are not imported yet: they read the environment when they are.

    They sleep while they wait, as in the calling program (`__main__`), whose environment not every process has.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    let_threads_sleep()
