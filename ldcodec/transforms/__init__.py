"""Picture ⇄ latent: the learned transforms around a linear one."""
