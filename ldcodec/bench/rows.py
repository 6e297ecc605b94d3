"""results.csv: one row for each picture, codec and setting, appended as soon as it is measured."""

import csv
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_args, get_type_hints

from ldcodec.bitstream.atomic import replaced
from ldcodec.errors import UsageError


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one setting.

    limit: the bits per pixel that the file was allowed, for which the setting was searched; None in a sweep.
    picture_crc: CRC-32 of its RGB samples, 8 hexadecimal digits; version: `Codec.version`; file_bytes: of the whole
    file; bpp: bits per pixel; mse: of 8-bit RGB; psnr: dB; *_s, *_cpu_s: seconds of wall clock and of CPU, all threads;
    *_mb: the peak of memory in 10⁶ bytes beyond what the process held before; threads: how many the codec may use.
    """

    picture: str
    picture_crc: str
    codec: str
    version: str
    limit: float | None
    setting: float
    width: int
    height: int
    file_bytes: int
    bpp: float
    mse: float
    psnr: float
    ms_ssim: float | None
    lpips: float | None
    ssimulacra2: float | None
    dists: float | None
    butteraugli: float | None
    kid: float | None
    encode_s: float
    encode_cpu_s: float
    decode_s: float
    decode_cpu_s: float
    encode_mb: float | None
    decode_mb: float | None
    threads: int

    @property
    def key(self) -> tuple[str, str, str, str, float | None, float | None]:
        """What two rows of the same measurement have in common: the limit, or the setting."""
        asked = (self.limit, None) if self.limit is not None else (None, self.setting)
        return self.picture, self.picture_crc, self.codec, self.version, *asked


COLUMNS = tuple(field.name for field in fields(Row))


class Results:
    """The rows of a results file; a row is on disk before `add` returns."""

    def __init__(self, path: Path, rows: Iterable[Row] = ()) -> None:
        """Write a new file with these rows; an older one stays until the new one is complete."""
        self.path, self.rows = path, list(rows)
        with replaced(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_texts(row) for row in self.rows)

    def add(self, row: Row) -> None:
        """Append a row to the file."""
        self.rows.append(row)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(_texts(row))


def read_rows(path: Path) -> list[Row]:
    """Read a results file, without a last line that was cut short. Raises UsageError for any other file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise UsageError(f"{path}: not the results of this version of the bench; use another --out or --force")
    rows = [_row(line) for line in lines[1:]]
    if None in rows[:-1]:
        raise UsageError(f"{path}: line {rows.index(None) + 2} is damaged")
    return [row for row in rows if row is not None]


def _texts(row: Row) -> list[str]:
    return ["" if value is None else _text(value) for value in asdict(row).values()]


def _text(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _row(cells: list[str]) -> Row | None:
    if len(cells) != len(COLUMNS):
        return None
    kinds = get_type_hints(Row)
    try:
        values = {name: _value(kinds[name], cell) for name, cell in zip(COLUMNS, cells, strict=True)}
    except ValueError:
        return None
    return Row(**values)  # type: ignore[arg-type]


def _value(kind: type, cell: str) -> object:
    optional = type(None) in get_args(kind)
    if optional and not cell:
        return None
    if kind is float or optional:
        number = float(cell)
        if not math.isfinite(number):
            raise ValueError(cell)
        return number
    return kind(cell)
