"""The output folder of a bench: which files are written, and whether those of an earlier run are kept."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ldcodec.bench import plot, report
from ldcodec.bench.codecs import EXTRA
from ldcodec.bench.matching import SideBySide
from ldcodec.bench.rows import Results, read_rows
from ldcodec.bench.summary import Summary, as_json
from ldcodec.bitstream.atomic import replaced
from ldcodec.errors import UsageError

ROWS, SUMMARY, REPORT = "results.csv", "summary.json", "report.html"
EXTRA_FEATURES = (  # package of the extra → what it adds
    ("bjontegaard", "BD-rate and BD-PSNR"),
    ("pytorch_msssim", "MS-SSIM"),
    ("matplotlib", "rd.png and rd.svg"),
    ("plotly", REPORT),
    ("imagecodecs", "JPEG XL"),
    ("pillow_heif", "HEIC"),
    ("skimage", "photographs to measure on"),
)


def begin(folder: Path, resume: bool, force: bool) -> Results:
    """The results of a new run, or of an earlier one that is resumed.

    Raises UsageError for a folder with results if neither `resume` nor `force` is given; OSError if it is not writable.
    """
    path = folder / ROWS
    if path.exists() and not (resume or force):
        raise UsageError(
            f"{path}: already exists; --resume continues it, --force overwrites it, --out names another folder"
        )
    return Results(path, read_rows(path) if resume and path.exists() else ())


def has_report() -> bool:
    """Whether the packages that the report needs are installed."""
    return all(find_spec(package) for package in ("plotly", "jinja2"))


def write(folder: Path, summary: Summary, pictures: Sequence[SideBySide], title: str, command: str) -> list[Path]:
    """Write all files next to the results; returns their paths, the report's last."""
    paths = [folder / SUMMARY]
    with replaced(paths[0]) as unfinished:
        unfinished.write_text(json.dumps(as_json(summary), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if find_spec("matplotlib"):
        paths += plot.draw(summary, folder, title)
    if has_report():
        paths.append(folder / REPORT)
        report.write(summary, pictures, paths[-1], title, command)
    return paths


def missing() -> str | None:
    """What the extra `bench` would add to this installation, in one line; None if it is complete."""
    added = [what for package, what in EXTRA_FEATURES if not find_spec(package)]
    return f"{EXTRA} adds: {', '.join(added)}" if added else None
