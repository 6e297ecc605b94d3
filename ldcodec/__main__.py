"""`python -m ldcodec` is the command `ldcodec`."""

from ldcodec.cli import main

if __name__ == "__main__":
    main()
