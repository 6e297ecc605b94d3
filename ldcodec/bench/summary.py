"""Rows → means at each setting, curves, Bjontegaard deltas of every pair: what table, plot and report are made of."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from ldcodec.bench.codecs import Codec
from ldcodec.bench.curves import METHOD, Curve, Delta, Point, compare
from ldcodec.bench.metrics import MEASURES, psnr
from ldcodec.bench.rows import Row

MEASURED = ("bpp", "psnr", *MEASURES, "encode_s", "encode_cpu_s", "decode_s", "decode_cpu_s", "encode_mb", "decode_mb")


@dataclass(frozen=True)
class Comparison:
    """A Delta with the names of its curves and its measure."""

    anchor: str
    test: str
    measure: str
    delta: Delta


@dataclass(frozen=True)
class Summary:
    """curves: measured, then published; comparisons: of every pair and measure, empty without `bjontegaard`;
    left_out: a line for each picture, codec or row that is missing from the means.
    """

    pictures: tuple[str, ...]
    codecs: tuple[Codec, ...]
    measured: tuple[Curve, ...]
    published: tuple[Curve, ...]
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    anchor: str
    threads: int
    jobs: int

    @property
    def curves(self) -> tuple[Curve, ...]:
        """All of them."""
        return self.measured + self.published

    def delta(self, anchor: str, test: str, measure: str = "psnr") -> Delta | None:
        """The deltas of a pair, None if there are none."""
        for c in self.comparisons:
            if (c.anchor, c.test, c.measure) == (anchor, test, measure):
                return c.delta
        return None


def mean_point(rows: Sequence[Row]) -> Point:
    """Means over the pictures at one setting, of memory the most; psnr_of_mean_mse: of the mean squared error, the
    lower figure. A measure that some picture lacks is left out.
    """
    point: Point = {"setting": rows[0].setting, "pictures": len(rows)}
    for name in MEASURED:
        values = [getattr(row, name) for row in rows]
        if None not in values:
            point[name] = max(values) if name.endswith("_mb") else sum(values) / len(values)
    point["psnr_of_mean_mse"] = psnr(sum(row.mse for row in rows) / len(rows))
    return point


def curve_of_rows(rows: list[Row], codec: Codec, pictures: int) -> Curve:
    """The means of each setting that all pictures have gone through."""
    settings = sorted({row.setting for row in rows if row.codec == codec.name})
    groups = [[row for row in rows if row.codec == codec.name and row.setting == s] for s in settings]
    points = [mean_point(group) for group in groups if len(group) == pictures]
    return Curve(codec.name, tuple(sorted(points, key=lambda p: p["bpp"])), codec.title, codec.version)


def summarise(
    rows: list[Row],
    codecs: list[Codec],
    published: list[Curve],
    failed: set[str],
    **details: Any,
) -> Summary:
    """failed: pictures that some codec could not do: they are left out of all means, so that all curves are means over
    the same pictures; details: the fields of Summary that are not computed here.
    """
    kept = [row for row in rows if row.picture not in failed]
    pictures = tuple(dict.fromkeys(row.picture for row in kept))
    curves = [curve_of_rows(kept, codec, len(pictures)) for codec in codecs]
    measured = tuple(curve for curve in curves if curve.points)
    comparisons = tuple(_comparisons([*measured, *published])) if find_spec("bjontegaard") else ()
    return Summary(pictures, tuple(codecs), measured, tuple(published), comparisons, **details)


def _comparisons(curves: list[Curve]) -> list[Comparison]:
    found = []
    for measure in ("psnr", *MEASURES):
        for anchor in curves:
            for test in curves:
                delta = compare(anchor, test, measure) if anchor is not test else None
                if delta is not None:
                    found.append(Comparison(anchor.name, test.name, measure, delta))
    return found


def as_json(summary: Summary) -> dict[str, Any]:
    """Plain values for summary.json; its curves have the form that `curves.read_curves` reads."""
    return {
        "pictures": list(summary.pictures),
        "left_out": list(summary.left_out),
        "machine": machine(),
        "threads": summary.threads,
        "jobs": summary.jobs,
        "curves": [
            {"name": c.name, "title": c.title, "source": c.note, "points": list(c.points)} for c in summary.curves
        ],
        "bjontegaard": {
            "method": f"{METHOD} over log rate, over the range of quality that both curves cover",
            "quality": "psnr in dB; ms_ssim as -10*log10(1 - x); lpips negated; ssimulacra2 as it is",
            "deltas": [
                {"anchor": c.anchor, "test": c.test, "measure": c.measure, **asdict(c.delta)}
                for c in summary.comparisons
            ],
        },
    }


def machine() -> dict[str, Any]:
    """What the seconds depend on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
