"""Rate-distortion curves, as JSON {"name", "points": [{"bpp", "psnr", …}]}, and Bjontegaard deltas between them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldcodec.bench.codecs import EXTRA
from ldcodec.bench.metrics import goodness
from ldcodec.errors import UsageError

MIN_POINTS = 3  # that the interpolation needs
METHOD = "akima"
Point = dict[str, float]


@dataclass(frozen=True)
class Curve:
    """points: each with `bpp` (bits per pixel, > 0) and measures such as `psnr` (dB), sorted by bpp.

    title: in tables and plots; note: where the points come from.
    """

    name: str
    points: tuple[Point, ...]
    title: str = ""
    note: str = ""

    def has(self, measure: str) -> bool:
        """Whether every point has a value of this measure."""
        return bool(self.points) and all(measure in point for point in self.points)

    def of(self, measure: str) -> tuple[list[float], list[float]]:
        """bpp and goodness (`metrics.goodness`), both strictly rising.

        Points that cost more bits without being better are left out.
        """
        kept: list[tuple[float, float]] = []
        for bpp, value in sorted((p["bpp"], goodness(measure, p[measure])) for p in self.points if measure in p):
            if not kept or (bpp > kept[-1][0] and value > kept[-1][1]):
                kept.append((bpp, value))
        return [bpp for bpp, _ in kept], [value for _, value in kept]


@dataclass(frozen=True)
class Delta:
    """A curve compared with an anchor, over the range of quality that both cover.

    rate: bits in percent at equal quality; gain: quality (dB for PSNR) at equal bits; each None if the curves overlap
    too little. low, high: that range, on the scale of `metrics.goodness`.
    """

    rate: float | None
    gain: float | None
    low: float
    high: float


def curve_of(name: str, points: list[dict[str, Any]], title: str = "", note: str = "") -> Curve:
    """A curve from points in any order, keeping only their numbers. Raises KeyError for a point without bpp."""
    numbers = [{key: float(v) for key, v in p.items() if isinstance(v, (int, float))} for p in points]
    return Curve(name, tuple(sorted(numbers, key=lambda point: point["bpp"])), title or name, note)


def read_curves(paths: list[Path]) -> list[Curve]:
    """Read the curves in JSON files and folders of them. Raises UsageError for a file that is not a curve."""
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    return [_read_curve(file) for file in files]


def _read_curve(file: Path) -> Curve:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        curve = curve_of(str(data["name"]), data["points"], note=str(data.get("source") or data.get("settings") or ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: not a curve ({error!r})") from error
    if not curve.points or any(point["bpp"] <= 0 for point in curve.points):
        raise UsageError(f"{file}: not a curve (it needs points with bpp above 0)")
    return curve


def compare(anchor: Curve, test: Curve, measure: str = "psnr") -> Delta | None:
    """Bjontegaard deltas (VCEG-M33) of `test` against `anchor`, by Akima interpolation over the logarithm of the rate.

    None if either lacks the measure. Raises UsageError if the package `bjontegaard` is not installed.
    """
    if not (anchor.has(measure) and test.has(measure)):
        return None
    (bits_a, good_a), (bits_t, good_t) = anchor.of(measure), test.of(measure)
    low, high = max(good_a[0], good_t[0]), min(good_a[-1], good_t[-1])
    if low >= high or min(len(bits_a), len(bits_t)) < MIN_POINTS:
        return Delta(None, None, low, high)
    try:
        import bjontegaard  # here, because it belongs to an extra
    except ImportError as error:
        raise UsageError(f"comparing curves needs the package bjontegaard: {EXTRA}") from error
    curves = (bits_a, good_a, bits_t, good_t)
    options: dict[str, Any] = {"method": METHOD, "require_matching_points": False, "min_overlap": 0}
    shared = max(bits_a[0], bits_t[0]) < min(bits_a[-1], bits_t[-1])
    gain = float(bjontegaard.bd_psnr(*curves, **options)) if shared else None
    return Delta(float(bjontegaard.bd_rate(*curves, **options)), gain, low, high)
