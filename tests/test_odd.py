"""Odd picture files, where there are any: the table of docs/pictures.md is what happens to them."""

import os
import re
from pathlib import Path

import pytest

from tests.measure.odd import row

DOCUMENT = Path(__file__).parent.parent / "docs" / "pictures.md"
FOLDER = os.environ.get("LDCODEC_ODD")


def without_choice(line: str) -> str:
    """A line of the table except for what depends on the weights: whether lossless was smaller."""
    return line.replace(", lossless", "")


@pytest.mark.skipif(FOLDER is None, reason="LDCODEC_ODD does not name a folder of odd pictures")
def test_odd_files_become_what_the_table_says(tiny_model_folder: Path, tmp_path: Path) -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    table = {line.split("`")[1]: line for line in lines if re.match(r"\| `[^ ]+\.\w+` \|", line)}
    files = {path.name: path for path in Path(FOLDER or "").iterdir() if path.suffix != ".md"}
    assert files.keys() == table.keys()
    model = str(tiny_model_folder / "tiny")
    found = {name: without_choice(row(path, tmp_path, model)) for name, path in files.items()}
    assert found == {name: without_choice(line) for name, line in table.items()}
