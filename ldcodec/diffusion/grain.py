"""Noise from which the second synthesis makes texture: where nothing was coded, and next to none where a symbol tells.

A latent of deviation σ of which a symbol leaves d open needs noise for what is lost of its energy, and transport from
the estimate of least error needs less of it the narrower the cell (Freirich et al. 2021, arXiv 2107.02555). The factor
d²/σ² falls from 1 where the symbol is a zero of a wide cell to nothing.
"""

from ldcodec.diffusion.condition import Array, Condition

STEP = 2**32 - 1  # of the counter-based noise: no sampler takes as many


def grained(latent: Array, known: Condition[Array], noise: Array, grain: int) -> Array:
    """Restored latent in steps and standard normal noise, both [B, M, h, w] → what the second synthesis reads.

    grain: hundredths, 0..4096, as in the model's configuration; the result is in steps.
    """
    share = known.deviation / known.scale
    share *= share
    return latent + grain / 100 * known.deviation * share * noise
