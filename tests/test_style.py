"""The style that every module is held to: import direction, size, names and words."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ldcodec"

# Top to bottom: a layer imports only what stands further down. Modules of one package share a layer.
LAYERS = (
    "__main__",
    "study",
    "training",
    "cli",
    "bench",
    "viewer",
    "jobs",
    "onnx",
    "__init__",
    "pillow",
    "codec",
    "encoder",
    "decoder",
    "nets",
    "diffusion",
    "pictures",
    "entropy",
    "bitstream",
    "errors",
)
LEAVES = ("__main__", "study", "training")  # imported by nothing outside themselves
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
PASSES = ("forward", "backward")
LONGEST_FUNCTION = 50
FORBIDDEN_WORDS = re.compile(r"pickle|torch\.load\b|(?<![.\w])(eval|exec)\(", re.IGNORECASE)  # run code from a file
GUARDED = ("nets/lpips.py", "study/cifar.py")  # read others' pickles, through unpicklers that refuse all but arrays

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef

FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    """ldcodec/cli/__init__.py → ldcodec.cli"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def layer(module: str) -> str:
    """ldcodec.cli.files → cli; the package itself → __init__."""
    return module.split(".")[1] if "." in module else "__init__"


def rank(module: str) -> int:
    name = layer(module)
    if name not in LAYERS:
        pytest.fail(f"{module} has no place in the tree: give {name!r} one in LAYERS")
    return LAYERS.index(name)


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The full name of the module that `from … import` names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    parents = package[: len(package) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def from_targets(node: ast.ImportFrom, path: Path) -> Iterator[str]:
    """The modules that one `from … import a, b` reaches: a submodule where one has that name, else the source."""
    source = absolute(node, path)
    for alias in node.names:
        inner = f"{source}.{alias.name}"
        if source == "ldcodec" and alias.name == "__version__":
            continue  # a constant, at hand before anything else is imported
        yield inner if inner in MODULES else source


def imports(path: Path) -> set[str]:
    """Every ldcodec module that this file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(from_targets(node, path))
    return {name for name in found if name.split(".")[0] == "ldcodec"}


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from `def` to the end without the docstring; decorators stand above `def`."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """Public functions and classes of a module or class body, and those inside its public classes.

    `forward` and `backward` are left out: the docstring of their class says what goes in and what comes out.
    """
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_") and node.name not in PASSES:
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def test_the_package_is_found() -> None:
    assert "ldcodec.errors" in MODULES


@each_file
def test_imports_point_down(path: Path) -> None:
    here = module_name(path)
    for target in imports(path):
        assert layer(target) == layer(here) or rank(target) > rank(here), f"{here} imports {target}, which is above it"


@each_file
def test_leaves_are_not_imported(path: Path) -> None:
    here = module_name(path)
    assert not [name for name in imports(path) if layer(name) in LEAVES and layer(name) != layer(here)]


def test_no_import_cycles() -> None:
    graph = {name: imports(path) for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_names_inside_the_package_exist() -> None:
    missing = {name for path in FILES for name in imports(path)} - set(MODULES)
    assert not missing


@each_file
def test_functions_are_short(path: Path) -> None:
    long = {node.name: length(node) for node in functions(path) if length(node) > LONGEST_FUNCTION}
    assert not long


@each_file
def test_modules_are_named_for_what_they_hold(path: Path) -> None:
    assert NAMELESS.isdisjoint(module_name(path).split("."))


@each_file
def test_public_definitions_have_docstrings(path: Path) -> None:
    assert not [node.name for node in public(parse(path).body) if not ast.get_docstring(node)]


@each_file
def test_no_bare_except(path: Path) -> None:
    handlers = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ExceptHandler)]
    assert not [node.lineno for node in handlers if node.type is None]


@each_file
def test_no_assert(path: Path) -> None:
    asserts = [node.lineno for node in ast.walk(parse(path)) if isinstance(node, ast.Assert)]
    assert not asserts, "asserts vanish under python -O: raise an error from errors.py"


@each_file
def test_nothing_that_runs_code_from_a_file(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in GUARDED:
        return
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    assert not [number for number, line in lines if FORBIDDEN_WORDS.search(line)]


@each_file
def test_only_commands_print(path: Path) -> None:
    if layer(module_name(path)) in ("cli", "study", "training"):
        return
    calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
