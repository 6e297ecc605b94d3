"""The diffusion: noise, schedule, samplers, and the posterior of the latent that conditions them. Any array library."""

SAMPLER_NAMES = ("ddim", "ddpm", "heun", "sde")  # here, so that command-line options need not import NumPy
MAX_STEPS = 1000
