"""Seconds and memory of whole processes, beside other codecs: `python -m tests.measure.speed PICTURE...`.

Each round runs every command once, one after the other, so that what else the machine does reaches all of them alike;
medians of the rounds are printed. With `--against DIR`, another checkout of ldcodec takes part. With `--beside N`, N
processes that only count keep the cores busy. Other codecs run in a Python of their own, with Pillow or imagecodecs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

ENCODE = """
import json, sys
from PIL import Image
with Image.open(sys.argv[1]) as picture:
    picture.convert("RGB").save(sys.argv[2], **json.loads(sys.argv[3]))
"""
DECODE = "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('RGB').save(sys.argv[2], compress_level=1)"
ENCODE_JXL = """
import sys, imagecodecs, numpy
from PIL import Image
with open(sys.argv[2], "wb") as file:
    file.write(imagecodecs.jpegxl_encode(numpy.asarray(Image.open(sys.argv[1]).convert("RGB")), distance=3, effort=7))
"""
DECODE_JXL = """
import sys, imagecodecs
from PIL import Image
with open(sys.argv[1], "rb") as file:
    Image.fromarray(imagecodecs.jpegxl_decode(file.read())).save(sys.argv[2], compress_level=1)
"""
COUNTING = "n = 0\nwhile True: n += 1"


@dataclass(frozen=True)
class Command:
    """A command line, and the folder in which it runs."""

    name: str
    words: list[str]
    folder: Path


@dataclass(frozen=True)
class Taken:
    """What one process took: seconds by the clock and of the processors, bytes of memory at its peak."""

    wall: float
    processor: float
    memory: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--against", type=Path, help="another checkout of ldcodec")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--beside", type=int, default=0, help="processes that keep the cores busy")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print("| picture | threads | command | s | s/MP | processor s | MB |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place, busy(given.beside):
        for picture in given.pictures:
            for threads in given.threads:
                listed = commands(picture, threads, given.against, Path(place))
                show(picture, threads, measured(listed, given.rounds, threads))


def commands(picture: Path, threads: int, against: Path | None, place: Path) -> list[Command]:
    """The commands of a round; each decoder reads what an encoder before it wrote."""
    source, found = str(picture.resolve()), []
    own = Path(__file__).resolve().parents[2]
    for label, folder in [("ldcodec", own), *([("the other", against.resolve())] if against else [])]:
        start, ldc = [sys.executable, "-m", "ldcodec"], str(place / f"{label}.ldc")
        common = ["-f", "-q", "--threads", str(threads)]
        for target in ("--rate 0.5", "--quality 50"):
            words = [*start, "compress", source, "-o", ldc, *target.split(), *common]
            found.append(Command(f"{label} compress {target}", words, folder))
        words = [*start, "decompress", ldc, "-o", str(place / "a.png"), *common]
        found.append(Command(f"{label} decompress", words, folder))
    for label, options in (("avif", {"quality": 50, "speed": 6, "max_threads": threads}), ("webp", {"quality": 60})):
        coded = str(place / f"a.{label}")
        found.append(
            Command(f"{label} encode", [sys.executable, "-c", ENCODE, source, coded, json.dumps(options)], place)
        )
        found.append(Command(f"{label} decode", [sys.executable, "-c", DECODE, coded, str(place / "a.png")], place))
    coded = str(place / "a.jxl")
    found.append(Command("jpeg xl encode", [sys.executable, "-c", ENCODE_JXL, source, coded], place))
    found.append(Command("jpeg xl decode", [sys.executable, "-c", DECODE_JXL, coded, str(place / "a.png")], place))
    return found


def measured(listed: list[Command], rounds: int, threads: int) -> dict[str, Taken]:
    """The medians of every command."""
    taken: dict[str, list[Taken]] = {command.name: [] for command in listed}
    for _ in range(rounds):
        for command in listed:
            taken[command.name].append(run(command, threads))
    return {
        name: Taken(median(t.wall for t in ts), median(t.processor for t in ts), max(t.memory for t in ts))
        for name, ts in taken.items()
    }


def run(command: Command, threads: int) -> Taken:
    """Run a command on as many cores as threads."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    words = ["taskset", "-c", cores, *command.words]
    start = time.perf_counter()
    process = subprocess.Popen(words, cwd=command.folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command.name} failed")
    return Taken(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def show(picture: Path, threads: int, taken: dict[str, Taken]) -> None:
    """Print the lines of one picture."""
    with Image.open(picture) as image:
        millions = image.width * image.height / 1e6
    for name, t in taken.items():
        numbers = f"{t.wall:.2f} | {t.wall / millions:.2f} | {t.processor:.2f} | {t.memory / 1e6:.0f}"
        print(f"| {millions:.1f} MP | {threads} | {name} | {numbers} |", flush=True)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """While processes that only count keep the cores busy."""
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    main()
