"""Entropy coding as docs/parsing.md defines it: symbols ⇄ words, identical on every machine, in NumPy."""
