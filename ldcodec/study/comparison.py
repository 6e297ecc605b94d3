"""Results as tables of text: rate, distortion and perception, and the entropies over time."""

from collections.abc import Sequence

from ldcodec.study.perception import Estimate
from ldcodec.study.results import FLOOR, GENERATED, Change, Quality, RunResult

HEAD = ("run", "decoding", "coded bits", "bound bits", "PSNR dB", "Fréchet", "kernel·10³", "KL nats", "ms")
Row = tuple[str, ...]


def rows(results: Sequence[RunResult]) -> list[Row]:
    """A row under HEAD for each way of decoding of each run. Bits are per picture; ± is half a 95 % interval.

    The floor belongs to a data set and not to a run, so it has no run's name, and equal ones are shown once.
    """
    found: list[Row] = []
    for result in results:
        rows_of = [_row(result, quality) for quality in result.qualities]
        found += [row for row in rows_of if row[1] != FLOOR or row not in found]
    return found


def _row(result: RunResult, quality: Quality) -> Row:
    rate = quality.way not in (FLOOR, GENERATED)
    return (
        result.settings.dataset if quality.way == FLOOR else result.settings.name,
        quality.way,
        _shown(result.coded, 1) if rate else "",
        f"{result.bound:.1f}" if rate else "",
        "" if quality.psnr is None else _shown(quality.psnr, 2),
        _shown(quality.frechet, 2),
        _shown(_thousandfold(quality.kernel), 0),
        _shown(quality.divergence, 2),
        "" if quality.way == FLOOR else f"{1000 * quality.seconds:.2f}",
    )


def _thousandfold(value: Estimate) -> Estimate:
    return Estimate(1000 * value.mean, 1000 * value.half_width)


def _shown(value: Estimate, places: int) -> str:
    return f"{value.mean:.{places}f} ± {value.half_width:.{places}f}"


CHANGE_HEAD = ("run", "decoding", "PSNR dB", "Fréchet", "kernel·10³", "KL nats")


def change_rows(results: Sequence[RunResult]) -> list[Row]:
    """A row under CHANGE_HEAD for each conditional decoding: what it changes against the decoder of the same run."""
    return [
        (result.settings.name, quality.way, *_changed(quality.change))
        for result in results
        for quality in result.qualities
        if quality.change is not None
    ]


def _changed(change: Change) -> Row:
    values = ((change.psnr, 2), (change.frechet, 2), (_thousandfold(change.kernel), 0), (change.divergence, 2))
    return tuple(f"{value.mean:+.{places}f} ± {value.half_width:.{places}f}" for value, places in values)


def plain(head: Row, body: Sequence[Row]) -> str:
    """A table in aligned columns: the first two to the left, numbers to the right."""
    widths = [max(len(row[k]) for row in (head, *body)) for k in range(len(head))]
    return "\n".join(_line(row, widths) for row in (head, *body))


def _line(row: Row, widths: Sequence[int]) -> str:
    cells = [
        text.ljust(width) if k < 2 else text.rjust(width)
        for k, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def markdown(head: Row, body: Sequence[Row]) -> str:
    """A table in Markdown."""
    rule = ("---",) * len(head)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


ENTROPY_HEAD = ("t", "H note", "H true", "H denoising", "H(Z|X)", "I note", "I true")


def entropy_rows(result: RunResult) -> list[Row]:
    """Rows under ENTROPY_HEAD: H(Z_t) as the note approximates it beside the true figure, in bits per picture."""
    return [
        (
            f"{row.time:g}",
            f"{row.note:.1f}",
            f"{row.true:.1f}",
            "" if row.denoising is None else f"{row.denoising:.1f}",
            f"{row.given:.1f}",
            f"{row.note - row.given:.1f}",
            f"{row.information:.2f}",
        )
        for row in result.entropies
    ]
