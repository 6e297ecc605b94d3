"""report.html: one page that needs no network, with curves, tables, and each picture through every codec."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ldcodec import __version__
from ldcodec.bench.catalogue import OWN
from ldcodec.bench.curves import METHOD, Curve
from ldcodec.bench.matching import Shown, SideBySide
from ldcodec.bench.metrics import MEASURES, goodness
from ldcodec.bench.plot import colours, limits
from ldcodec.bench.summary import Summary, equal_columns, machine, mean_cost
from ldcodec.bitstream.atomic import replaced
from ldcodec.viewer.document import data_address, json_text, read_files

TEMPLATE = "report.html.jinja"
COSTS = ("encode_s", "encode_cpu_s", "decode_s", "decode_cpu_s", "encode_mb", "decode_mb")


def write(summary: Summary, pictures: Sequence[SideBySide], path: Path, title: str, command: str) -> None:
    """Write the report. Raises ImportError without jinja2 or plotly."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("ldcodec.bench", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(TEMPLATE).render(
        title=title,
        command=command,
        version=__version__,
        method=METHOD,
        machine=machine(),
        summary=summary,
        columns=equal_columns(summary),
        costs=[(curve, [mean_cost(curve, key) for key in COSTS]) for curve in summary.measured],
        style=read_files("slider.css") + _file("report.css"),
        plotly=get_plotlyjs(),
        own=OWN,
        pictures=pictures,
        json=json_text(page_data(summary, pictures)),
        script=_file("report.js") + read_files("slider.js"),
    )
    with replaced(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def page_data(summary: Summary, pictures: Sequence[SideBySide]) -> dict[str, Any]:
    """What the page's script reads: the curves of each measure, deltas, and pictures as data URIs."""
    measures = ["psnr", *(m for m in MEASURES if any(curve.has(m) for curve in summary.curves))]
    chosen = colours(summary)
    published = {curve.name for curve in summary.published}
    return {
        "own": OWN,
        "anchor": summary.anchor,
        "limits": limits(summary),
        "measures": [{"name": m, "label": _label(m), "places": _places(m)} for m in measures],
        "curves": [_curve(c, measures, chosen[c.name], c.name in published) for c in summary.curves],
        "deltas": [
            {
                "anchor": c.anchor,
                "test": c.test,
                "measure": c.measure,
                "rate": c.delta.rate,
                "gain": c.delta.gain,
                "low": c.delta.low,
                "high": c.delta.high,
            }
            for c in summary.comparisons
        ],
        "titles": {codec.name: codec.title for codec in summary.codecs} | {"original": "Original"},
        "pictures": [
            {"name": p.picture, "width": p.width, "height": p.height, "shown": [_shown(s) for s in p.shown]}
            for p in pictures
        ],
    }


def _label(measure: str) -> str:
    if measure == "psnr":
        return "PSNR in dB"
    if measure == "ms_ssim":
        return "MS-SSIM in dB, −10·log₁₀(1 − x)"
    return MEASURES[measure].title + ("" if MEASURES[measure].higher_is_better else " (lower is better)")


def _places(measure: str) -> int:
    """The decimals that mean something on the scale of `goodness`: PSNR and MS-SSIM are in dB."""
    return 2 if measure in ("psnr", "ms_ssim") else MEASURES[measure].places


def _curve(curve: Curve, measures: list[str], colour: str, published: bool) -> dict[str, Any]:
    points = [
        {"bpp": p["bpp"], "setting": p.get("setting"), **{m: _axis_value(m, p[m]) for m in measures if m in p}}
        for p in curve.points
    ]
    return {"name": curve.name, "title": curve.title, "colour": colour, "published": published, "points": points}


def _axis_value(measure: str, value: float) -> float:
    return goodness(measure, value) if measure == "ms_ssim" else value


def _shown(shown: Shown) -> dict[str, Any]:
    return {"codec": shown.codec, "bpp": shown.bpp, "psnr": shown.psnr, "src": data_address(shown.mime, shown.data)}


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
