"""The tables of features: every yes of ours names a command that exists and a test that exists."""

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from ldcodec.cli import ldcodec

ROOT = Path(__file__).resolve().parent.parent
OURS = 1  # the column


def rows(path: str, section: str = "") -> list[list[str]]:
    """The rows of the tables below a heading, cells as they stand, without heads and rules."""
    text = (ROOT / path).read_text(encoding="utf-8")
    part = text[text.index(section) :]
    part = part[: part.find("\n## ", 4)] if section else part
    lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    return [row for row in cells if row[0] and not row[0].startswith("---")]


DETAILS = rows("docs/features.md")
SHORT = rows("README.md", "## What it offers")


def options(command: str) -> set[str]:
    """The options of a command, long and short."""
    found = ldcodec.get_command(click.Context(ldcodec), command)
    assert found is not None, f"there is no command {command}"
    return {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}


@cache
def named_in(module: str) -> set[str]:
    """The names of the tests in a module."""
    tree = ast.parse((ROOT / "tests" / module).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_tables_are_found() -> None:
    assert len(DETAILS) >= 18 and len(SHORT) >= 12
    assert {len(row) for row in DETAILS} == {len(row) for row in SHORT} == {8}


@pytest.mark.parametrize("row", [row for row in DETAILS if row[OURS] != "no"], ids=lambda row: row[0])
def test_every_yes_has_its_command_and_its_test(row: list[str]) -> None:
    assert row[OURS].startswith("yes")
    named = re.findall(r"`([^`]+)`", row[OURS])
    tests = [name.split("::") for name in named if "::" in name]
    assert tests, "no test is named"
    for module, name in tests:
        assert name in named_in(module), f"{module} has no {name}"
    for command, *rest in (name.split() for name in named if "::" not in name and name != "pip install"):
        assert set(rest) <= options(command), f"{command} has no {rest}"


@pytest.mark.parametrize("row", SHORT, ids=lambda row: row[0])
def test_the_short_table_names_commands_that_exist(row: list[str]) -> None:
    assert row[OURS].startswith(("yes", "no"))
    every = set().union(*(options(command) for command in ldcodec.list_commands(click.Context(ldcodec))))
    for name in re.findall(r"`([^`]+)`", row[OURS]):
        words = name.split()
        if words == ["pip", "install"]:
            continue
        if words[0].startswith("--"):
            assert words[0] in every
        else:
            assert set(words[1:]) <= options(words[0])


def test_what_is_said_of_others_has_a_source() -> None:
    """Each number in the table stands in the list of sources, and each source is cited."""
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    sources = set(re.findall(r"^(\d+)\. .*https://", text, re.MULTILINE))
    cited = {number for row in DETAILS for cell in row[OURS + 1 :] for number in re.findall(r"\[(\d+)\]", cell)}
    assert cited == sources and len(sources) > 10
    plain = {"–", "no model", "no networks"}
    said = {cell for row in DETAILS for cell in row[OURS + 1 :]} - plain
    assert all(re.search(r"\[\d", cell) for cell in said)
