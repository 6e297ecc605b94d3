"""`ldcodec export`: a model as ONNX graphs, for decoding without torch."""

from pathlib import Path

import click

from ldcodec.cli.options import PATH


@click.command(short_help="Write a model as ONNX graphs.")
@click.option("--onnx", type=PATH, required=True, metavar="DIR", help="The folder to write.")
@click.option("--model", metavar="NAME|PATH", help="The model to export.  [default: base]")
@click.option("--force", "-f", is_flag=True, help="Replace an older export.")
def export(onnx: str, model: str | None, force: bool) -> int:
    """Write what decoding needs of a model to a folder: its networks as ONNX graphs, and its integer tensors.

    `ldcodec decompress --onnx DIR` decodes with them, without torch. The folder appears only after its
    pictures have been compared with torch's, and the symbols of the model's check file with their checksum. Needs the
    extra: pip install 'ldcodec[onnx]'.
    """
    from ldcodec.entropy.modelfiles import DEFAULT_MODEL
    from ldcodec.onnx.exporter import export as write

    name = model or DEFAULT_MODEL
    exported = write(name, Path(onnx), force)
    agreement = f"pictures within {exported.difference:.4f} levels of torch's"
    click.echo(f"{name} → {onnx}  {exported.size} bytes  {agreement}")
    return 0
