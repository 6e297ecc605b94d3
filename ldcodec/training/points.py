"""Measured points as tables of text."""

from ldcodec.bench.curves import Curve, compare
from ldcodec.bench.summary import delta_cells
from ldcodec.training.evaluation import Point

COLUMNS = ("quality", "index", "bpp", "PSNR", "of mean MSE", "centroid", "rounded", "encode s")


def table(points: list[Point]) -> str:
    """A line for each point; PSNR in dB."""
    lines = ["".join(f"{column:>13}" for column in COLUMNS)]
    for p in points:
        decibels = (p.psnr, p.psnr_of_mean, p.centroid_psnr, p.rounded_psnr)
        lines.append(
            f"{p.quality:13.1f}{p.index:13d}{p.bpp:13.4f}"
            + "".join(f"{value:13.3f}" for value in decibels)
            + f"{p.seconds:13.2f}"
        )
    return "\n".join(lines)


def comparison(anchors: list[Curve], test: Curve) -> list[str]:
    """A line for each anchor: bits at equal PSNR, dB at equal bits, and the range of PSNR that both cover."""
    lines = [f"{'anchor':<28}{'BD-rate':>10}{'BD-PSNR':>10}{'over dB':>12}"] if anchors else []
    lines += [f"{anchor.name:<28}" + delta_cells(compare(anchor, test)) for anchor in anchors]
    return lines
