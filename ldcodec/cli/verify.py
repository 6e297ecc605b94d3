"""`ldcodec verify`: whether .ldc files are whole, without making a picture of them; whether this machine is right."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ldcodec.bitstream.chunktypes import CRITICAL
from ldcodec.bitstream.container import Container, read
from ldcodec.bitstream.layout import MAX_PIXELS
from ldcodec.bitstream.reader import Damage, Reader
from ldcodec.entropy.weightsfile import CHECK_FILE, find_file
from ldcodec.errors import DamagedError, FormatError, LdcodecError, ModelError
from ldcodec.jobs.limits import Claims, reader_of
from ldcodec.jobs.messages import DEFAULT_PIXELS, PATH, Batch, Models
from ldcodec.jobs.paths import name_of, opened

if TYPE_CHECKING:
    from ldcodec.decoder.protocols import DecoderModel

SHOWN = 8  # damaged parts that the text names


@dataclass
class Finding:
    """What is known of one file after the test."""

    name: str
    slices: int = 0
    damage: list[str] = field(default_factory=list)
    symbols: str = "not tested"

    def __str__(self) -> str:
        if not self.damage:
            return f"{self.name}: sound, {_plural(self.slices, 'slice')}, symbols {self.symbols}"
        more = [f"{len(self.damage) - SHOWN} more"] if len(self.damage) > SHOWN else []
        return f"{self.name}: damaged: {'; '.join(self.damage[:SHOWN] + more)}"

    def line(self) -> str:
        """One JSON object."""
        fields = {"name": self.name, "sound": not self.damage, "damage": self.damage}
        return json.dumps(fields | {"slices": self.slices, "symbols": self.symbols})


@click.command(short_help="Whether .ldc files are whole.")
@click.argument("inputs", nargs=-1, type=PATH, metavar="FILE...")
@click.option("--self", "own", is_flag=True, help="Test this machine instead, with the check file of a model.")
@click.option("--quick", is_flag=True, help="Test the checksums of the bytes alone, without any model.")
@click.option("--model", metavar="NAME|PATH", help="Model to use instead of the one a file names.")
@click.option("--max-pixels", type=click.IntRange(1, MAX_PIXELS), default=DEFAULT_PIXELS, metavar="N", hidden=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of text.")
def verify(inputs: tuple[str, ...], own: bool, quick: bool, model: str | None, max_pixels: int, as_json: bool) -> int:
    """Test .ldc files (- for standard input) without making pictures of them.

    Every checksum of the bytes is compared, and what stored pixels say of their size; then the symbols are decoded and
    compared with theirs, where the model that a file needs is installed. Exit code 1 if any file is damaged, or if this
    machine computes other symbols from a model's check file than the machine that made the model.
    """
    if bool(inputs) == own or (own and quick):
        raise click.UsageError("name either files or, with --self and without --quick, none")
    batch = Batch()
    if own:
        from ldcodec.nets.model import DEFAULT_MODEL

        name = DEFAULT_MODEL if model is None else model
        with batch.reporting(name):
            told = _test_machine(name)
            text = f"{name}: this machine decodes what it should, symbols {told.symbols}"
            batch.say(told.line() if as_json else text)
        return batch.exit_code
    models = Models(model, "auto", None)
    for source in inputs:
        with batch.reporting(name_of(source)):
            finding = _tested(source, models, Claims(batch, max_pixels), quick)
            batch.failures += bool(finding.damage)
            batch.say(finding.line() if as_json else str(finding))
    return batch.exit_code


def _tested(source: str, models: Models, claims: Claims, quick: bool) -> Finding:
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
            _test_symbols(reader, finding, models, claims)
    return finding


def _misfits(reader: Reader) -> list[Damage]:
    """Chunks of pixels of another size than the file's; only for these anything that knows pictures is loaded."""
    if not any(reader.chunk_kind(number) in CRITICAL for number in range(reader.chunk_count)):
        return []
    from ldcodec.decoder.restore import misfits

    return misfits(reader)


def _test_symbols(reader: Reader, finding: Finding, models: Models, claims: Claims) -> None:
    """Decodes the symbols slice by slice; adds what differs to the finding."""
    try:
        claims.of_file(reader, None, 16, models.weights(reader.header.parse_id))
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
    """Decodes the check file of a model with each kind of device here; names them as where the symbols were tested.

    Raises LdcodecError where they differ from those written, or nothing can be compared.
    """
    weights = find_file(name)
    source = _check_file(weights.with_name(CHECK_FILE))
    from torch.cuda import is_available

    from ldcodec.decoder.parse import parse
    from ldcodec.nets.model import load_model

    devices = ["cpu", "cuda"] if is_available() else ["cpu"]
    for device in devices:
        model = load_model(str(weights), device)
        try:
            parse(source, model)
        except DamagedError as error:
            reason = "do not decode files on this machine, and report this"
            raise LdcodecError(f"the symbols come out wrong on {device}: {error}; {reason}") from error
    return Finding(name, len(source.slices), symbols=f"tested on {' and '.join(devices)}")


def _check_file(path: Path) -> Container:
    """A check file, read and its bytes tested."""
    if not path.is_file():
        raise LdcodecError(f"the model comes without {CHECK_FILE}, so there is nothing to compare with")
    try:
        return read(path.read_bytes())
    except FormatError as error:
        raise LdcodecError(f"{path}: {error}; install the model again") from error
