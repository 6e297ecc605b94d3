"""The results of a run, and the JSON file that stores them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ldcodec.bitstream.atomic import replaced
from ldcodec.errors import UsageError
from ldcodec.study.perception import Estimate
from ldcodec.study.rates import Entropies
from ldcodec.study.runs import StudySettings, as_json, from_json

SUFFIX = ".run.json"
FLOOR, DECODER, ONE_STEP, GENERATED = "floor", "decoder", "one step", "generated"  # see Quality.way


@dataclass(frozen=True)
class Change:
    """What one way of decoding changes against the decoder alone, on the same bits, pictures, reference and seeds.

    psnr: in dB, more is better; frechet, kernel, divergence: less is better. Each estimate is over the differences of
    the seeds, so that what all ways of a seed share, such as difficult pictures, does not widen its interval.
    """

    psnr: Estimate
    frechet: Estimate
    kernel: Estimate
    divergence: Estimate


@dataclass(frozen=True)
class Quality:
    """Distortion and perception of one way of decoding.

    way: "decoder" (of the autoencoder alone), "one step" (conditional, u = 0), "realism 1" (conditional, many steps),
    "generated" (from the prior; no distortion) or "floor" (real pictures). psnr: in dB, of the mean squared error over
    all pictures of a seed. frechet, kernel, divergence: see `perception`. seconds: of processor time per picture.
    change: against the decoder alone, None where there is nothing to compare.
    """

    way: str
    psnr: Estimate | None
    frechet: Estimate
    kernel: Estimate
    divergence: Estimate
    seconds: float
    change: Change | None = None


@dataclass(frozen=True)
class RunResult:
    """What a run found. All bits and nats are per picture.

    coded: bits that were written, in one stream for all pictures of a seed. bound: cross-entropy − entropy in bits,
    under the prior of the settings. distortion: −E log p(x|z) in nats. mixing: the mean α, None without a diffusion.
    accuracy: of the classifier, 0..1. pixels: of a picture.
    """

    settings: StudySettings
    coded: Estimate
    bound: float
    distortion: float
    qualities: tuple[Quality, ...]
    entropies: tuple[Entropies, ...]
    mixing: float | None
    accuracy: float
    pixels: int

    def quality(self, way: str) -> Quality | None:
        """The quality measured for one way of decoding, or None."""
        return next((quality for quality in self.qualities if quality.way == way), None)


def path_of(folder: Path, settings: StudySettings) -> Path:
    """The file of a run's result."""
    return folder / (settings.name + SUFFIX)


def write(result: RunResult, folder: Path) -> Path:
    """Write the file of a result into a folder and return its path. The path of the data is not stored."""
    path = path_of(folder, result.settings)
    stored = {**asdict(result), "settings": {**as_json(result.settings), "data": Path(result.settings.data).name}}
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return path


def read(paths: Sequence[Path]) -> list[RunResult]:
    """The results in files and folders. Raises UsageError for a file that is no result, or if there are none."""
    files = [file for path in paths for file in (sorted(path.glob("*" + SUFFIX)) if path.is_dir() else [path])]
    if not files:
        raise UsageError(f"no results (*{SUFFIX}) in {', '.join(str(path) for path in paths)}")
    return [_read(file) for file in files]


def _read(path: Path) -> RunResult:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return RunResult(
            **{
                **stored,
                "settings": from_json(stored["settings"]),
                "coded": Estimate(**stored["coded"]),
                "qualities": tuple(_quality(quality) for quality in stored["qualities"]),
                "entropies": tuple(Entropies(**row) for row in stored["entropies"]),
            }
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: not a result of the study ({type(error).__name__}: {error})") from error


def _quality(stored: dict[str, Any]) -> Quality:
    measures = {key: Estimate(**stored[key]) for key in ("frechet", "kernel", "divergence")}
    psnr = None if stored["psnr"] is None else Estimate(**stored["psnr"])
    return Quality(stored["way"], psnr, seconds=stored["seconds"], change=_change(stored.get("change")), **measures)


def _change(stored: dict[str, Any] | None) -> Change | None:
    return None if stored is None else Change(**{key: Estimate(**value) for key, value in stored.items()})
