"""Measured points as tables of text."""

from ldcodec.training.curves import Curve, compare
from ldcodec.training.evaluation import Point

COLUMNS = ("quality", "index", "bpp", "PSNR", "of mean MSE", "centroid", "rounded")


def table(points: list[Point]) -> str:
    """A line for each point; PSNR in dB."""
    lines = ["".join(f"{column:>13}" for column in COLUMNS)]
    for p in points:
        decibels = (p.psnr, p.psnr_of_mean, p.centroid_psnr, p.rounded_psnr)
        lines.append(f"{p.quality:13.1f}{p.index:13d}{p.bpp:13.4f}" + "".join(f"{value:13.3f}" for value in decibels))
    return "\n".join(lines)


def comparison(anchors: list[Curve], test: Curve) -> list[str]:
    """A line for each anchor: bits at equal PSNR, dB at equal bits, and the range of PSNR that both cover."""
    lines = [f"{'anchor':<28}{'BD-rate':>10}{'BD-PSNR':>10}   over dB"] if anchors else []
    for anchor in anchors:
        delta = compare(anchor, test)
        rate = "-" if delta.rate is None else f"{delta.rate:+.1f} %"
        decibels = "-" if delta.psnr is None else f"{delta.psnr:+.2f} dB"
        shared = f"{delta.low:.1f}-{delta.high:.1f}" if delta.low < delta.high else "none"
        lines.append(f"{anchor.name:<28}{rate:>10}{decibels:>10}   {shared}")
    return lines
