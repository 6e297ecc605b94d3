"""Decoder options: how the reverse diffusion runs, and which part of the picture to decode."""

from dataclasses import dataclass
from typing import TypedDict

from ldcodec.bitstream.arguments import check_flag, check_inside, check_number, check_region, check_type, check_whole
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.slices import VIEW_SCALES, Area
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.diffusion import MAX_STEPS
from ldcodec.diffusion.samplers import SAMPLERS, OnStep
from ldcodec.errors import UsageError
from ldcodec.pictures.picture import Pixels, averaged

REALISTIC_STEPS = 8  # default for a realism above 0 in a model without a second synthesis


@dataclass(frozen=True)
class DecodeSettings:
    """How a picture is restored: how the reverse diffusion runs, or that only a draft is drawn.

    steps: 1..MAX_STEPS, or None for what suits the model (see `plan`).
    realism: 0 (least error) to 1 (natural texture).
    sampler: a name in SAMPLERS.
    seed: of the noise, 0..2⁶⁴ − 1.
    draft: draw the picture as previews are, without diffusion and by the linear shortcut of the synthesis alone.

    Raises UsageError for a value of another type or out of range, and for steps or realism of a draft.
    """

    steps: int | None = None
    realism: float = 0.0
    sampler: str = "ddim"
    seed: int = 0
    draft: bool = False

    def __post_init__(self) -> None:
        check_number("realism", self.realism, 0, 1)
        check_type("sampler", self.sampler, str, f"one of {', '.join(SAMPLERS)}")
        if self.sampler not in SAMPLERS:
            raise UsageError(f"sampler must be one of {', '.join(SAMPLERS)}, not {self.sampler!r}")
        if self.steps is not None:
            check_whole("steps", self.steps, 1, MAX_STEPS)
        check_whole("seed", self.seed, 0, 2**64 - 1)
        check_flag("draft", self.draft)
        if self.draft and (self.realism or self.steps is not None):
            raise UsageError("a draft is drawn without diffusion: give either draft, or steps and realism")

    def plan(self, textured: bool) -> "Plan":
        """Resolve the settings for a model with (`textured`) or without a second synthesis.

        In one step, realism comes from the second synthesis. In several steps, or in 8 by default without a second
        synthesis, it comes from the posterior, which is sampled with noise scaled by the realism.
        """
        if self.realism and self.steps in (None, 1) and textured:
            return Plan(1, 0.0, self.realism)
        return Plan(self.steps or (REALISTIC_STEPS if self.realism else 1), self.realism, 0.0)


@dataclass(frozen=True)
class Plan:
    """Number of steps, scale of the noise that they start from (0..1), and share of the second synthesis (0..1)."""

    steps: int
    noise: float
    texture: float


@dataclass(frozen=True)
class Request:
    """Which part of a picture to decode.

    region: (x, y, width, height) in pixels, or None for the whole picture.
    scale: 1, or 2, 4, 8 or 16 for a preview at 1/scale of the size.
    salvage: decode the intact parts of a damaged file instead of refusing it.
    depth: 8 or 16 bits a sample, None for as many as the file says.

    Raises UsageError for a value of another type or out of range.
    """

    region: tuple[int, int, int, int] | None = None
    scale: int = 1
    salvage: bool = False
    depth: int | None = None

    def __post_init__(self) -> None:
        check_flag("salvage", self.salvage)
        if self.depth not in (None, 8, 16):
            raise UsageError(f"the depth must be 8 or 16, not {self.depth!r}")
        check_whole("scale", self.scale)
        if self.scale not in VIEW_SCALES:
            raise UsageError(f"the scale must be 1/1, 1/2, 1/4, 1/8 or 1/16, not 1/{self.scale}")
        if self.region is None:
            return
        check_region(self.region)
        if self.scale != 1:
            raise UsageError("a preview shows the whole picture: give either a region or a scale")

    def area(self, header: Header) -> Area | None:
        """The region as an area, None for the whole picture. Raises UsageError if it exceeds the picture."""
        if self.region is None:
            return None
        x, y, width, height = self.region
        check_inside(self.region, (header.width, header.height))
        return Area(y, y + height, x, x + width)

    def cut(self, plane: Pixels) -> Pixels:
        """Crop or reduce a whole plane, (H, W) or (H, W, C). A preview averages boxes; its sides are rounded up."""
        if self.scale != 1:
            return averaged(plane, self.scale)
        if self.region is None:
            return plane
        x, y, width, height = self.region
        return plane[y : y + height, x : x + width]


class DecodeOptions(TypedDict, total=False):
    """The keywords of the decoding functions in `codec`; `codec.decode` explains them."""

    steps: int | None
    realism: float
    sampler: str
    seed: int
    draft: bool
    model: DecoderModel | None
    on_step: OnStep | None
    request: Request | None
