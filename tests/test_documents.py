"""The documents: command lines name options that exist, links lead somewhere, and lengths stay readable."""

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType

import click
import pytest
from PIL import Image

from ldcodec.cli import ldcodec
from tests.commands import TINY, Call
from tests.pictures import texture
from tests.test_style import FLOORS, PACKAGE, floor

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").rglob("*.md"))
CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def options(command: str) -> set[str]:
    """The options of a command of ldcodec, long and short."""
    found = ldcodec.get_command(click.Context(ldcodec), command)
    assert found is not None, f"there is no command {command}"
    return {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after `ldcodec` of every command in the code of a document, as a shell splits them."""
    for code in CODE.findall(text):
        for line in code.strip("`").splitlines():
            for part in line.replace("(`", " ").split("&&"):
                found = re.match(r"[ $]*(?:RAY_ADDRESS=\S+ )?ldcodec ([a-z]+(?: .*)?)$", part)
                if found:
                    yield shlex.split(found[1], comments=True)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_line_names_what_exists() -> None:
    lines = [words for path in DOCUMENTS for words in command_lines(path.read_text(encoding="utf-8"))]
    assert len(lines) > 60
    for command, *rest in lines:
        named = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert named <= options(command), f"{command}: there is no {named - options(command)}"


def test_features_name_options_that_exist() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "features.md").read_text(encoding="utf-8").splitlines()]
    ours = [row[2] for row in rows if len(row) > 8]
    named = [name.split() for cell in ours for name in re.findall(r"`([a-z]+ --[a-z]+)`", cell)]
    assert len(named) > 10
    for command, option in named:
        assert option in options(command)


def test_every_link_leads_somewhere() -> None:
    for path in DOCUMENTS:
        for link in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
            if not link.startswith(("http:", "https:")):
                name, _, anchor = link.partition("#")
                target = (path.parent / name).resolve() if name else path
                assert target.exists(), f"{path.name}: {link}"
                assert not anchor or anchor in anchors(target), f"{path.name}: {link}"


def test_every_module_that_is_named_exists() -> None:
    for path in DOCUMENTS:
        for name in re.findall(r"(?<![\w/.])(?:\w+/)+\w+\.py\b", path.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file() or (ROOT / "ldcodec" / name).is_file(), f"{path.name}: {name}"


def test_every_linked_name_is_in_its_module() -> None:
    text = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    for names, path in re.findall(r"\[((?:`[\w.]+`(?:, )?)+)\]\(\.\./(\S+\.py)\)", text):
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"(\w+)`", names):
            assert name == Path(path).stem or re.search(rf"\b(def|class) {name}\b", source), f"{path}: {name}"


@contextmanager
def functions_called() -> Iterator[list[tuple[str, str]]]:
    """The (path in the package, qualified name) of each function of the package that this thread calls in the block."""
    called: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            called.append((path.relative_to(PACKAGE).as_posix(), frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_the_hops_are_taken_as_they_are_drawn(command: str, call: Call, ldc: bytes, tmp_path: Path) -> None:
    """At most ten, in this order; a small picture takes them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text[text.index(f"    cli/{command}.py  _{command}\n") :].partition("\n\n")[0]
    drawn = re.findall(r"─ (?:(\w+/\w+\.py|codec\.py)  )?([\w.]+) ", drawing)
    assert len(drawn) >= 10 and max(map(int, re.findall(r"^ +(\d+)", drawing, re.MULTILINE))) == 10
    Image.fromarray(texture(70, 90)).save(tmp_path / "photo.png")
    (tmp_path / "photo.ldc").write_bytes(ldc)
    arguments = ["photo.png", "--rate", "1", *TINY] if command == "compress" else ["photo.ldc"]
    with functions_called() as called:
        assert call(command, *arguments, "--force")[0] == 0
    left = iter(called)
    for place, name in drawn:
        wanted = name.rpartition(".")[2]
        assert any((not place or path == place) and wanted in found.split(".") for path, found in left), (place, name)


def test_every_import_of_the_examples_works() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    named = re.findall(r"^from (ldcodec[\w.]*) import (\w+)$", text, re.MULTILINE)
    assert len(named) >= 4
    for module, name in named:
        assert hasattr(import_module(module), name), f"{module} has no {name}"


def test_what_is_said_of_others_has_a_source() -> None:
    """Each number in the tables of features stands in the list of sources, and each source is cited."""
    tables, _, sources = (ROOT / "docs" / "features.md").read_text(encoding="utf-8").partition("## Sources")
    listed = set(re.findall(r"^(\d+)\. .*https://", sources, re.MULTILINE))
    assert set(re.findall(r"\[(\d+)\]", tables)) == listed and len(listed) > 10


def test_the_tree_is_listed_from_the_ground_floor_up() -> None:
    names = re.findall(
        r"^\| `(\w+)(?:/|\.py)` \|", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.MULTILINE
    )
    heights = [floor(f"ldcodec.{name}") for name in names]
    assert heights == sorted(heights, reverse=True)
    assert set(names) | {"__init__", "__main__"} == set().union(*FLOORS)


def test_the_way_in_stays_short() -> None:
    lengths = {"README.md": 130, "docs/architecture.md": 200}
    for name, most in lengths.items():
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= most, name
