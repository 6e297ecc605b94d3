"""Run every check of the project: `python -m tests.check [--quick | --nightly] [--minutes N]`.

Without an option: ruff, mypy and the tests. `--quick` leaves out the tests marked slow, browser, ray or network;
`--nightly` adds the tests of speed and memory, lets Hypothesis try random and many more examples, and ends with the
fuzzer (which needs atheris). The first check that fails ends the run, and its exit status is that of the run.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

STYLE = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
TESTS = ("pytest", "--numprocesses=auto", "--maxprocesses=8")
QUICK = ("-m", "not slow and not browser and not ray and not network and not timing")


def commands(quick: bool, nightly: bool, minutes: float) -> list[tuple[str, ...]]:
    """The checks of one kind of run, the cheapest first."""
    if nightly:
        tests = ("pytest", "-m", "timing or not timing", "--hypothesis-profile=nightly")  # alone on the machine
        return [*STYLE, tests, ("tests.fuzz", f"{minutes:g}")]
    return [*STYLE, (*TESTS, *QUICK) if quick else TESTS]


def run_check(command: tuple[str, ...]) -> int:
    """Print one command, run it in the repository's root with this interpreter and return its exit status."""
    print("$", shlex.join(("python", "-m", *command)), flush=True)
    return subprocess.run((sys.executable, "-m", *command), cwd=ROOT, check=False).returncode


def main() -> int:
    """Run the checks one by one; return the status of the first that fails, or 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.check", description=__doc__)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="without tests marked slow, browser, ray or network")
    kind.add_argument("--nightly", action="store_true", help="everything, with random examples and the fuzzer")
    parser.add_argument("--minutes", type=float, default=20, help="how long --nightly fuzzes; default: 20")
    options = parser.parse_args()
    for command in commands(options.quick, options.nightly, options.minutes):
        if status := run_check(command):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
