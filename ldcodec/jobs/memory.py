"""How much memory work will take and how much is free: told before, so that nothing dies half-way.

The figures in bytes were measured with the shipped model (docs/large-pictures.md) and are rounded up.
"""

import ctypes
from contextlib import suppress
from pathlib import Path

from ldcodec.bitstream.layout import Header, latent_size
from ldcodec.bitstream.slices import PARSED_AT_ONCE, Span

PROGRAM = 550e6  # interpreter, torch and weights
CODING = 24e3  # each latent position of a slice while it is coded
PARSING = 14e3  # each latent position of all slices that are parsed at once
KEPT = 2.3e3  # each latent position of the rows that tiles need
TILE_POSITION = 16e3  # each latent position of a tile and its halo
ONE_PASS = 200  # each pixel of a picture that is coded or rendered in one pass
REFINING = 500e6  # a whole square of the latent while it is refined, and in proportion for less
REFINED_AREA = 1 << 12  # latent positions of such a square and its margin, as in `refinement`
ONE_PASS_AREA = 1 << 13  # latent positions, as `tiles.WHOLE_AREA`
MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD
OPENED = 8  # each pixel while Pillow reads or writes the picture: 4 bytes of its own, 3 of ours


def for_encoding(width: int, height: int, spans: list[Span], effort: int = 1) -> float:
    """Bytes that compressing a picture takes at its peak, all of the process counted. effort: 1..9."""
    rows, columns = latent_size(width, height)
    refining = REFINING * min(1.0, rows * columns / REFINED_AREA) if effort > 1 else 0.0
    if not is_large(width, height):
        return PROGRAM + max(ONE_PASS * width * height, refining)
    strip = min(rows, 96) * columns * 1.3e3 + 118**2 * TILE_POSITION
    work = max(strip, _largest(spans, columns) * CODING, refining)
    return max(OPENED * width * height, PROGRAM + 3 * width * height + work)


def for_pillow(width: int, height: int) -> float:
    """Bytes that restoring a picture stored without loss takes at its peak."""
    return OPENED * width * height


def for_decoding(header: Header, spans: list[Span], halo: int, shown: int) -> float:
    """Bytes that decompressing takes at its peak, with as many threads as make it largest.

    halo: latent rows around a tile; shown: pixels of the picture that are wanted.
    """
    rows, columns = latent_size(header.width, header.height)
    largest = _largest(spans, columns)
    parsing = min(rows * columns, max(largest, PARSED_AT_ONCE)) * PARSING
    if not is_large(header.width, header.height):
        return PROGRAM + max(parsing, ONE_PASS * header.width * header.height)
    height = min(rows, 96 + 2 * halo)
    kept = (height + max(span.rows for span in spans)) * columns * KEPT
    tile = height * min(columns, 96 + 2 * halo) * TILE_POSITION
    return PROGRAM + max(OPENED * shown, 3 * shown + kept + max(parsing, tile))


def _largest(spans: list[Span], columns: int) -> int:
    return max(span.rows for span in spans) * columns


def give_back_at_once() -> None:
    """Makes glibc return freed blocks from a megabyte on to the system at once, for the rest of the process.

    By itself it keeps blocks of up to 32 MB, just what slices and tiles consist of, in pieces that the next slice does
    not fit: 1.2 GB instead of 0.8 at the peak of a slice of 3 megapixels. Elsewhere this does nothing.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 20)


def is_large(width: int, height: int) -> bool:
    """Whether a picture is coded and rendered in parts."""
    rows, columns = latent_size(width, height)
    return rows * columns > ONE_PASS_AREA


def free() -> float | None:
    """Bytes that this machine can still give, within the limit of the control group; None where it does not tell."""
    available = _field(Path("/proc/meminfo"), "MemAvailable:")
    limit, used = _number(Path("/sys/fs/cgroup/memory.max")), _number(Path("/sys/fs/cgroup/memory.current"))
    bounds = [1024 * available] if available is not None else []
    bounds += [max(0.0, limit - used)] if limit is not None and used is not None else []
    return min(bounds, default=None)


def amount(size: float) -> str:
    """A number of bytes for people."""
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
