"""The diffusion: noise, schedule, samplers, and the posterior of the latent that conditions them. Any array library."""

# Here, so that command-line options need not import NumPy.
SAMPLER_NAMES = ("ddim", "ddpm", "heun", "sde")
MAX_STEPS = 1000
