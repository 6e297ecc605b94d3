"""Entry point of the `ldcodec` command and of `python -m ldcodec`."""

import os
import sys


def start() -> None:
    """Run the command line."""
    # Before anything loads OpenMP, which reads it then: threads that wait for others sleep instead of keeping a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:  # a Ctrl-C during the import must not print a traceback either
        from ldcodec.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("ldcodec: error: stopped\n")
        sys.exit(130)
    main()


if __name__ == "__main__":
    start()
