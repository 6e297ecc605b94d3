"""The decoder: open file → picture by parsing, reverse diffusion and tiles. Needs no torch."""
