"""The folder of a bench: which files it gets, what of an earlier run may stay, what this installation cannot write."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ldcodec.bench import plot, report
from ldcodec.bench.matching import Exhibit
from ldcodec.bench.peers import EXTRA
from ldcodec.bench.rows import Results, read_rows
from ldcodec.bench.summary import Summary, as_json
from ldcodec.errors import UsageError

ROWS, SUMMARY, REPORT = "results.csv", "summary.json", "report.html"
ADDED = (
    ("bjontegaard", "BD-rate and BD-PSNR"),
    ("pytorch_msssim", "MS-SSIM"),
    ("matplotlib", "rd.png and rd.svg"),
    ("plotly", REPORT),
    ("imagecodecs", "JPEG XL"),
    ("pillow_heif", "HEIC"),
    ("skimage", "photographs to measure on"),
)


def begin(folder: Path, resume: bool, force: bool) -> Results:
    """The results of a new run, or of an earlier one to go on with.

    Raises UsageError for a folder that holds results and neither is asked for; OSError if it cannot be written.
    """
    path = folder / ROWS
    if path.exists() and not (resume or force):
        raise UsageError(
            f"{path}: exists already; --resume goes on with it, --force overwrites it, --out names another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return Results(path, read_rows(path) if resume and path.exists() else ())


def has_report() -> bool:
    """Whether the packages that the report needs are installed."""
    return all(find_spec(package) for package in ("plotly", "jinja2"))


def write(folder: Path, summary: Summary, exhibits: Sequence[Exhibit], title: str, command: str) -> list[Path]:
    """Writes all files beside the results; returns their paths, the report's last."""
    paths = [folder / SUMMARY]
    paths[0].write_text(json.dumps(as_json(summary), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if find_spec("matplotlib"):
        paths += plot.draw(summary, folder, title)
    if has_report():
        paths.append(folder / REPORT)
        report.write(summary, exhibits, paths[-1], title, command)
    return paths


def missing() -> str | None:
    """What the extra `bench` would add to this installation, in a line; None if nothing."""
    added = [what for package, what in ADDED if not find_spec(package)]
    return f"{EXTRA} adds: {', '.join(added)}" if added else None
