"""The denoiser: predicts what quantisation took away, conditioned on everything that was decoded."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldcodec.diffusion.posterior import Condition
from ldcodec.entropy.config import DENOISER_SCALE, HARMONICS, SLOPE, Config
from ldcodec.nets.blocks import QualityScale, Residual, act


class Prepared(NamedTuple):
    """What the denoiser computes from a condition once for all steps: features [B, C, h, w], factor [B, C, 1, 1]."""

    features: Tensor
    factor: Tensor


class TimeFilm(nn.Module):
    """FiLM by the diffusion time: scale and shift per channel, 1 and 0 before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(HARMONICS, 32), nn.Linear(32, 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """time: [B] in 0..1 → scale and shift, each float32 [B, C, 1, 1]."""
        with torch.autocast(time.device.type, enabled=False):  # bfloat16 is too coarse near time 1
            turns = torch.arange(1, HARMONICS + 1, device=time.device)
            waves = torch.cos(time.float()[:, None] * turns * math.pi)
            scale, shift = self.out(F.gelu(self.hidden(waves)))[:, :, None, None].chunk(2, dim=1)
        return 1 + scale, shift


class Denoiser(nn.Module):
    """v_θ(u_t, t | condition) with v = α·ε − σ·u (Salimans and Ho 2022, section 4); 0 before training.

    u = (r − m)/d is the normalised remainder: given the symbol, it has zero mean and unit variance at any rate. The
    output is a + b·u_t, elementwise, where the network predicts a and b. Should the variance not be one after all, the
    best v is a multiple of u_t, which would not fit through the narrow layers.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.denoiser
        self.noisy = nn.Conv2d(config.latent, width, 1)
        self.known = nn.Conv2d(3 * config.latent, width, 1, bias=False)
        self.quality, self.film = QualityScale(width), TimeFilm(width)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(config.denoiser_blocks)))
        self.head = nn.Conv2d(width, 2 * config.latent, 1)
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        with torch.no_grad():  # `noisy` and `known` are the parts of one layer with 4·M input channels
            self.noisy.weight.mul_(math.sqrt(1 / 4))
            self.known.weight.mul_(math.sqrt(3 / 4))
        second = [block.second.weight for block in self.blocks if isinstance(block, Residual)]
        for weight in (self.head.weight, self.quality.out.weight, self.quality.out.bias, *second):
            nn.init.zeros_(weight)

    def prepare(self, condition: Condition[Tensor]) -> Prepared:
        """Compute what depends on neither u nor time."""
        centre = condition.centre.float()
        log_deviation = condition.deviation.float().clamp(min=0.01).log()  # −2.2 … −1.2 nearly everywhere
        log_scale = condition.scale.float().clamp(min=0.01).log()  # −2.2 … 5.5
        # All three are brought to about unit size.
        inputs = torch.cat([centre.sign() * centre.abs().log1p(), 2 * (log_deviation + 1.6), 0.5 * log_scale], dim=1)
        return Prepared(self.known(inputs), self.quality(condition.quality))

    def forward(self, u: Tensor, time: Tensor, condition: Condition[Tensor] | Prepared) -> Tensor:
        """u [B, M, h, w], time [B] in 0..1, and the condition or what `prepare` returned → v, float32 [B, M, h, w]."""
        known = condition if isinstance(condition, Prepared) else self.prepare(condition)
        scale, shift = self.film(time)
        x = (self.noisy(u) + known.features) * (known.factor * scale) + shift
        added, factor = (DENOISER_SCALE * self.head(act(self.blocks(x))).float()).chunk(2, dim=1)
        output: Tensor = added + factor * u
        return output
