"""The settings of a training run, read from a TOML file: each table is a dataclass, and unknown keys are refused."""

import tomllib
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ldcodec.bitstream.slices import PIXELS, UNIT
from ldcodec.entropy.config import Config
from ldcodec.errors import LdcodecError, UsageError

T = TypeVar("T")
GRID = UNIT * PIXELS  # crops are multiples of it: the hyper-latent lies at 1/64 of the picture's size


@dataclass(frozen=True)
class Data:
    """Patterns of tars, folders and picture files, and how many of the held-out pictures a validation uses."""

    pictures: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    validation_pictures: int = 24


@dataclass(frozen=True)
class Phase:
    """A part of a stage with its own learning rate.

    share: of the stage's time, relative to its other phases. rate: the learning rate after `warm_up` steps. descent:
    the last part of the phase, 0..1, in which the rate falls linearly to zero. There crops have `descent_crop` pixels a
    side instead of `crop`, and a step has fewer of them, so that its pixels stay as many.
    """

    share: float = 1.0
    rate: float = 1e-3
    warm_up: int = 400
    descent: float = 0.3
    batch: int = 4
    crop: int = 192
    descent_crop: int = 256

    def __post_init__(self) -> None:
        _require(
            self.share >= 0 and self.rate > 0 and self.warm_up >= 0,
            "share and warm_up must not be negative, and rate must be positive",
        )
        _require(0 <= self.descent <= 1, f"descent must be from 0 to 1, not {self.descent}")
        _require(self.batch >= 1, f"batch must be at least 1, not {self.batch}")
        for size in (self.crop, self.descent_crop):
            _require(size >= GRID and size % GRID == 0, f"crops must be multiples of {GRID}, not {size}")


@dataclass(frozen=True)
class AutoencoderSettings:
    """Stage 1: transforms and rate model.

    shortcut_rate: learning rate of K and Kᵀ relative to the other weights; muon: train hidden layers with Muon;
    balance: the power of λ/0.017 that weighs the loss of a quality; teaching: with a teacher, the share of the squared
    error that is measured against its picture and not against the original; visual: of a tuned model, the share of
    crops that are coded for the eye. decoder: a phase before the others for a synthesis or a rate model that begins
    afresh beside a trained analysis, which is frozen meanwhile; by default none.
    """

    minutes: float = 60.0
    shortcut_rate: float = 0.02
    muon: bool = False
    balance: float = -0.4
    teaching: float = 0.5
    visual: float = 0.0
    decoder: Phase = field(default_factory=lambda: Phase(share=0))
    phase: Phase = field(default_factory=Phase)

    def __post_init__(self) -> None:
        for name in ("teaching", "visual"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must be from 0 to 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class DenoiserSettings:
    """Stage 2: first the denoiser alone on its velocity, then denoiser and synthesis together on the picture.

    start_share: the share of the first phase's loss that is the error of one step from u = 0 at time 1; the rest is
    that of the velocity at random times. velocity_weight: of the velocity's error beside the picture's in the second
    phase. velocity_limit: |u| at which the targets are clipped.
    """

    minutes: float = 60.0
    shortcut_rate: float = 0.02
    start_share: float = 0.5
    velocity_weight: float = 0.1
    velocity_limit: float = 6.0
    velocity: Phase = field(default_factory=lambda: Phase(share=1.0, warm_up=200, descent=0.2))
    picture: Phase = field(default_factory=lambda: Phase(share=2.0, rate=2e-4, warm_up=200, descent=0.5))

    def __post_init__(self) -> None:
        _require(0 <= self.start_share <= 1, f"start_share must be from 0 to 1, not {self.start_share}")
        _require(
            min(self.velocity_weight, self.velocity_limit) >= 0,
            "velocity_weight and velocity_limit must not be negative",
        )


@dataclass(frozen=True)
class TextureSettings:
    """Stage 3: the second synthesis, for pictures that look natural.

    anchor: weight of the squared error (pixels in 0..1) against the picture of least error; coarse: of that of means
    over 16×16 pixels against the original; lpips, energy: of LPIPS and of the energy score; structure: of the structure
    lost half-way between the two pictures, relative to what the picture of least error loses; adversary: of what an
    adversary holds against the draws, 0 for none. favour: a quality is a uniform random number to this power, so that
    low qualities, where texture is lost, come more often.
    """

    minutes: float = 60.0
    shortcut_rate: float = 0.02
    anchor: float = 150.0
    coarse: float = 1500.0
    lpips: float = 1.5
    energy: float = 0.2
    structure: float = 0.0
    adversary: float = 0.0
    favour: float = 2.0
    phase: Phase = field(default_factory=lambda: Phase(rate=2e-4, warm_up=200, descent=0.5))

    def __post_init__(self) -> None:
        weights = (self.anchor, self.coarse, self.lpips, self.energy, self.structure, self.adversary)
        _require(
            min(weights) >= 0 and self.favour > 0,
            "anchor, coarse, lpips, energy, structure and adversary must not be negative, and favour must be positive",
        )


@dataclass(frozen=True)
class Run:
    """How a run uses the machine. device: auto, cpu or cuda; validate_minutes: 0 for a validation only at the end."""

    threads: int = 1
    device: str = "auto"
    checkpoint_minutes: float = 5.0
    validate_minutes: float = 0.0
    report_steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.threads >= 1 and self.report_steps >= 1, "threads and report_steps must be at least 1")
        _require(self.device in ("auto", "cpu", "cuda"), f"device must be auto, cpu or cuda, not {self.device!r}")


@dataclass(frozen=True)
class TrainingSettings:
    """All stages of the training of one model."""

    model: Config = field(default_factory=Config)
    data: Data = field(default_factory=Data)
    run: Run = field(default_factory=Run)
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    texture: TextureSettings = field(default_factory=TextureSettings)


def read_settings(path: Path) -> TrainingSettings:
    """The settings of a TOML file. Raises UsageError for a file that cannot be read, unknown keys and wrong values."""
    try:
        return from_table(TrainingSettings, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, LdcodecError) as error:
        raise UsageError(f"{path}: {error}") from error


def from_table(kind: type[T], table: dict[str, Any], where: str = "") -> T:
    """A dataclass from a TOML table and the tables in it, at the path `where`. Raises UsageError."""
    hints, values = get_type_hints(kind), {}
    unknown = sorted(set(table) - {f.name for f in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise UsageError(f"unknown settings {', '.join(where + name for name in unknown)}")
    for name, value in table.items():
        values[name] = _value(hints[name], value, f"{where}{name}")
    return kind(**values)


def override(settings: TrainingSettings, **changes: dict[str, Any]) -> TrainingSettings:
    """Settings with entries of the named tables replaced; entries that are None keep their value."""
    for table, entries in changes.items():
        given = {name: value for name, value in entries.items() if value is not None}
        settings = replace(settings, **{table: replace(getattr(settings, table), **given)})
    return settings


def _value(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        _require(isinstance(value, dict), f"{where} must be a table")
        return from_table(kind, value, f"{where}.")  # type: ignore[arg-type]
    if kind is float:
        _require(type(value) in (int, float), f"{where} must be a number, not {value!r}")
        return float(value)
    if kind == tuple[str, ...]:
        values = [value] if isinstance(value, str) else value
        _require(
            isinstance(values, list) and all(isinstance(v, str) for v in values), f"{where} must be a list of strings"
        )
        return tuple(values)
    _require(type(value) is kind, f"{where} must be of type {kind.__name__}, not {value!r}")
    return value


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise UsageError(problem)
