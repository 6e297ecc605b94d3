"""The diffusion: noise, schedule, samplers, and the posterior of the latent that conditions them. Any array library."""
