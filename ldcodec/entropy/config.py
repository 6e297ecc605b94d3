"""The sizes of a model's networks, as stored in its file, and the constants that networks of all sizes share."""

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from ldcodec.errors import ModelError

SLOPE = 1 / 8  # of the LeakyReLU: a shift by three bits in the integer networks
HARMONICS = 4  # cosines in the denoiser's embedding of the diffusion time

# Factors that keep Adam's first steps on zero-initialised layers small: on the outputs of context steps and denoiser,
# on the residual branches of synthesis (a share of the range 0..1) and analysis (a share of a channel's deviation).
CONTEXT_SCALE, DENOISER_SCALE, RESIDUAL_SCALE, HEAD_SCALE = 0.3, 0.3, 0.05, 0.1

# Magnitudes that photographs do not reach, in latents over their deviation and in the synthesis' blocks at 1/16 and at
# 1/8: its residual branch was not trained beyond them and explodes there. On 144 crops of photographs the largest are
# 38, 122 and 5.8; a board of single pixels reaches 70, 8000 and 500.
LATENT_RANGE, COARSE_RANGE, FINE_RANGE = 48.0, 150.0, 8.0


class Sizes(NamedTuple):
    """Widths (channels) and depths (residual blocks) of a transform at 1/8 and 1/16 of the picture's size."""

    width8: int
    width16: int
    blocks8: int
    blocks16: int

    @property
    def halo(self) -> int:
        """How far the transform sees around a position, in latent rows and columns."""
        return 1 + 2 * self.blocks16 + self.fine_halo

    @property
    def fine_halo(self) -> int:
        """How far its layers at 1/8 see."""
        layers = 1 + 2 * self.blocks8  # of 3×3, two in each residual block; each sees half a latent position
        return -(-layers // 2)


# Entries that may be 0.
OPTIONAL = ("grain", "one_shot", "tuned", "synthesis8", "synthesis16", "synthesis_blocks8", "synthesis_blocks16")


@dataclass(frozen=True)
class Config:
    """Widths (channels) and depths (residual blocks) of all networks of a model. The defaults are those of `small`.

    Raises ModelError for a value that is out of range.
    """

    latent: int = 320  # M: channels of the latent, at 1/16 of the picture's width and height
    width8: int = 128  # analysis at 1/8
    width16: int = 256  # analysis at 1/16
    context: int = 192  # features of the rate model
    hyper: int = 96  # channels of the hyper-latent, at 1/64
    blocks8: int = 3
    blocks16: int = 3
    denoiser: int = 192
    denoiser_blocks: int = 3
    synthesis8: int = 0  # both syntheses, here and in the next three lines; 0: as the analysis
    synthesis16: int = 0
    synthesis_blocks8: int = 0
    synthesis_blocks16: int = 0
    one_shot: int = 0  # 1: the hyper-latent alone tells all scales, and the context steps only means; see nets.rate
    tuned: int = 0  # 1: the analysis knows what bits are spent for, the least error or the eye; see nets.analysis
    grain: int = 0  # noise that the second synthesis was trained with, in hundredths; see diffusion.posterior.grained

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name in OPTIONAL else 1
            if type(value) is not int or not least <= value <= 4096:  # not isinstance: a bool is no size
                raise ModelError(f"configuration: {name} must be a whole number from {least} to 4096, not {value!r}")
        if self.latent % 4 or self.latent > 768:  # four channel groups; 768 values in a 16×16 RGB block
            raise ModelError(f"configuration: latent must be a multiple of 4 up to 768, not {self.latent}")

    @property
    def analysis(self) -> Sizes:
        return Sizes(self.width8, self.width16, self.blocks8, self.blocks16)

    @property
    def synthesis(self) -> Sizes:
        """Those of either synthesis."""
        own = self.synthesis8, self.synthesis16, self.synthesis_blocks8, self.synthesis_blocks16
        return Sizes(*(mine or shared for mine, shared in zip(own, self.analysis, strict=True)))

    @property
    def denoiser_halo(self) -> int:
        """How far one evaluation of the denoiser sees around a position, in latent rows and columns."""
        return 2 * self.denoiser_blocks


SMALL = Config()
BASE = Config(width8=160, width16=320, context=224, blocks8=3, blocks16=5, denoiser=224, grain=30)


def from_mapping(values: dict[str, Any]) -> Config:
    """Build a configuration from a JSON or TOML table. Raises ModelError for unknown or impossible entries."""
    unknown = sorted(set(values) - {field.name for field in fields(Config)})
    if unknown:
        raise ModelError(f"configuration: unknown entries {', '.join(unknown)}")
    return Config(**values)
