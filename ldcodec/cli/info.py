"""`ldcodec info`: what an .ldc file holds, or what a model consists of. Files need no model and no heavy import."""

import json
from dataclasses import asdict

import click

from ldcodec import container
from ldcodec.chunks import ALPHA
from ldcodec.cli.batch import PATH, Batch
from ldcodec.cli.files import name_of, opened, read_start


@click.command(short_help="What a file holds, or a model consists of.")
@click.argument("inputs", nargs=-1, type=PATH, metavar="IN...")
@click.option("--model", metavar="NAME|PATH", help="Tell the parameters and kMAC per pixel of a model's parts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of text.")
def info(inputs: tuple[str, ...], model: str | None, as_json: bool) -> int:
    """Tell what .ldc files hold (IN may be - for standard input), or with --model what a model consists of."""
    if bool(inputs) == (model is not None):
        raise click.UsageError("name either files or, with --model, a model")
    batch = Batch()
    if model is not None:
        with batch.reporting(model):
            batch.say(_model_json(model) if as_json else _model_text(model))
    for source in inputs:
        with batch.reporting(name_of(source)):
            with opened(source) as stream:
                data = read_start(stream, container.MAGIC)
            name = name_of(source)
            batch.say(json.dumps(container.describe(data, name)) if as_json else _file_text(data, name))
    return batch.exit_code


def _file_text(data: bytes, name: str) -> str:
    file = container.read(data)
    header, payload = file.header, sum(len(piece.payload) for piece in file.slices)
    chunks = ", ".join(f"{chunk.kind} of {len(chunk.data)} bytes" for chunk in file.chunks)
    quality = 100 * header.quality / container.MAX_QUALITY
    colours = ("grey" if header.grey else "RGB") + (" with alpha" if file.chunk(ALPHA) is not None else "")
    exact = file.lossless
    lines = [
        f"{name}: {header.width}x{header.height}, {colours}{', lossless' if exact else ''}",
        f"  file      {len(data)} bytes, {8 * len(data) / (header.width * header.height):.3f} bpp",
        f"  payload   {payload} bytes, slices: {len(file.slices)}",
        f"  overhead  {len(data) - payload} bytes, chunks: {chunks or 'none'}",
        "  quality   every pixel exact"
        if exact
        else f"  quality   {quality:.1f} of 100 (index {header.quality} of {container.MAX_QUALITY})",
        f"  parse id  {'none: no model is needed' if exact else header.parse_id.hex()}",
        f"  version   {container.VERSION}",
    ]
    return "\n".join(lines)


def _model_text(name: str) -> str:
    from ldcodec.complexity import summary

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
    from ldcodec.complexity import summary

    return json.dumps({"model": name, "parts": [asdict(part) for part in summary(name)]})
