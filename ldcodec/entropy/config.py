"""The sizes of a model, as stored in its file."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from ldcodec.errors import ModelError


@dataclass(frozen=True)
class Config:
    """Widths (channels) and depths (residual blocks) of every network of one model.

    The defaults are `small`. `latent` is M in the documentation: the channels of the latent at 1/16 of the picture's
    size. `grain`: noise that the second synthesis was trained with, in hundredths of the deviation that
    the symbols leave open times the share of the variance that they leave (see
    `diffusion.posterior.grained`).
    """

    latent: int = 320
    width8: int = 128
    width16: int = 256
    context: int = 192
    hyper: int = 96
    blocks8: int = 3
    blocks16: int = 3
    denoiser: int = 192
    denoiser_blocks: int = 3
    grain: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name == "grain" else 1
            if type(value) is not int or not least <= value <= 4096:
                raise ModelError(f"configuration: {name} must be a whole number from {least} to 4096, not {value!r}")
        if self.latent % 4 or self.latent > 768:
            raise ModelError(f"configuration: latent must be a multiple of 4 up to 768, not {self.latent}")

    @property
    def transform_halo(self) -> int:
        """Latent rows and columns around a position that analysis and either synthesis depend on."""
        fine = 1 + 2 * self.blocks8  # 3×3 layers at 1/8 of the picture's size, two to a residual block
        return 1 + 2 * self.blocks16 + -(-fine // 2)

    @property
    def denoiser_halo(self) -> int:
        """Latent rows and columns around a position that one evaluation of the denoiser depends on."""
        return 2 * self.denoiser_blocks


SMALL = Config()
BASE = Config(width8=160, width16=320, context=224, blocks8=3, blocks16=5, denoiser=224, grain=30)


def from_mapping(values: dict[str, Any]) -> Config:
    """The configuration of a JSON or TOML table; raises ModelError on unknown or impossible entries."""
    unknown = sorted(set(values) - {field.name for field in fields(Config)})
    if unknown:
        raise ModelError(f"configuration: unknown entries {', '.join(unknown)}")
    return Config(**values)
