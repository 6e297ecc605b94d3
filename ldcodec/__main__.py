"""Entry point of the `ldcodec` command and of `python -m ldcodec`."""

import sys


def start() -> None:
    """Run the command line."""
    try:  # a Ctrl-C during the import must not print a traceback either
        from ldcodec.decoder.threads import let_threads_sleep

        let_threads_sleep()  # before anything loads OpenMP or OpenBLAS, which read the environment then
        from ldcodec.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("ldcodec: error: stopped\n")
        sys.exit(130)
    main()


if __name__ == "__main__":
    start()
