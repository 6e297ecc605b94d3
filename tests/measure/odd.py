"""Print the table of odd picture files in docs/pictures.md: `python -m tests.measure.odd FOLDER [--model NAME]`.

Each file goes through `ldcodec compress --quality 90` and `ldcodec decompress` to PNG.
"""

import argparse
import contextlib
import io
import tempfile
import warnings
from pathlib import Path

from PIL import Image

from ldcodec import cli
from ldcodec.bitstream import container
from ldcodec.bitstream.container import Container

LARGER = "the output is larger than the input"  # which depends on the weights, and says nothing of the picture
PARTS = {"iccp": "profile", "exif": "Exif", "xmpp": "XMP"}


def run(arguments: list[str]) -> tuple[int, str]:
    """Run a command; return its exit code and standard error."""
    lines = io.StringIO()
    with contextlib.redirect_stderr(lines), contextlib.redirect_stdout(io.StringIO()):
        code = cli.run(arguments)
    return code, lines.getvalue()


def given(path: Path) -> str:
    """Format, mode and size according to Pillow."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return f"{image.format} {image.mode} {image.width}x{image.height}"
    except Exception:
        return "not readable"


def returned(path: Path, source: Container) -> str:
    """Mode, size and depth of the restored picture, and the metadata that it kept."""
    with Image.open(path) as image:
        found = [f"{image.mode} {image.width}x{image.height}"]
    found += [f"{source.header.depth} bits"] if source.header.depth > 8 else []
    found += [PARTS[chunk.kind] for chunk in source.chunks if chunk.kind in PARTS]
    return ", ".join([*found, *(["lossless"] if source.lossless else [])])


def row(path: Path, folder: Path, model: str) -> str:
    """One line of the table."""
    coded, restored = folder / "a.ldc", folder / "a.png"
    code, lines = run(["compress", str(path), "-o", str(coded), "--quality", "90", "--model", model, "--force"])
    told = (line.split(f"{path}: ")[-1] for line in lines.splitlines())
    notes = "; ".join(note for note in told if LARGER not in note)
    if code == 0:
        code, errors = run(["decompress", str(coded), "-o", str(restored), "--model", model, "--force"])
        result = returned(restored, container.read(coded.read_bytes())) if code == 0 else errors
    else:
        result = f"exit code {code}"
    return f"| `{path.name}` | {given(path)} | {result} | {notes} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="base")
    options = parser.parse_args()
    print("| file | Pillow reads | comes back | message |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(options.folder.iterdir()):
            if path.is_file() and path.suffix != ".md":
                print(row(path, Path(folder), options.model), flush=True)


if __name__ == "__main__":
    main()
