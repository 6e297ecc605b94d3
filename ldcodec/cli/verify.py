"""`ldcodec verify`: whether .ldc files are intact, and whether this machine decodes as it should."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ldcodec.bitstream.chunktypes import CRITICAL
from ldcodec.bitstream.container import Container, read
from ldcodec.bitstream.reader import MAX_LISTED, Damage, Reader
from ldcodec.cli.options import PATH, max_pixels_option
from ldcodec.entropy.modelfiles import CHECK_FILE, DEFAULT_MODEL, find_file
from ldcodec.errors import DamagedError, FormatError, LdcodecError, ModelError, one_line
from ldcodec.jobs.limits import Limits
from ldcodec.jobs.messages import Console
from ldcodec.jobs.models import Models
from ldcodec.jobs.paths import name_of, opened, reader_of

if TYPE_CHECKING:
    from ldcodec.decoder.protocols import DecoderModel


@dataclass
class Finding:
    """The result of checking one file."""

    name: str
    slices: int = 0
    damage: list[str] = field(default_factory=list)
    symbols: str = "not tested"

    def __str__(self) -> str:
        name = one_line(self.name)
        if not self.damage:
            return f"{name}: sound, {_plural(self.slices, 'slice')}, symbols {self.symbols}"
        more = [f"{len(self.damage) - MAX_LISTED} more"] if len(self.damage) > MAX_LISTED else []
        return f"{name}: damaged: {'; '.join(self.damage[:MAX_LISTED] + more)}"

    def line(self) -> str:
        fields = {"name": self.name, "sound": not self.damage, "damage": self.damage}
        return json.dumps(fields | {"slices": self.slices, "symbols": self.symbols})


@click.command(short_help="Check that .ldc files are intact.")
@click.argument("inputs", nargs=-1, type=PATH, metavar="FILE...")
@click.option("--self", "own", is_flag=True, help="Test this machine instead, with a model's check file.")
@click.option("--quick", is_flag=True, help="Check the bytes only; needs no model.")
@click.option("--model", metavar="NAME|PATH", help="Model to use instead of the one that a file names.")
@max_pixels_option(hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def verify(inputs: tuple[str, ...], own: bool, quick: bool, model: str | None, max_pixels: int, as_json: bool) -> int:
    """Check that .ldc files (- for standard input) are intact, without decoding them to pictures.

    Verifies all checksums of the bytes and the sizes of stored pixels. Then, if the model that a file needs is
    installed, decodes the symbols and verifies their checksums too. The exit code is 1 if a file is damaged or, with
    --self, if this machine decodes other symbols from the check file than the machine that made the model.
    """
    if bool(inputs) == own or (own and quick):
        raise click.UsageError("name either files or, with --self and without --quick, none")
    console = Console()
    if own:
        name = DEFAULT_MODEL if model is None else model
        with console.reporting(name):
            finding = _test_machine(name)
            text = f"{name}: this machine decodes what it should, symbols {finding.symbols}"
            console.say(finding.line() if as_json else text)
        return console.exit_code
    models = Models(model, "auto", None)
    for source in inputs:
        with console.reporting(name_of(source)):
            finding = _tested(source, models, Limits(console, max_pixels), quick)
            console.failures += bool(finding.damage)
            console.say(finding.line() if as_json else str(finding))
    return console.exit_code


def _tested(source: str, models: Models, limits: Limits, quick: bool) -> Finding:
    finding = Finding(name_of(source))
    with opened(source) as stream:
        try:
            reader = reader_of(stream)
        except DamagedError as error:
            finding.damage = [str(error)]
            return finding
        finding.slices = len(reader.spans)
        finding.damage = [str(damage) for damage in reader.damage()]
        if not finding.damage:
            finding.damage = [str(damage) for damage in _misfits(reader)]
        if reader.lossless:
            finding.symbols = "none: the picture is stored without loss"
        elif not finding.damage and not quick:
            _test_symbols(reader, finding, models, limits)
    return finding


def _misfits(reader: Reader) -> list[Damage]:
    """Chunks whose pixels are of another size than the file's. What reads pictures is loaded for such chunks only."""
    if not any(reader.chunk_kind(number) in CRITICAL for number in range(reader.chunk_count)):
        return []
    from ldcodec.decoder.restore import misfits

    return misfits(reader)


def _test_symbols(reader: Reader, finding: Finding, models: Models, limits: Limits) -> None:
    """Decode the symbols slice by slice, and add what differs to the finding."""
    try:
        limits.check_file(reader, None, 16, models.weights(reader.header.parse_id))
        model = models.of_file(reader.header.parse_id)
    except DamagedError as error:
        finding.damage = [str(error)]
    except ModelError:
        finding.symbols = f"not tested: the model {reader.header.parse_id.hex()} is not installed"
    else:
        finding.damage = [str(damage) for damage in _symbol_damage(reader, model)]
        finding.symbols = "tested"


def _symbol_damage(reader: Reader, model: "DecoderModel") -> list[Damage]:
    from ldcodec.decoder.latent import Latent

    latent = Latent(reader, model, salvage=True)
    for _ in latent.each(range(len(reader.spans)), lambda parsed: None):
        pass
    return latent.damaged


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _test_machine(name: str) -> Finding:
    """Decode the check file of a model with what decodes on each kind of device of this machine.

    Raises LdcodecError where the symbols differ from those written, or nothing can be compared.
    """
    weights = find_file(name)
    source = _check_file(weights.with_name(CHECK_FILE))
    from ldcodec.decoder.parse import parse
    from ldcodec.encoder.library import has_gpu, load_model

    devices = ["cpu", "cuda"] if has_gpu() else ["cpu"]
    for device in devices:
        model = load_model(str(weights), device)
        try:
            parse(source, model)
        except DamagedError as error:
            reason = "do not decode files on this machine, and report this"
            raise LdcodecError(f"the symbols come out wrong on {device}: {error}; {reason}") from error
    return Finding(name, len(source.slices), symbols=f"tested on {' and '.join(devices)}")


def _check_file(path: Path) -> Container:
    """The content of a check file. Raises LdcodecError if it is missing or damaged."""
    if not path.is_file():
        raise LdcodecError(f"the model comes without {CHECK_FILE}, so there is nothing to compare with")
    try:
        return read(path.read_bytes())
    except FormatError as error:
        raise LdcodecError(f"{path}: {error}; install the model again") from error
