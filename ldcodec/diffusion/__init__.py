"""Conditional diffusion decoder: what quantisation destroyed, drawn again given all that the decoder knows."""
