"""One picture through one codec at one setting: a file is written, read again and decoded, under a stop-watch."""

import ctypes
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ldcodec.bench.codecs import Codec
from ldcodec.bench.metrics import MEASURES, applies, psnr, squared_error
from ldcodec.bench.rows import Row
from ldcodec.bench.testset import Source, crc_of, read
from ldcodec.errors import LdcodecError
from ldcodec.pictures.picture import Pixels

PROCESS = Path("/proc/self")
FORGET_PEAK = "5"  # written to clear_refs, it sets the peak of resident memory to what is resident now (proc(5))


class Watch:
    """Seconds of wall clock and of CPU (all threads) and 10⁶ bytes of resident memory beyond those at the start, while
    entered; memory is None where the system does not tell it.

    What earlier work freed is given back to the system first: else the allocator would hand it out again, and memory
    would be told of only once. The times then hold the page faults of fresh memory, as in a new process.
    """

    def __enter__(self) -> "Watch":
        self.seconds = self.cpu_seconds = 0.0
        self.megabytes: float | None = None
        _give_back()
        self._before = _memory("VmRSS") if _forget_peak() else None
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = _memory("VmHWM")
        if self._before is not None and peak is not None:
            self.megabytes = max(0.0, peak - self._before)


def _give_back() -> None:
    with suppress(OSError, AttributeError, TypeError):  # another system, or a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> bool:
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(FORGET_PEAK)
        return True
    return False


def _memory(field: str) -> float | None:
    """A field of /proc/self/status, which counts in units of 1024 bytes, in 10⁶ bytes."""
    with suppress(OSError, ValueError, IndexError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


@dataclass(frozen=True)
class Passage:
    """A picture that went through a file: its size in bytes, what came out, and what both ways took."""

    file_bytes: int
    decoded: Pixels
    encoding: Watch
    decoding: Watch


def passage(codec: Codec, pixels: Pixels, setting: float) -> Passage:
    """Encodes, writes, reads, decodes. Raises LdcodecError if what comes out has another shape or type."""
    with Watch() as encoding:
        data = codec.encode(pixels, setting)
    with tempfile.TemporaryDirectory(prefix="ldcodec-bench-") as folder:
        file = Path(folder, "picture")
        file.write_bytes(data)
        size, read = os.stat(file).st_size, file.read_bytes()
    with Watch() as decoding:
        decoded = codec.decode(read)
    if decoded.shape != pixels.shape or decoded.dtype != pixels.dtype:
        raise LdcodecError(f"{codec.name} gave back {decoded.dtype} {decoded.shape} for {pixels.dtype} {pixels.shape}")
    return Passage(size, decoded, encoding, decoding)


def measure(source: Source, codec: Codec, setting: float, measures: tuple[str, ...] = (), threads: int = 1) -> Row:
    """The row of a picture; measures: names in MEASURES, beside PSNR; threads: what the row is to tell of them."""
    pixels = read(source.path)
    through = passage(codec, pixels, setting)
    height, width = pixels.shape[:2]
    error = squared_error(pixels, through.decoded)
    wanted = {each for each in measures if applies(each, width, height)}
    values = {each: MEASURES[each].compute(pixels, through.decoded) if each in wanted else None for each in MEASURES}
    return Row(
        picture=source.name,
        picture_crc=crc_of(pixels),
        codec=codec.name,
        version=codec.version,
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
