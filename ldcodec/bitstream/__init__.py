"""What docs/bitstream.md says: bytes ⇄ container. Neither NumPy nor torch is imported here."""
