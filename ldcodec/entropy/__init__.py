"""What docs/parsing.md says: symbols ⇄ words, the same on every machine, in NumPy."""
