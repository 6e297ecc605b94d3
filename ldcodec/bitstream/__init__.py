"""The container format of docs/bitstream.md: bytes ⇄ `Container`. Needs neither NumPy nor torch."""
