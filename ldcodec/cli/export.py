"""`ldcodec export`: a model as ONNX graphs, for other programs."""

from pathlib import Path

import click

from ldcodec.cli.options import PATH


@click.command(short_help="Write a model as ONNX graphs.")
@click.option("--onnx", type=PATH, required=True, metavar="DIR", help="The folder to write.")
@click.option("--model", metavar="NAME|PATH", help="The model to export.  [default: base]")
@click.option("--force", "-f", is_flag=True, help="Replace an older export.")
def export(onnx: str, model: str | None, force: bool) -> int:
    """Write what decoding needs of a model to a folder: its networks as ONNX graphs, and its integer tensors.

    Other programs can decode with them, in any language for which there is a library for ONNX. The folder appears only
    after its graphs have been compared with torch. Needs the extra: pip install 'ldcodec[onnx]'.
    """
    from ldcodec.entropy.modelfiles import DEFAULT_MODEL
    from ldcodec.nets.onnx import export as write

    name = model or DEFAULT_MODEL
    exported = write(name, Path(onnx), force)
    click.echo(f"{name} → {onnx}  {exported.size} bytes  values within {exported.difference:.0e} of torch's")
    return 0
