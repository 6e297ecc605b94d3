"""Time and memory of large pictures: `python -m tests.large [--megapixels 1,4,16,64,100] [--quality 40] [--threads 1]`.

Makes a picture of each size from the sample (crops at random places, twice enlarged), compresses and decompresses it in
processes of their own and prints a row of docs/large-pictures.md: seconds of processor time and peak memory of both
directions, the memory also beyond the picture's own 3 bytes a pixel. Not a test: figures depend on the machine.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "landscape.png"
CROP = 256


def mosaic(megapixels: float, seed: int = 0) -> NDArray[np.uint8]:
    """A square picture (H, W, 3) of crops of the sample, each turned at random and enlarged to twice its size."""
    rng, side = np.random.default_rng(seed), round(math.sqrt(megapixels * 1e6))
    source = np.asarray(Image.open(SAMPLE).convert("RGB"))
    picture = np.empty((side, side, 3), np.uint8)
    for top in range(0, side, 2 * CROP):
        for left in range(0, side, 2 * CROP):
            y, x = (int(rng.integers(0, length - CROP + 1)) for length in source.shape[:2])
            crop = Image.fromarray(np.ascontiguousarray(source[y : y + CROP, x : x + CROP]))
            tile = np.asarray(crop.resize((2 * CROP, 2 * CROP), Image.Resampling.BICUBIC))
            tile = tile[:, ::-1] if rng.integers(2) else tile
            picture[top : top + 2 * CROP, left : left + 2 * CROP] = tile[: side - top, : side - left]
    return picture


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds of processor time and peak resident megabytes (10^6 bytes) of a command in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "ldcodec", *arguments, "--force"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"ldcodec {' '.join(arguments)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def row(megapixels: float, target: list[str], threads: int, folder: Path) -> str:
    """Compresses and decompresses a picture of a size and tells what it took."""
    source, coded, restored = (str(folder / name) for name in ("large.png", "large.ldc", "restored.png"))
    picture = mosaic(megapixels)
    Image.fromarray(picture).save(source, compress_level=1)
    own = picture.nbytes / 1e6
    side = len(picture)
    del picture
    common = ["--threads", str(threads), "--quiet"]
    columns = [f"{megapixels:g}", f"{side}×{side}"]
    for command in (["compress", source, "-o", coded, *target], ["decompress", coded, "-o", restored]):
        seconds, peak = run(command + common)
        columns += [f"{seconds:.1f}", f"{peak:.0f}", f"{peak - own:.0f}"]
    columns.append(f"{8 * Path(coded).stat().st_size / side**2:.3f}")
    return f"| {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", default="1,4,16,64,100")
    parser.add_argument("--threads", type=int, default=1)
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--quality", type=float, default=40)
    target.add_argument("--rate", type=float)
    options = parser.parse_args()
    wanted = ["--rate", str(options.rate)] if options.rate else ["--quality", str(options.quality)]
    titles = ["CPU s", "peak MB", "beyond the picture"]
    columns = [f"{command} {title}" for command in ("compress", "decompress") for title in titles]
    print(f"| {' | '.join(['MP', 'pixels', *columns, 'bpp'])} |")
    print("|" + "---|" * 9)
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels.split(","):
            print(row(float(megapixels), wanted, options.threads, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
