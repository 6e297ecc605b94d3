"""Run the checks of the project: `python -m tests.check [--quick | --nightly] [--minutes N]`.

Without an option: ruff, mypy and the tests. `--quick` leaves out the tests marked slow, browser, ray or network.
`--nightly` adds the tests of speed and memory, lets Hypothesis try random examples and ten times as many, and ends with
the fuzzer, which needs atheris. The first check that fails ends the run; its exit status is that of the run.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

STYLE = (("ruff", "check", "."), ("ruff", "format", "--check", "."))
TYPES = ("mypy",)
PARALLEL = ("--numprocesses=auto", "--maxprocesses=8", "--dist=worksteal")
QUICK = "not slow and not browser and not ray and not network and not timing"

Done = subprocess.CompletedProcess[str]


def run(*command: str, quiet: bool = False) -> Done:
    """Print one command and run it in the repository's root with this interpreter; if quiet, its output is kept."""
    print("$", shlex.join(("python", "-m", *command)), flush=True)
    return subprocess.run((sys.executable, "-m", *command), cwd=ROOT, capture_output=quiet, text=True, check=False)


def complain(types: Future[Done]) -> None:
    """Print what mypy found as soon as it is known. Of a clean run, the last line is that of pytest."""
    if types.result().returncode:
        print(types.result().stdout, types.result().stderr, sep="", flush=True)


def tests(quick: bool, nightly: bool) -> tuple[str, ...]:
    if nightly:  # in one process, so that nothing disturbs the measurements
        return "pytest", "-m", "timing or not timing", "--hypothesis-profile=nightly"
    return ("pytest", *PARALLEL, *(("-m", QUICK, "--hypothesis-profile=quick") if quick else ()))


def statuses(options: argparse.Namespace) -> Iterator[int]:
    """The exit statuses of the checks, which run as they are asked for."""
    yield from (run(*command).returncode for command in STYLE)
    with ThreadPoolExecutor() as pool:  # mypy takes one core for half a minute, unless it has its cache
        types = pool.submit(run, *TYPES, quiet=True)
        types.add_done_callback(complain)
        if options.nightly:
            types.result()
        yield run(*tests(options.quick, options.nightly)).returncode
        yield types.result().returncode
    if options.nightly:
        yield run("tests.fuzz", f"{options.minutes:g}").returncode


def main() -> int:
    """Run the checks one by one; return the status of the first that fails, or 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.check", description=__doc__.split("\n\n")[1])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="without tests marked slow, browser, ray or network")
    kind.add_argument("--nightly", action="store_true", help="everything, with random examples and the fuzzer")
    parser.add_argument("--minutes", type=float, default=20, help="how long --nightly fuzzes; default: 20")
    return next((status for status in statuses(parser.parse_args()) if status), 0)


if __name__ == "__main__":
    sys.exit(main())
