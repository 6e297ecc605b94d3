"""Rows → means at each setting, curves and Bjontegaard deltas of every pair, and the tables that the terminal shows."""

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

SHORT = {"ssimulacra2": "SSIMU 2", "butteraugli": "Butterau."}  # headings that fit into ten characters
RunColumns = tuple[tuple[str, str, int], ...]
RUN_COLUMNS: RunColumns = (  # key of a point, heading, decimals
    ("bpp", "bpp", 4),
    ("psnr", "PSNR dB", 2),
    ("psnr_of_mean_mse", "of mean", 2),
    *((name, SHORT.get(name, measure.title), measure.places) for name, measure in MEASURES.items()),
    ("encode_s", "encode s", 3),
    ("decode_s", "decode s", 3),
)
MEASURED = ("bpp", "psnr", *MEASURES, "encode_s", "encode_cpu_s", "decode_s", "decode_cpu_s", "encode_mb", "decode_mb")


@dataclass(frozen=True)
class Comparison:
    """A Delta with the names of its two curves and of its measure."""

    anchor: str
    test: str
    measure: str
    delta: Delta


@dataclass(frozen=True)
class Equal:
    """The means of a codec's best files within `limit` bits per pixel.

    point: None if some picture has no file as small.
    """

    codec: Codec
    limit: float
    point: Point | None


@dataclass(frozen=True)
class Summary:
    """The results of a bench.

    equal: for each limit, every codec that was compared at equal bits.
    comparisons: of every pair of curves and every measure, empty without the package `bjontegaard`.
    left_out: a line for each picture, codec or row that is missing from the means.
    """

    pictures: tuple[str, ...]
    codecs: tuple[Codec, ...]
    equal: tuple[Equal, ...]
    measured: tuple[Curve, ...]
    published: tuple[Curve, ...]
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    anchor: str
    threads: int
    jobs: int

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The measured curves, then the published ones."""
        return self.measured + self.published

    def delta(self, anchor: str, test: str, measure: str = "psnr") -> Delta | None:
        """The deltas of a pair; None if they were not computed."""
        for c in self.comparisons:
            if (c.anchor, c.test, c.measure) == (anchor, test, measure):
                return c.delta
        return None


def mean_point(rows: Sequence[Row]) -> Point:
    """Means over the pictures, but the maximum of memory. Measures that a picture lacks are left out.

    psnr_of_mean_mse: the PSNR of the mean of the squared errors, which is below the mean of the PSNRs.
    """
    point: Point = {"setting": rows[0].setting, "pictures": len(rows)}
    for name in MEASURED:
        values = [getattr(row, name) for row in rows]
        if None not in values:
            point[name] = max(values) if name.endswith("_mb") else sum(values) / len(values)
    point["psnr_of_mean_mse"] = psnr(sum(row.mse for row in rows) / len(rows))
    return point


def curve_of_rows(rows: Sequence[Row], codec: Codec, pictures: int) -> Curve:
    """The means at each setting of a sweep that all pictures have gone through."""
    swept = [row for row in rows if row.codec == codec.name and row.limit is None]
    groups = [[row for row in swept if row.setting == s] for s in sorted({row.setting for row in swept})]
    return _curve(codec, [mean_point(group) for group in groups if len(group) == pictures])


def _curve(codec: Codec, points: Sequence[Point]) -> Curve:
    return Curve(codec.name, tuple(sorted(points, key=lambda p: p["bpp"])), codec.title, codec.version)


def equal_bits(rows: Sequence[Row], codecs: Sequence[Codec], pictures: int) -> tuple[Equal, ...]:
    """What `Summary.equal` holds."""
    found = []
    for limit in sorted({row.limit for row in rows if row.limit is not None}):
        for codec in codecs:
            group = [row for row in rows if (row.codec, row.limit) == (codec.name, limit)]
            if group:
                fits = len(group) == pictures and all(row.bpp <= limit for row in group)
                found.append(Equal(codec, limit, mean_point(group) if fits else None))
    return tuple(found)


def summarise(
    rows: list[Row],
    codecs: list[Codec],
    published: list[Curve],
    failed: set[str],
    swept: bool = True,
    **details: Any,
) -> Summary:
    """Compute a summary; details: the fields of Summary that are not computed here.

    failed: pictures that some codec could not handle; they are left out, so that all means are over the same pictures.
    swept: whether the curves are those of a sweep, or else go through the means at equal bits.
    """
    kept = [row for row in rows if row.picture not in failed]
    pictures = tuple(dict.fromkeys(row.picture for row in kept))
    equal = equal_bits(kept, codecs, len(pictures))
    if swept:
        curves = [curve_of_rows(kept, codec, len(pictures)) for codec in codecs]
    else:
        curves = [_curve(codec, [e.point for e in equal if e.codec is codec and e.point]) for codec in codecs]
    measured = tuple(curve for curve in curves if curve.points)
    comparisons = tuple(_comparisons([*measured, *published])) if find_spec("bjontegaard") else ()
    return Summary(pictures, tuple(codecs), equal, measured, tuple(published), comparisons, **details)


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
    """The values of summary.json; `curves.read_curves` can read its curves."""
    return {
        "pictures": list(summary.pictures),
        "left_out": list(summary.left_out),
        "machine": machine(),
        "threads": summary.threads,
        "jobs": summary.jobs,
        "curves": [
            {"name": c.name, "title": c.title, "source": c.note, "points": list(c.points)} for c in summary.curves
        ],
        "equal_bits": [
            {"limit": e.limit, "codec": e.codec.name, "trained_on": list(e.codec.trained_on), "means": e.point}
            for e in summary.equal
        ],
        "bjontegaard": {
            "method": f"{METHOD} over log rate, over the range of quality that both curves cover",
            "quality": "psnr in dB; ms_ssim as -10*log10(1 - x); ssimulacra2 unchanged; all others negated",
            "deltas": [
                {"anchor": c.anchor, "test": c.test, "measure": c.measure, **asdict(c.delta)}
                for c in summary.comparisons
            ],
        },
    }


def machine() -> dict[str, Any]:
    """The machine that the seconds were measured on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def run_columns(measures: tuple[str, ...]) -> RunColumns:
    """The columns of the table that grows while the bench runs."""
    return tuple(column for column in RUN_COLUMNS if column[0] not in MEASURES or column[0] in measures)


def run_head(columns: RunColumns) -> str:
    """The headings above the lines of `run_line`."""
    return f"{'codec':<14}{'setting':>8}" + "".join(f"{title:>10}" for _, title, _ in columns)


def run_line(codec: Codec, point: Point, columns: RunColumns) -> str:
    """The means at one setting."""
    cells = [f"{point[key]:10.{places}f}" if key in point else f"{'-':>10}" for key, _, places in columns]
    return f"{codec.name:<14}{point['setting']:>8g}" + "".join(cells)


def equal_table(summary: Summary) -> list[str]:
    """The table at equal bits: for each limit the means of every codec, and the measures that it was trained on."""
    if not summary.equal:
        return []
    columns = equal_columns(summary)
    head = f"{'at most bpp':<12}{'codec':<24}" + "".join(f"{title:>10}" for _, title, _ in columns)
    return [head + "  trained on", *(_equal_line(e, columns) for e in summary.equal)]


def equal_columns(summary: Summary) -> RunColumns:
    """The columns of the table at equal bits: the bits and every measure; seconds have a table of their own."""
    measured = {key for equal in summary.equal if equal.point for key in equal.point}
    return tuple(column for column in RUN_COLUMNS if column[0] in {"bpp", "psnr", *MEASURES} & measured)


def _equal_line(equal: Equal, columns: RunColumns) -> str:
    start = f"{equal.limit:<12g}{equal.codec.name:<24}"
    if equal.point is None:
        return start + "  some picture has no file as small"
    point = equal.point
    cells = [f"{point[key]:10.{places}f}" if key in point else f"{'-':>10}" for key, _, places in columns]
    return start + "".join(cells) + "  " + (", ".join(equal.codec.trained_on) or "-")


def rates_table(summary: Summary) -> list[str]:
    """BD-rates in percent of every curve against the anchor, a column for each measure; empty for PSNR alone."""
    measures = list(dict.fromkeys(c.measure for c in summary.comparisons))
    if len(measures) < 2:
        return []
    titles = {key: title.removesuffix(" dB") for key, title, _ in RUN_COLUMNS}
    head = f"{'BD-rate, %':<27}" + "".join(f"{titles[measure]:>10}" for measure in measures)
    others = [curve for curve in summary.curves if curve.name != summary.anchor]
    return [head, *(f"{curve.title:<27}" + "".join(_rates(summary, curve, measures)) for curve in others)]


def _rates(summary: Summary, curve: Curve, measures: Sequence[str]) -> list[str]:
    deltas = [summary.delta(summary.anchor, curve.name, measure) for measure in measures]
    return [f"{'-':>10}" if d is None or d.rate is None else f"{d.rate:>+10.1f}" for d in deltas]


def comparison(summary: Summary) -> list[str]:
    """The table at the end: for each curve the deltas against the anchor, seconds and memory."""
    head = f"{'against ' + summary.anchor:<27}{'BD-rate':>10}{'BD-PSNR':>10}{'over dB':>12}"
    costs = "".join(f"{title:>9}" for title in ("enc s", "dec s", "enc MB", "dec MB"))
    return [head + costs, *(_comparison_line(summary, curve) for curve in summary.curves)]


def _comparison_line(summary: Summary, curve: Curve) -> str:
    delta = summary.delta(summary.anchor, curve.name)
    cells = f"{'anchor':>10}{'':>10}{'':>12}" if curve.name == summary.anchor else delta_cells(delta)
    places = {"encode_s": 3, "decode_s": 3, "encode_mb": 0, "decode_mb": 0}
    costs = [(mean_cost(curve, key), digits) for key, digits in places.items()]
    texts = [f"{'-':>9}" if cost is None else f"{cost:9.{digits}f}" for cost, digits in costs]
    return f"{curve.title[:26]:<27}{cells}" + "".join(texts)


def delta_cells(delta: Delta | None) -> str:
    """BD-rate, BD-PSNR and the range of PSNR that they cover, 32 characters in all."""
    if delta is None:
        return f"{'-':>10}{'-':>10}{'-':>12}"
    rate = "-" if delta.rate is None else f"{delta.rate:+.1f} %"
    gain = "-" if delta.gain is None else f"{delta.gain:+.2f} dB"
    shared = f"{delta.low:.1f}-{delta.high:.1f}" if delta.low < delta.high else "none"
    return f"{rate:>10}{gain:>10}{shared:>12}"


def mean_cost(curve: Curve, key: str) -> float | None:
    """The mean of a cost over a curve's settings, or its maximum for memory; None if the curve does not have it."""
    values = [point[key] for point in curve.points if key in point]
    if not values:
        return None
    return max(values) if key.endswith("_mb") else sum(values) / len(values)


def notes(summary: Summary) -> list[str]:
    """How the deltas, seconds and memory of the table are to be read."""
    deltas = [
        "BD-rate: bits at equal PSNR, negative is better; BD-PSNR: dB at equal bits. "
        f"{METHOD.capitalize()} interpolation over log rate, within the range of PSNR shown."
    ]
    threads = f"{summary.threads} thread{'' if summary.threads == 1 else 's'} per codec"
    return (deltas if summary.comparisons else []) + [
        f"Seconds: means over settings and pictures, in process, {threads}, {summary.jobs} at a time. "
        "MB: the most that one picture took."
    ]
