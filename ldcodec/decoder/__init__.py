"""From an open file to its picture, without torch: parsing, reverse diffusion, tiles."""
