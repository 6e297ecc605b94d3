"""A codec of the study: autoencoder, prior, conditional decoder, and the random draws between them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ldcodec.diffusion.samplers import SAMPLERS, Sampler, times
from ldcodec.study.priors import MixedVelocity
from ldcodec.study.runs import StudySettings
from ldcodec.study.toynets import Autoencoder, NetLayout, VelocityNetwork, fold, unfold

SAMPLER_OF = {"ddpm": "ddpm", "ddim": "ddim", "sde": "sde", "ode": "heun"}  # setting → name in SAMPLERS


class StudyCodec(nn.Module):
    """Encoder and decoder, and if the settings ask for them a diffusion prior and a conditional diffusion decoder.

    The conditional decoder does what the codec's does in the latent, but in the picture: given x̂ and z it restores the
    remainder u = (x − x̂)/d. Here d is the deviation of what the decoder leaves (`remainder`, measured when its training
    begins). One step from u = 0 at time 1 is its estimate of least error; before training that is x̂.
    """

    def __init__(self, settings: StudySettings, layout: NetLayout) -> None:
        super().__init__()
        self.settings, self.layout = settings, layout
        self.autoencoder = Autoencoder(layout, settings.latent)
        diffused = settings.diffusion != "none"
        self.prior = MixedVelocity(layout, settings.prior, settings.mixing) if diffused else None
        known = layout.folded + layout.latent
        self.restorer = VelocityNetwork(layout.folded, known, layout) if settings.conditional else None
        self.register_buffer("remainder", torch.tensor(1.0))

    @property
    def sampler(self) -> Sampler:
        """The sampler that the settings name."""
        return SAMPLERS[SAMPLER_OF[self.settings.diffusion]]

    def drawn(self, mean: Tensor) -> Tensor:
        """z drawn from q(z|x) as in training, given its mean: [B, L, h, w] → the same shape."""
        noise = self.autoencoder.width().exp()
        if self.settings.latent == "gaussian":
            return mean + noise * torch.randn_like(mean)
        return mean + noise * (torch.rand_like(mean) - 0.5)

    def known(self, decoded: Tensor, z: Tensor) -> Tensor:
        """What the conditional decoder is given: the folded picture and z, [B, C·fold² + L, h, w]."""
        return torch.cat([4 * fold(decoded, self.layout) - 2, z], 1)

    def restored(self, z: Tensor, realism: float, steps: int, noise: Callable[[int], Tensor] | None = None) -> Tensor:
        """Pictures of the conditional decoder: z [B, L, h, w] → [B, C, n, n], not clipped to 0..1.

        realism: scale of all noise in 0..1; 0 in one step is the estimate of least error. noise: step → standard
        normal [B, C·fold², h, w]; random if not given.
        """
        decoded = self.autoencoder.decode(z)
        if self.restorer is None:
            return decoded
        known, like = self.known(decoded, z), fold(decoded, self.layout)
        u = self._reverse(lambda u, t: self.restorer(u, t, known), like, realism, steps, noise)  # type: ignore[misc]
        return decoded + self.remainder * unfold(u, self.layout)  # type: ignore[operator]

    def generated(self, count: int, steps: int) -> Tensor:
        """New z from the prior, [count, L, h, w]: by the sampler of the settings, or without a diffusion from N(0, I).

        In the latter case a delta latent adds the uniform noise that stands for rounding, as its prior in the bound.
        """
        like = torch.empty(count, *self.layout.latent_shape)
        if self.prior is None:
            return self.drawn(torch.randn_like(like)) if self.settings.latent == "delta" else torch.randn_like(like)
        return self._reverse(self.prior, like, 1.0, steps, None)

    def _reverse(
        self,
        velocity: Callable[[Tensor, Tensor], Tensor],
        like: Tensor,
        realism: float,
        steps: int,
        noise: Callable[[int], Tensor] | None,
    ) -> Tensor:
        def scaled(step: int) -> Tensor:
            if realism == 0:
                return torch.zeros_like(like)
            return realism * (torch.randn_like(like) if noise is None else noise(step))

        def denoise(u: Tensor, time: float) -> Tensor:
            return velocity(u, u.new_full((len(u),), time))

        found: Tensor = self.sampler(denoise, scaled(0), times(steps), scaled)
        return found
