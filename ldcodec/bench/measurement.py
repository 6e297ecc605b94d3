"""One picture through one codec at one setting: a file is written, read again and decoded, with time and memory."""

import ctypes
import math
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from ldcodec.bench.budget import setting_within
from ldcodec.bench.codecs import Codec
from ldcodec.bench.metrics import MEASURES, applies, psnr, squared_error
from ldcodec.bench.rows import Row
from ldcodec.bench.testset import Source, crc_of, read
from ldcodec.errors import LdcodecError
from ldcodec.pictures.picture import Pixels

PROCESS = Path("/proc/self")
RESET_PEAK = "5"  # written to clear_refs, it resets the peak of resident memory to the current value (proc(5))


class Watch:
    """A context that measures wall-clock and CPU seconds (of all threads) and the peak of resident memory.

    megabytes: 10⁶ bytes beyond what was resident at the start; None on systems that do not report it. Memory freed by
    earlier work is returned to the system first, because the allocator would otherwise reuse it unseen. The seconds
    therefore include page faults of fresh memory, as in a new process.
    """

    def __enter__(self) -> "Watch":
        self.seconds = self.cpu_seconds = 0.0
        self.megabytes: float | None = None
        _trim_heap()
        self._before = _memory("VmRSS") if _reset_peak() else None
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = _memory("VmHWM")
        if self._before is not None and peak is not None:
            self.megabytes = max(0.0, peak - self._before)


def _trim_heap() -> None:
    with suppress(OSError, AttributeError, TypeError):  # another system, or a C library without the function
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> bool:
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
        return True
    return False


def _memory(field: str) -> float | None:
    """A field of /proc/self/status in 10⁶ bytes; the file itself counts in units of 1024 bytes."""
    with suppress(OSError, ValueError, IndexError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


@dataclass(frozen=True)
class Passage:
    """A picture that went through a file: the file's size, the decoded pixels, and what each direction took."""

    file_bytes: int
    decoded: Pixels
    encoding: Watch
    decoding: Watch


def passage(codec: Codec, pixels: Pixels, setting: float) -> Passage:
    """Encode, write, read and decode. Raises LdcodecError if the result has another shape or type."""
    with Watch() as encoding:
        data = codec.encode(pixels, setting)
    with tempfile.TemporaryDirectory(prefix="ldcodec-bench-") as folder:
        file = Path(folder, "picture")
        file.write_bytes(data)
        size, read = os.stat(file).st_size, file.read_bytes()
    with Watch() as decoding:
        decoded = codec.decode(read)
    if decoded.shape != pixels.shape or decoded.dtype != pixels.dtype:
        raise LdcodecError(f"{codec.name} returned {decoded.dtype} {decoded.shape} for {pixels.dtype} {pixels.shape}")
    return Passage(size, decoded, encoding, decoding)


def measure_within(source: Source, codec: Codec, limit: float, measures: tuple[str, ...] = (), threads: int = 1) -> Row:
    """Measure the largest file of at most `limit` bits per pixel; arguments as of `measure`.

    A codec whose files are all larger is measured at its smallest, which the row's bpp tells.
    """
    size = math.floor(limit * source.width * source.height / 8)
    setting = setting_within(codec, read(source.path), size, _known_sizes(codec.version, source.crc))
    return replace(measure(source, codec, setting, measures, threads), limit=limit)


@lru_cache(maxsize=2)
def _known_sizes(version: str, crc: str) -> dict[int, int]:
    """What searches have found for a codec and a picture: other limits follow, and go on from there."""
    return {}


def measure(source: Source, codec: Codec, setting: float, measures: tuple[str, ...] = (), threads: int = 1) -> Row:
    """Measure one row; measures: names in MEASURES, besides PSNR; threads: only recorded."""
    pixels = read(source.path)
    height, width = pixels.shape[:2]
    through = passage(codec, pixels, setting)
    error = squared_error(pixels, through.decoded)
    wanted = {each for each in measures if applies(each, width, height)}
    values = {each: MEASURES[each].compute(pixels, through.decoded) if each in wanted else None for each in MEASURES}
    return Row(
        picture=source.name,
        picture_crc=crc_of(pixels),
        codec=codec.name,
        version=codec.version,
        limit=None,
        setting=float(setting),
        width=width,
        height=height,
        file_bytes=through.file_bytes,
        bpp=8 * through.file_bytes / (width * height),
        mse=error,
        psnr=psnr(error),
        **values,
        encode_s=through.encoding.seconds,
        encode_cpu_s=through.encoding.cpu_seconds,
        decode_s=through.decoding.seconds,
        decode_cpu_s=through.decoding.cpu_seconds,
        encode_mb=through.encoding.megabytes,
        decode_mb=through.decoding.megabytes,
        threads=threads,
    )
