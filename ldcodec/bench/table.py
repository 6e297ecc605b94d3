"""Tables for the terminal: means of each setting while the bench runs, curves against an anchor at its end."""

from ldcodec.bench.codecs import Codec
from ldcodec.bench.curves import METHOD, Curve, Delta, Point
from ldcodec.bench.metrics import MEASURES
from ldcodec.bench.summary import Summary

RunColumns = tuple[tuple[str, str, int], ...]
RUN_COLUMNS: RunColumns = (
    ("bpp", "bpp", 4),
    ("psnr", "PSNR dB", 2),
    ("psnr_of_mean_mse", "of mean", 2),
    ("ms_ssim", "MS-SSIM", 4),
    ("lpips", "LPIPS", 4),
    ("ssimulacra2", "SSIMU 2", 2),
    ("encode_s", "encode s", 3),
    ("decode_s", "decode s", 3),
)


def run_columns(measures: tuple[str, ...]) -> RunColumns:
    """(key of a point, heading, decimals) of each column in use."""
    return tuple(column for column in RUN_COLUMNS if column[0] not in MEASURES or column[0] in measures)


def run_head(columns: RunColumns) -> str:
    """The headings over `run_line`s."""
    return f"{'codec':<14}{'setting':>8}" + "".join(f"{title:>10}" for _, title, _ in columns)


def run_line(codec: Codec, point: Point, columns: RunColumns) -> str:
    """The means of one setting."""
    cells = [f"{point[key]:10.{places}f}" if key in point else f"{'-':>10}" for key, _, places in columns]
    return f"{codec.name:<14}{point['setting']:>8g}" + "".join(cells)


def comparison(summary: Summary) -> list[str]:
    """A line for each curve: bits and dB against the anchor over the range that both cover, seconds and memory."""
    head = f"{'against ' + summary.anchor:<27}{'BD-rate':>10}{'BD-PSNR':>10}{'over dB':>12}"
    times = "".join(f"{title:>9}" for title in ("enc s", "dec s", "enc MB", "dec MB"))
    return [head + times, *(_line(summary, curve) for curve in summary.curves)]


def _line(summary: Summary, curve: Curve) -> str:
    delta = summary.delta(summary.anchor, curve.name)
    cells = f"{'anchor':>10}{'':>10}{'':>12}" if curve.name == summary.anchor else delta_cells(delta)
    costs = [mean_cost(curve, key) for key in ("encode_s", "decode_s", "encode_mb", "decode_mb")]
    times = [f"{cost:9.3f}" if cost is not None else f"{'-':>9}" for cost in costs[:2]]
    memory = [f"{cost:9.0f}" if cost is not None else f"{'-':>9}" for cost in costs[2:]]
    return f"{curve.title[:26]:<27}{cells}" + "".join(times + memory)


def delta_cells(delta: Delta | None) -> str:
    """BD-rate, BD-PSNR and the range of PSNR that they speak of, 32 characters."""
    if delta is None:
        return f"{'-':>10}{'-':>10}{'-':>12}"
    rate = "-" if delta.rate is None else f"{delta.rate:+.1f} %"
    gain = "-" if delta.gain is None else f"{delta.gain:+.2f} dB"
    shared = f"{delta.low:.1f}-{delta.high:.1f}" if delta.low < delta.high else "none"
    return f"{rate:>10}{gain:>10}{shared:>12}"


def mean_cost(curve: Curve, key: str) -> float | None:
    """Mean of a cost over a curve's settings, None for a curve that does not tell it; memory: the most."""
    values = [point[key] for point in curve.points if key in point]
    if not values:
        return None
    return max(values) if key.endswith("_mb") else sum(values) / len(values)


def note(summary: Summary) -> list[str]:
    """How the deltas are made and what times and memory are of."""
    deltas = [
        "BD-rate: bits at equal PSNR, negative is better; BD-PSNR: dB at equal bits. "
        f"{METHOD.capitalize()} over log rate, over the named range of PSNR only."
    ]
    threads = f"{summary.threads} thread{'' if summary.threads == 1 else 's'} a codec"
    return (deltas if summary.comparisons else []) + [
        f"Seconds: means over settings and pictures, in process, {threads}, {summary.jobs} at a time. "
        "MB: the most that one picture took."
    ]
