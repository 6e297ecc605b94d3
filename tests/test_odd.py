"""Odd picture files, where there are any: the table of docs/pictures.md is what happens."""

import os
import re
from pathlib import Path

import pytest

from tests.odd import row

DOCUMENT = Path(__file__).parent.parent / "docs" / "pictures.md"
FOLDER = os.environ.get("LDCODEC_ODD")
LINES = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if re.match(r"\| `[^ ]+\.\w+` \|", line)]


def without_choice(line: str) -> str:
    """A line of the table but for what depends on the weights: whether lossless was smaller."""
    return line.replace(", lossless", "")


def test_the_table_is_found() -> None:
    assert len(LINES) == 66


@pytest.mark.skipif(FOLDER is None, reason="LDCODEC_ODD names no folder of odd pictures")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("`")[1])
def test_odd_files_become_what_the_table_says(line: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    path = Path(FOLDER or "") / line.split("`")[1]
    assert without_choice(row(path, tmp_path, str(tiny_model_folder / "tiny"))) == without_choice(line)


@pytest.mark.skipif(FOLDER is None, reason="LDCODEC_ODD names no folder of odd pictures")
def test_the_table_names_every_file() -> None:
    present = {path.name for path in Path(FOLDER or "").iterdir() if path.suffix != ".md"}
    assert present == {line.split("`")[1] for line in LINES}
