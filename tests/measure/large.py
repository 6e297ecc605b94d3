"""Time and memory of large pictures.

`python -m tests.measure.large [--megapixels 1,4,16,64,100] [--quality 40] [--threads 1]` makes a square picture of each
size from the sample (random crops, enlarged to twice their size), compresses and decompresses it under GNU time, and
prints the commands and the table of docs/large-pictures.md. `--make FILE` only makes the picture.
"""

import argparse
import math
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAMPLE = Path(__file__).resolve().parents[2] / "ldcodec" / "bench" / "landscape.png"
CROP = 256
TITLES = ("CPU s", "wall s", "peak MB", "beyond the picture")


def mosaic(megapixels: float, seed: int = 0) -> NDArray[np.uint8]:
    """A square picture [H, W, 3] of random crops of the sample, some mirrored, enlarged to twice their size."""
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


def make(megapixels: float, path: str) -> None:
    """Write a mosaic as a picture file."""
    Image.fromarray(mosaic(megapixels)).save(path, compress_level=1)


def run(command: list[str]) -> dict[str, float]:
    """Run a command under GNU time and return its CPU and wall seconds and its peak resident bytes."""
    print("$", shlex.join(["/usr/bin/time", "-v", "python", *command]), flush=True)
    done = subprocess.run(["/usr/bin/time", "-v", sys.executable, *command], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"^\t(.+?)(?: \([^)]*\))?: (.+)$", done.stderr, re.MULTILINE))
    wall = sum(float(part) * 60**k for k, part in enumerate(reversed(found["Elapsed (wall clock) time"].split(":"))))
    cpu = float(found["User time"]) + float(found["System time"])
    return {"cpu": cpu, "wall": wall, "peak": 1024 * float(found["Maximum resident set size"])}


def row(megapixels: float, target: list[str], threads: int, folder: Path) -> str:
    """Compress and decompress a picture of one size; the row of the table with what that took."""
    source, coded, restored = (str(folder / name) for name in ("large.png", "large.ldc", "restored.png"))
    command = [sys.executable, "-m", "tests.measure.large", "--make", source, "--megapixels", str(megapixels)]
    subprocess.run(command, check=True)
    side = round(math.sqrt(megapixels * 1e6))
    columns = [f"{megapixels:g}", f"{side}×{side}"]
    for arguments in (["compress", source, "-o", coded, *target], ["decompress", coded, "-o", restored]):
        took = run(["-m", "ldcodec", *arguments, "--threads", str(threads), "--quiet", "--force"])
        beyond = took["peak"] - 3 * side**2
        columns += [f"{took['cpu']:.1f}", f"{took['wall']:.1f}", f"{took['peak'] / 1e6:.0f}", f"{beyond / 1e6:.0f}"]
    columns.append(f"{8 * Path(coded).stat().st_size / side**2:.3f}")
    return f"| {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", default="1,4,16,64,100")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--make", metavar="FILE")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--quality", type=float, default=40)
    target.add_argument("--rate", type=float)
    options = parser.parse_args()
    if options.make:
        make(float(options.megapixels), options.make)
        return
    wanted = ["--rate", str(options.rate)] if options.rate else ["--quality", f"{options.quality:g}"]
    columns = [f"{command}: {title}" for command in ("compress", "decompress") for title in TITLES]
    rows = [f"| {' | '.join(['MP', 'pixels', *columns, 'bpp'])} |", "|" + "---|" * (len(columns) + 3)]
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels.split(","):
            rows.append(row(float(megapixels), wanted, options.threads, Path(folder)))
            print(rows[-1], flush=True)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
