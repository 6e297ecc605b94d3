"""`ldcodec info`: what an .ldc file holds, or what a model consists of. Files need no model and no heavy import."""

import json
from dataclasses import asdict
from typing import Any

import click

from ldcodec.bitstream import container, layout
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.bitstream.reader import Reader
from ldcodec.cli.options import PATH
from ldcodec.errors import one_line
from ldcodec.jobs.messages import Console
from ldcodec.jobs.paths import name_of, opened, read_start
from ldcodec.jobs.remote import is_remote


@click.command(short_help="Show what a file holds, or the parts of a model.")
@click.argument("inputs", nargs=-1, type=PATH, metavar="IN...")
@click.option("--model", metavar="NAME|PATH", help="Show the parameters and kMAC per pixel of a model's parts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def info(inputs: tuple[str, ...], model: str | None, as_json: bool) -> int:
    """Show what .ldc files hold (IN may be - for standard input), or with --model the parts of a model."""
    if bool(inputs) == (model is not None):
        raise click.UsageError("name either files or, with --model, a model")
    console = Console()
    if model is not None:
        with console.reporting(model):
            console.say(_model_json(model) if as_json else _model_text(model))
    for source in inputs:
        with console.reporting(name_of(source)):
            fields = _fields(source)
            console.say(json.dumps(fields) if as_json else _file_text(fields))
    return console.exit_code


def _fields(source: str) -> dict[str, Any]:
    """What a file says of itself. Of a remote one only the header is read and tested.

    Raises FormatError, and LdcodecError where it cannot be read.
    """
    name = name_of(source)
    with opened(source, parts=True) as stream:
        if is_remote(source) and stream.seekable():
            reader = Reader(stream)
            reader.check_length()
            return layout.describe(reader.layout, reader.length, name)
        return container.info(read_start(stream, layout.MAGIC), name)


def _file_text(fields: dict[str, Any]) -> str:
    chunks = ", ".join(f"{chunk['kind']} of {chunk['bytes']} bytes" for chunk in fields["chunks"])
    colours = ("grey" if fields["grey"] else "RGB") + (" with alpha" if fields["alpha"] else "")
    colours += f", {fields['depth']} bits a sample" if fields["depth"] > 8 else ""
    exact = fields["lossless"]
    index, most = fields["quality_index"], TOP_INDEX
    lines = [
        f"{one_line(fields['name'])}: {fields['width']}x{fields['height']}, {colours}{', lossless' if exact else ''}",
        f"  file      {fields['bytes']} bytes, {fields['bpp']:.3f} bpp",
        f"  payload   {fields['payload_bytes']} bytes, slices: {len(fields['slices'])}",
        f"  overhead  {fields['overhead_bytes']} bytes, chunks: {chunks or 'none'}",
        "  quality   every pixel exact"
        if exact
        else f"  quality   {100 * index / most:.1f} of 100 (index {index} of {most})",
        f"  parse id  {'none: no model is needed' if exact else fields['parse_id']}",
        f"  version   {fields['version']}",
    ]
    return "\n".join(lines)


def _model_text(name: str) -> str:
    from ldcodec.nets.complexity import summary

    parts = summary(name)
    rows = [(part.name, part.parameters, part.kmac_per_pixel) for part in parts]
    for title, chosen in (
        ("to compress", [part for part in parts if part.encoding]),
        ("to decompress", [part for part in parts if part.decoding]),
        ("all", parts),
    ):
        rows.append((title, sum(part.parameters for part in chosen), sum(part.kmac_per_pixel for part in chosen)))
    lines = [f"{name}:{'':{max(0, 20 - len(name))}}{'parameters':>12}{'kMAC/pixel':>12}"]
    return "\n".join(lines + [f"  {title:19}{count:12,d}{work:12.2f}" for title, count, work in rows])


def _model_json(name: str) -> str:
    from ldcodec.nets.complexity import summary

    return json.dumps({"model": name, "parts": [asdict(part) for part in summary(name)]})
