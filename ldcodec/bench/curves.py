"""Rate-distortion curves, in JSON {"name", "points": [{"bpp", "psnr", …}]}, and Bjontegaard deltas between them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldcodec.bench.metrics import goodness
from ldcodec.bench.peers import EXTRA
from ldcodec.errors import UsageError

FEWEST = 3  # points that an interpolation needs
METHOD = "akima"
Point = dict[str, float]


@dataclass(frozen=True)
class Curve:
    """points: each with `bpp` (bits a pixel, > 0) and measures such as `psnr` (dB), by rising bpp; note: where they
    are from.
    """

    name: str
    points: tuple[Point, ...]
    title: str = ""
    note: str = ""

    def has(self, measure: str) -> bool:
        """Whether every point has this measure."""
        return bool(self.points) and all(measure in point for point in self.points)

    def of(self, measure: str) -> tuple[list[float], list[float]]:
        """bpp and goodness (`metrics.goodness`), both strictly rising: points that cost more bits for no more of it
        are left out.
        """
        kept: list[tuple[float, float]] = []
        for bpp, value in sorted((p["bpp"], goodness(measure, p[measure])) for p in self.points if measure in p):
            if not kept or (bpp > kept[-1][0] and value > kept[-1][1]):
                kept.append((bpp, value))
        return [bpp for bpp, _ in kept], [value for _, value in kept]


@dataclass(frozen=True)
class Delta:
    """A curve against an anchor: bits in percent at equal quality, quality (dB of PSNR) at equal bits, and the range of
    quality that both cover, which is all that they speak of. A delta is None where too little is shared.
    """

    rate: float | None
    gain: float | None
    low: float
    high: float


def curve_of(name: str, points: list[dict[str, Any]], title: str = "", note: str = "") -> Curve:
    """A curve of points in any order; values that are no numbers are left out. Raises KeyError without bpp."""
    numbers = [{key: float(v) for key, v in p.items() if isinstance(v, (int, float))} for p in points]
    return Curve(name, tuple(sorted(numbers, key=lambda point: point["bpp"])), title or name, note)


def read_curves(paths: list[Path]) -> list[Curve]:
    """The curves of JSON files and of folders of them; raises UsageError for a file that holds none."""
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    return [_read_curve(file) for file in files]


def _read_curve(file: Path) -> Curve:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        curve = curve_of(str(data["name"]), data["points"], note=str(data.get("source") or data.get("settings") or ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: no curve ({error!r})") from error
    if not curve.points or any(point["bpp"] <= 0 for point in curve.points):
        raise UsageError(f"{file}: no curve (it needs points of bpp above 0)")
    return curve


def compare(anchor: Curve, test: Curve, measure: str = "psnr") -> Delta | None:
    """Bjontegaard deltas (VCEG-M33) of `test` against `anchor`, Akima interpolation over the logarithm of the rate.

    None where one of them lacks the measure. Raises UsageError where the package `bjontegaard` is not installed.
    """
    if not (anchor.has(measure) and test.has(measure)):
        return None
    (bits_a, good_a), (bits_t, good_t) = anchor.of(measure), test.of(measure)
    low, high = max(good_a[0], good_t[0]), min(good_a[-1], good_t[-1])
    if low >= high or min(len(bits_a), len(bits_t)) < FEWEST:
        return Delta(None, None, low, high)
    try:
        import bjontegaard  # only here: an extra that coding and training do not need
    except ImportError as error:
        raise UsageError(f"comparing curves needs the package bjontegaard: {EXTRA}") from error
    curves = (bits_a, good_a, bits_t, good_t)
    options: dict[str, Any] = {"method": METHOD, "require_matching_points": False, "min_overlap": 0}
    shared = max(bits_a[0], bits_t[0]) < min(bits_a[-1], bits_t[-1])
    gain = float(bjontegaard.bd_psnr(*curves, **options)) if shared else None
    return Delta(float(bjontegaard.bd_rate(*curves, **options)), gain, low, high)
