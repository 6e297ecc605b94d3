"""The command `ldcodec`, which is `python -m ldcodec` too."""

import sys


def start() -> None:
    """Load the command line and run it; Ctrl-C while it loads ends in one line as well."""
    try:
        from ldcodec.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("ldcodec: error: stopped\n")
        sys.exit(130)
    main()


if __name__ == "__main__":
    start()
