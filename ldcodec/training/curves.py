"""Rate-distortion curves, in JSON {"name", "points": [{"bpp", "psnr", …}]}, and Bjontegaard deltas between them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldcodec.errors import UsageError

FEWEST = 3  # points that an interpolation needs


@dataclass(frozen=True)
class Curve:
    """Bits a pixel and PSNR in dB, both strictly rising."""

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]


@dataclass(frozen=True)
class Delta:
    """A curve against an anchor: bits in percent at equal PSNR, dB at equal bits, and the PSNR range that both cover.

    A delta is None where too little is shared.
    """

    rate: float | None
    psnr: float | None
    low: float
    high: float


def curve_of(name: str, points: list[dict[str, Any]]) -> Curve:
    """A curve without the points that cost more bits for no more PSNR."""
    kept: list[tuple[float, float]] = []
    for bpp, psnr in sorted((float(p["bpp"]), float(p["psnr"])) for p in points):
        if not kept or (bpp > kept[-1][0] and psnr > kept[-1][1]):
            kept.append((bpp, psnr))
    return Curve(name, tuple(bpp for bpp, _ in kept), tuple(psnr for _, psnr in kept))


def read_curves(paths: list[Path]) -> list[Curve]:
    """The curves of JSON files and of folders of them; raises UsageError for a file that holds none."""
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    return [_read_curve(file) for file in files]


def _read_curve(file: Path) -> Curve:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return curve_of(data["name"], data["points"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: no curve ({error})") from error


def compare(anchor: Curve, test: Curve) -> Delta:
    """Bjontegaard deltas (VCEG-M33), Akima interpolation over the logarithm of the rate.

    Raises UsageError where the package `bjontegaard` is not installed.
    """
    low, high = max(anchor.psnr[0], test.psnr[0]), min(anchor.psnr[-1], test.psnr[-1])
    if low >= high or min(len(anchor.bpp), len(test.bpp)) < FEWEST:
        return Delta(None, None, low, high)
    try:
        import bjontegaard  # only here: an extra that training does not need
    except ImportError as error:
        raise UsageError("comparing curves needs the package bjontegaard: pip install ldcodec[bench]") from error
    curves = [list(values) for values in (anchor.bpp, anchor.psnr, test.bpp, test.psnr)]
    options: dict[str, Any] = {"method": "akima", "require_matching_points": False, "min_overlap": 0}
    shared = max(anchor.bpp[0], test.bpp[0]) < min(anchor.bpp[-1], test.bpp[-1])
    psnr = float(bjontegaard.bd_psnr(*curves, **options)) if shared else None
    return Delta(float(bjontegaard.bd_rate(*curves, **options)), psnr, low, high)
