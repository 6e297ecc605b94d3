"""rd.png and rd.svg: PSNR over bits per pixel, one line for each curve."""

from pathlib import Path

from ldcodec.bench.catalogue import OWN
from ldcodec.bench.summary import Summary

FILES = ("rd.png", "rd.svg")
COLOURS = (  # six of Wong (2011) for colour-blind readers, and four more
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f5539",
    "#5e548e",
    "#8c8c00",
    "#d0021b",
)
OWN_COLOUR = "#111111"
TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8)
MANY = 8  # with more curves than this, the legend is placed next to the plot
MARGIN = 1.25  # factor: how far the axis of bits extends beyond the ends of ldcodec's own curve


def colours(summary: Summary) -> dict[str, str]:
    """A colour for each curve's name; measured and published curves (dashed) each start from the first colour."""
    found = {OWN: OWN_COLOUR}
    for curves in (summary.measured, summary.published):
        others = [curve.name for curve in curves if curve.name != OWN]
        found |= {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(others)}
    return found


def draw(summary: Summary, folder: Path, title: str) -> list[Path]:
    """Write both files and return their paths. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    crowded = len(summary.curves) > MANY
    figure = Figure(figsize=(9.6 if crowded else 8, 5.6), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    chosen = colours(summary)
    published = {curve.name for curve in summary.published}
    for curve in summary.curves:
        bits, quality = curve.of("psnr")
        own = curve.name == OWN
        style = {"linestyle": "--", "linewidth": 1.1} if curve.name in published else {"linewidth": 2.4 if own else 1.4}
        marker = {} if curve.name in published else {"marker": "o", "markersize": 5 if own else 3}
        axes.plot(bits, quality, color=chosen[curve.name], label=curve.title, zorder=3 if own else 2, **style, **marker)  # type: ignore[arg-type]
    _frame(axes, summary)
    axes.set_title(title, fontsize=11, loc="left")
    if crowded:
        figure.legend(fontsize=8.5, frameon=False, loc="outside right center")
    else:
        axes.legend(fontsize=8.5, frameon=False, loc="lower right")
    paths = [folder / name for name in FILES]
    for path in paths:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _frame(axes, summary: Summary) -> None:  # type: ignore[no-untyped-def]
    low, high = limits(summary)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    seen = [v for c in summary.curves for b, v in zip(*c.of("psnr"), strict=True) if low <= b <= high]
    if seen:
        axes.set_ylim(min(seen) - 0.5, max(seen) + 0.5)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bits per pixel, whole file (logarithmic)")
    axes.set_ylabel("PSNR in dB, mean over the pictures")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def limits(summary: Summary) -> tuple[float, float]:
    """The range of bits per pixel to show: that of ldcodec's curve, or else of all measured ones, with a margin."""
    own = [curve for curve in summary.measured if curve.name == OWN] or list(summary.measured)
    bits = [point["bpp"] for curve in own for point in curve.points]
    return min(bits) / MARGIN, max(bits) * MARGIN
