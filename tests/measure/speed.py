"""The time that one picture takes, as the median of five runs.

`python -m tests.measure.speed PICTURE... [--rate 0.5] [--threads 2]` measures within this process, with the model
loaded, and then whole commands with their CPU seconds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RUNS = 5


def median_seconds(work: Callable[[], object]) -> float:
    """Median wall seconds of five calls after one that does not count."""
    work()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def in_process(path: Path, rate: float, threads: int) -> tuple[float, float]:
    """Seconds to encode to a target rate and to decode in one step."""
    import torch
    from PIL import Image

    import ldcodec

    torch.set_num_threads(threads)
    picture = Image.open(path).convert("RGB")
    data = ldcodec.encode(picture, rate=rate)
    return median_seconds(lambda: ldcodec.encode(picture, rate=rate)), median_seconds(lambda: ldcodec.decode(data))


def whole_process(arguments: list[str]) -> tuple[float, float]:
    """Median wall and CPU seconds of a command."""
    walls, processor = [], []
    for _ in range(RUNS):
        start, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "ldcodec", *arguments, "--quiet", "--force"], check=True)
        after = os.times()
        walls.append(time.perf_counter() - start)
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(walls), statistics.median(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for path in options.pictures:
        encode, decode = in_process(path, options.rate, options.threads)
        print(f"{path.name}: in process, encode {encode:.2f} s, decode {decode:.2f} s")
        with tempfile.TemporaryDirectory() as folder:
            coded, restored = f"{folder}/a.ldc", f"{folder}/a.png"
            threads = ["--threads", str(options.threads)]
            wall, cpu = whole_process(["compress", str(path), "-o", coded, "--rate", str(options.rate), *threads])
            print(f"{path.name}: whole process, compress {wall:.2f} s, {cpu:.2f} s of CPU")
            wall, cpu = whole_process(["decompress", coded, "-o", restored, *threads])
            print(f"{path.name}: whole process, decompress {wall:.2f} s, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
