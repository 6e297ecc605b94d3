"""Run every check of the project, in the order of their cost: `python -m tests.check`.

Stops at the first check that fails and exits with its status, so a clean run ends with pytest's closing line.
"""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest",),
)


def run_check(command: tuple[str, ...]) -> int:
    """Print one command, run it in the repository's root with this interpreter, return its exit status."""
    print("$", shlex.join(("python", "-m", *command)), flush=True)
    return subprocess.run((sys.executable, "-m", *command), cwd=ROOT, check=False).returncode


def main() -> int:
    """Run the checks one by one; return the status of the first that fails, or 0."""
    for command in CHECKS:
        status = run_check(command)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
