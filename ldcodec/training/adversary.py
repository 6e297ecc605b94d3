"""An adversary of the second synthesis: small networks that tell originals from draws in the features of LPIPS.

A frozen network whose features are already known makes a judge that needs few weights and few steps (Sauer et al. 2021,
"Projected GANs Converge Faster", arXiv 2111.01007). Each of its layers has a head, and each position a verdict. A head
also sees the picture of least error, so it asks whether a texture fits what was decoded, and not only whether such
textures exist. Heads learn by the hinge loss (Lim and Ye 2017, "Geometric GAN", arXiv 1705.02894) under spectral
normalisation (Miyato et al. 2018, arXiv 1802.05957), so none can punish a small change without bound.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ldcodec.nets.lpips import weighted_layers
from ldcodec.training.optimiser import ClippedAdam

WIDTH = 32
SLOPE = 0.2  # of the leaky rectifiers
RATE, BETAS = 5e-4, (0.0, 0.99)  # no momentum: what is to be told apart changes with every step
Layers = list[Tensor]


class Adversary:
    """Heads on the five layers of LPIPS, with an optimiser of their own. Raises LdcodecError without LPIPS's weights.

    Layers are lists of features [B, c, h, w], one for each head, as from `lpips.features`. warm_up: the synthesis is
    spared for so many steps, in which the heads learn alone, and its penalty rises over as many steps after them.
    """

    def __init__(self, warm_up: int, device: torch.device) -> None:
        self.warm_up = warm_up
        weights = [head for _, _, head in weighted_layers()]
        self.heads = nn.ModuleList(_head(weight.numel()) for weight in weights)
        self.heads.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The channels of a layer have a norm of 1 before they are weighed; here they get a mean square of about 1.
        self.sizes = [(weight.numel() / weight.clamp(min=0).mean().item()) ** 0.5 for weight in weights]
        self.parameters = list(self.heads.parameters())
        self.optimiser = ClippedAdam([{"params": self.parameters, "lr": RATE}], BETAS)

    def learn(self, real: Layers, fakes: list[Layers], known: Layers) -> dict[str, Tensor]:
        """A step of the heads; no gradient leaves them. known: the layers of the pictures of least error.

        Returns figures to report: the mean verdict on originals and on draws, and the hinge loss.
        """
        self.heads.requires_grad_(True)
        real, fakes = [layer.detach() for layer in real], [[layer.detach() for layer in fake] for fake in fakes]
        kept = self._verdicts(real, known)
        drawn = [verdict for fake in fakes for verdict in self._verdicts(fake, known)]
        hinge = _mean([F.relu(1 - verdict) for verdict in kept]) + _mean([F.relu(1 + verdict) for verdict in drawn])
        self.optimiser.zero_grad(set_to_none=True)
        hinge.backward()  # type: ignore[no-untyped-call]
        self.optimiser.clipped_step()
        return {"real": _mean(kept).detach(), "fake": _mean(drawn).detach(), "hinge": hinge.detach()}

    def penalty(self, fakes: list[Layers], known: Layers, weights: Tensor) -> Tensor:
        """What the draws lack of being taken for originals, a scalar with gradient to their features alone.

        weights: [B], of each picture of the batch.
        """
        self.heads.requires_grad_(False)
        risen = min(1.0, max(0.0, self._steps() / self.warm_up - 1)) if self.warm_up else 1.0
        verdicts = [verdict for fake in fakes for verdict in self._verdicts(fake, known)]
        return -risen * _mean([weights * verdict.mean((1, 2, 3)) for verdict in verdicts])

    def held(self) -> dict[str, Tensor]:
        """All that a resumed run needs, by name: weights and vectors of the normalisation, moments, count of steps."""
        held = dict(self.heads.state_dict())
        for name, parameter in self.heads.named_parameters():
            held |= {f"{name}.{moment}": tensor for moment, tensor in self.optimiser.held(parameter).items()}
        return held

    def _steps(self) -> float:
        """Steps that the heads have made."""
        return float(self.optimiser.held(self.parameters[0])["step"])

    def _verdicts(self, layers: Layers, known: Layers) -> list[Tensor]:
        """Of each head, at each position of its layer: above 0 where the picture looks like an original."""
        return [
            head(torch.cat([layer, condition], 1) * size).float()
            for head, size, layer, condition in zip(self.heads, self.sizes, layers, known, strict=True)
        ]


def _head(channels: int) -> nn.Sequential:
    """[B, 2·channels, h, w] → [B, 1, h, w]."""
    sizes = ((2 * channels, WIDTH, 1), (WIDTH, WIDTH, 3), (WIDTH, 1, 1))
    first, second, last = (spectral_norm(nn.Conv2d(a, b, size, padding=size // 2)) for a, b, size in sizes)
    return nn.Sequential(first, nn.LeakyReLU(SLOPE), second, nn.LeakyReLU(SLOPE), last)


def _mean(verdicts: list[Tensor]) -> Tensor:
    """The mean over layers of the mean over positions, so that small layers count as much as large ones."""
    return torch.stack([verdict.mean() for verdict in verdicts]).mean()
