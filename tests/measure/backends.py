"""The cost of decoding with torch and with ONNX.

`python -m tests.measure.backends DIR PICTURE... [--quality 50] [--runs 7]`, where DIR was written by
`ldcodec export --onnx`. Everything runs on one thread. The figures are the minimum of several runs, in CPU seconds, so
that other load on the machine matters little.
"""

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def least(work: Callable[[], object], runs: int, clock: Callable[[], float]) -> float:
    """The minimum over the runs, after one to warm up."""
    work()
    seconds = []
    for _ in range(runs):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)


def children() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak(command: list[str]) -> float:
    """Peak memory of a command in MB, measured from a parent process that has no other child."""
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True)\n"
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    found = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(found.stdout) * 1024 / 1e6


def steps(data: bytes, model: Any, runs: int) -> str:
    """CPU seconds of parsing and drawing in this process."""
    from ldcodec.bitstream.reader import Reader
    from ldcodec.decoder.parse import parse_slice
    from ldcodec.decoder.request import DecodeSettings
    from ldcodec.decoder.reverse import condition, render

    source = Reader(io.BytesIO(data))
    header = source.header

    def parse() -> Any:
        return parse_slice(source.slice(0), header, source.spans[0], model)

    parsed = parse()

    def draw() -> Any:
        return render(condition(parsed, header, model), header, model, DecodeSettings())

    return f"parse {least(parse, runs, process_time):.3f} s, draw {least(draw, runs, process_time):.3f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", type=Path, metavar="DIR")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    os.environ.update(dict.fromkeys(VARIABLES, "1"))

    from PIL import Image

    import ldcodec
    from ldcodec.nets.model import load_model
    from ldcodec.onnx.runtime import load

    models = {"torch": load_model(device="cpu"), "onnx": load(options.networks, 1)}
    for path in options.pictures:
        with Image.open(path) as image:
            data = ldcodec.encode(image.convert("RGB"), quality=options.quality, fallback=False)
        for name, model in models.items():
            with tempfile.TemporaryDirectory() as folder:
                coded, restored = Path(folder) / "a.ldc", Path(folder) / "a.png"
                coded.write_bytes(data)
                command = [sys.executable, "-m", "ldcodec", "decompress", str(coded), "-o", str(restored), "-q", "-f"]
                command += ["--onnx", str(options.networks)] if name == "onnx" else []
                cpu = least(partial(subprocess.run, command, check=True), options.runs, children)
                whole = f"whole process {cpu:.2f} s, {peak(command):.0f} MB"
            print(f"{path.name} {name}: {whole}; {steps(data, model, options.runs)}", flush=True)


if __name__ == "__main__":
    main()
