"""The cost of Ray compared with `--jobs`.

`python -m tests.measure.scale [--files 24] [--quality 50] [--actors 1,2]` makes a folder of 768×512 pictures from the
sample, compresses it in one process and then by Ray with each number of actors, and prints the commands and the table
of docs/scale.md. CPU seconds are those of the whole process tree, read from /proc (Linux).
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE = Path(__file__).resolve().parents[2] / "ldcodec" / "bench" / "landscape.png"
TITLES = ("way", "wall s", "to the first file s", "files/s from then on", "CPU s: program", "actors", "Ray itself")
INTERVAL = 0.2  # seconds between two looks at the processes
TICK = os.sysconf("SC_CLK_TCK")


def make(folder: Path, count: int) -> None:
    """Write `count` different pictures: the sample, shifted and mirrored."""
    folder.mkdir()
    pixels = np.asarray(Image.open(SAMPLE).convert("RGB"))
    for number in range(count):
        moved = np.roll(pixels, (37 * number, 53 * number), (0, 1))
        Image.fromarray(np.ascontiguousarray(moved[:, :: 1 - 2 * (number % 2)])).save(folder / f"{number:04}.png")


def processes() -> dict[int, tuple[int, str, float]]:
    """Every process by number: its parent, its command line and its CPU seconds so far."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "cmdline").read_bytes().decode(errors="replace")
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            found[int(entry.name)] = int(fields[1]), name, (int(fields[11]) + int(fields[12])) / TICK
        except (ValueError, OSError, IndexError):  # no process, or not any more
            continue
    return found


def seconds_below(process: int, seen: dict[int, tuple[str, float]]) -> None:
    """Note the CPU seconds of a process and its descendants; those that have ended keep their last figure."""
    found = processes()
    for number, (above, name, seconds) in found.items():
        while above in found and number != process and above != process:
            above = found[above][0]
        if process in (number, above):
            known = seen.get(number, ("Ray itself", 0.0))[0]  # an actor has other names before and after its work
            part = "program" if number == process else "actors" if name.startswith("ray::Map") else known
            seen[number] = part, seconds


def row(way: list[str], folder: Path) -> str:
    """Compress the folder in one way; the row of the table with what that took."""
    archive = folder / "-".join(["archive", *way]).replace("--", "")
    command = ["compress", str(folder / "photos"), "-o", str(archive), "--recursive", "--no-preserve", "--quiet", *way]
    print("$", shlex.join(["ldcodec", *command]), flush=True)
    seen: dict[int, tuple[str, float]] = {}
    start, began = time.monotonic(), time.time()
    process = subprocess.Popen([sys.executable, "-m", "ldcodec", *command])
    while process.poll() is None:
        seconds_below(process.pid, seen)
        time.sleep(INTERVAL)
    wall = time.monotonic() - start
    if process.returncode:
        sys.exit(f"it ended with code {process.returncode}")
    times = sorted(path.stat().st_mtime for path in archive.glob("*.ldc"))
    total: dict[str, float] = defaultdict(float)
    for part, seconds in seen.values():
        total[part] += seconds
    rate = (len(times) - 1) / (times[-1] - times[0])
    columns = [" ".join(way[:-2]), f"{wall:.1f}", f"{times[0] - began:.1f}", f"{rate:.2f}"]
    columns += [f"{total[part]:.1f}" for part in ("program", "actors", "Ray itself")]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--quality", default="50")
    parser.add_argument("--actors", default="1,2")
    options = parser.parse_args()
    ways = [["--jobs", "1"], *(["--engine", "ray", "--jobs", count] for count in options.actors.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "photos", options.files)
        rows = [row([*way, "--quality", options.quality], Path(folder)) for way in ways]
    cores = len(os.sched_getaffinity(0))
    print(f"\n{options.files} files, {cores} cores allowed, load {os.getloadavg()[0]:.1f} at the end\n")
    print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
