"""Seconds and memory of whole processes, beside other codecs: `python -m tests.measure.speed PICTURE...`.

Each round runs every command once, one after the other, so that what else the machine does reaches all of them alike;
medians of the rounds are printed: seconds of the process, of coding alone as the program tells, and of processors. With
`--against DIR`, another checkout of ldcodec takes part. With `--beside N`, N processes that only count keep the cores
busy. Other codecs run in a Python of their own, with Pillow or imagecodecs, and tell of reading and writing too.
"""

import argparse
import itertools
import json
import os
import re
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

IMPORTS = """
import json, sys
from time import perf_counter
from PIL import Image
"""
TOLD = """
print(f"{perf_counter() - start:.3f} s")
"""
ENCODE = f"""{IMPORTS}
start = perf_counter()
with Image.open(sys.argv[1]) as picture:
    picture.convert("RGB").save(sys.argv[2], **json.loads(sys.argv[3]))
{TOLD}"""
DECODE = f"""{IMPORTS}
start = perf_counter()
with Image.open(sys.argv[1]) as picture:
    picture.convert("RGB").save(sys.argv[2], compress_level=1)
{TOLD}"""
ENCODE_JXL = f"""{IMPORTS}
import imagecodecs, numpy
start = perf_counter()
with Image.open(sys.argv[1]) as picture, open(sys.argv[2], "wb") as file:
    file.write(imagecodecs.jpegxl_encode(numpy.asarray(picture.convert("RGB")), **json.loads(sys.argv[3])))
{TOLD}"""
DECODE_JXL = f"""{IMPORTS}
import imagecodecs
start = perf_counter()
with open(sys.argv[1], "rb") as file:
    pixels = imagecodecs.jpegxl_decode(file.read(), numthreads=int(sys.argv[3]))
Image.fromarray(pixels).save(sys.argv[2], compress_level=1)
{TOLD}"""
COUNTING = "n = 0\nwhile True: n += 1"


@dataclass(frozen=True)
class Command:
    """A command line, and the folder in which it runs."""

    name: str
    words: list[str]
    folder: Path


@dataclass(frozen=True)
class Taken:
    """What one process took: seconds by the clock, as it tells, and of processors; bytes of memory at its peak."""

    wall: float
    told: float
    processor: float
    memory: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--against", type=Path, help="another checkout of ldcodec")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--beside", type=int, nargs="+", default=[0], help="processes that keep the cores busy")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print("| picture | beside | threads | command | s | s/MP | told s/MP | processor s | MB |\n" + "|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as place:
        for picture, others, threads in itertools.product(given.pictures, given.beside, given.threads):
            listed = commands(picture, threads, given.against, Path(place))
            with busy(others):
                show(picture, f"{others} | {threads}", measured(listed, given.rounds, threads))


def commands(picture: Path, threads: int, against: Path | None, place: Path) -> list[Command]:
    """The commands of a round; each decoder reads what an encoder before it wrote."""
    source, found = str(picture.resolve()), []
    own = Path(__file__).resolve().parents[2]
    for label, folder in [("ldcodec", own), *([("the other", against.resolve())] if against else [])]:
        start, ldc = [sys.executable, "-m", "ldcodec"], str(place / f"{label}.ldc")
        common = ["-f", "--threads", str(threads)]
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
    chosen = json.dumps({"distance": 3, "effort": 7, "numthreads": threads})
    found.append(Command("jpeg xl encode", [sys.executable, "-c", ENCODE_JXL, source, coded, chosen], place))
    words = [sys.executable, "-c", DECODE_JXL, coded, str(place / "a.png"), str(threads)]
    found.append(Command("jpeg xl decode", words, place))
    return found


def measured(listed: list[Command], rounds: int, threads: int) -> dict[str, Taken]:
    """The medians of every command."""
    taken: dict[str, list[Taken]] = {command.name: [] for command in listed}
    for _ in range(rounds):
        for command in listed:
            taken[command.name].append(run(command, threads))
    return {
        name: Taken(
            median(t.wall for t in ts),
            median(t.told for t in ts),
            median(t.processor for t in ts),
            max(t.memory for t in ts),
        )
        for name, ts in taken.items()
    }


def run(command: Command, threads: int) -> Taken:
    """Run a command on as many cores as threads."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    words = ["taskset", "-c", cores, *command.words]
    start = time.perf_counter()
    process = subprocess.Popen(words, cwd=command.folder, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command.name} failed")
    told = re.findall(r"([\d.]+) s\b", printed)[-1]
    return Taken(wall, float(told), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def show(picture: Path, where: str, taken: dict[str, Taken]) -> None:
    """Print the lines of one picture; where: the columns for what runs beside it and for the threads."""
    with Image.open(picture) as image:
        millions = image.width * image.height / 1e6
    for name, t in taken.items():
        seconds = f"{t.wall:.2f} | {t.wall / millions:.2f} | {t.told / millions:.2f} | {t.processor:.2f}"
        print(f"| {millions:.1f} MP | {where} | {name} | {seconds} | {t.memory / 1e6:.0f} |", flush=True)


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
