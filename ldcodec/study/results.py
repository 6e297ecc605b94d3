"""What a run found, as one JSON file a run, and the rows that tables and plots are made of."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ldcodec.errors import UsageError
from ldcodec.study.perception import Estimate
from ldcodec.study.rates import Entropies
from ldcodec.study.runs import Settings, as_json, from_json

SUFFIX = ".run.json"
FLOOR, DECODER, ONE_STEP, GENERATED = "floor", "decoder", "one step", "generated"  # ways of decoding, beside realisms


@dataclass(frozen=True)
class Change:
    """How far one way of decoding is from the decoder alone, on the same bits, pictures, reference and seeds.

    psnr in dB, more is better; frechet, kernel, divergence: less is better. Each is the mean of the differences of the
    seeds, and its interval is theirs: what all ways of a seed share, such as hard pictures, does not widen it.
    """

    psnr: Estimate
    frechet: Estimate
    kernel: Estimate
    divergence: Estimate


@dataclass(frozen=True)
class Quality:
    """Distortion and perception of one way of decoding.

    way: "decoder" (of the autoencoder alone), "one step" (conditional, u = 0), "realism 1" (conditional, many steps),
    "generated" (from the prior; no distortion), "floor" (real pictures). psnr: of the mean squared error over all
    pictures of a seed, dB; frechet, kernel, divergence: see `perception`; seconds: of processor time a picture; change:
    against the decoder alone, None where there is nothing to compare.
    """

    way: str
    psnr: Estimate | None
    frechet: Estimate
    kernel: Estimate
    divergence: Estimate
    seconds: float
    change: Change | None = None


@dataclass(frozen=True)
class Result:
    """One run: bits a picture that were written and that the bound says; qualities; entropies over time.

    coded: of the bytes of one stream for all pictures of a seed. bound: cross-entropy − entropy under the settings'
    prior. distortion: −E log p(x|z), nats. mixing: mean α, None without a diffusion. accuracy: of the classifier.
    """

    settings: Settings
    coded: Estimate
    bound: float
    distortion: float
    qualities: tuple[Quality, ...]
    entropies: tuple[Entropies, ...]
    mixing: float | None
    accuracy: float
    pixels: int

    def quality(self, way: str) -> Quality | None:
        """The quality of one way of decoding, None if it was not measured."""
        return next((quality for quality in self.qualities if quality.way == way), None)


def path_of(folder: Path, settings: Settings) -> Path:
    """The file of a run's result."""
    return folder / (settings.name + SUFFIX)


def write(result: Result, folder: Path) -> Path:
    """Writes a result into a folder, whole or not at all; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, result.settings)
    stored = {**asdict(result), "settings": {**as_json(result.settings), "data": Path(result.settings.data).name}}
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def read(paths: Sequence[Path]) -> list[Result]:
    """The results in files and folders, by name. Raises UsageError for what is none, or where there are none."""
    files = [file for path in paths for file in (sorted(path.glob("*" + SUFFIX)) if path.is_dir() else [path])]
    if not files:
        raise UsageError(f"no results (*{SUFFIX}) in {', '.join(str(path) for path in paths)}")
    return [_read(file) for file in files]


def _read(path: Path) -> Result:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Result(
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
