"""How many bits a latent costs, and the bits themselves: Gaussian tables, float and integer networks, range coder."""
