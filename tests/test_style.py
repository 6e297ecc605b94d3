"""The structure of the package: what may import what, and how things are named. Ruff checks the rest."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ldcodec"

# The floors of the package, top to bottom: a part stands just above the highest part that it imports. A module may
# import from its own folder and from floors further down, not from peers on its own floor.
FLOORS = (
    {"__main__"},  # starts cli
    {"cli", "study", "training", "__init__"},  # what users start or import; nothing else needs them
    {"bench", "pillow"},  # they call codec as other programs do
    {"codec", "jobs"},  # one picture in memory; many files by name
    {"encoder", "viewer"},  # two users of the decoder
    {"decoder", "engine", "nets"},  # the networks reach the decoder through an interface, so they are peers
    {"diffusion"},  # the posterior follows from the integer tables
    {"entropy", "pictures"},  # symbols and pixels, the two things that a file holds
    {"bitstream"},  # bytes alone
    {"errors"},  # raised everywhere
)
MOST_ENTRIES = 20  # at the top of the package
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
SELF_EXPLAINING = 5  # lines of a function or class that needs no docstring
PASSES = {"forward", "backward"}  # the docstring of their class says what goes in and what comes out

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def module_name(path: Path) -> str:
    """`ldcodec/cli/__init__.py` → `ldcodec.cli`"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module of the package that a file imports, within functions too. Relative imports do not occur (ruff)."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield from (name for alias in node.names if (name := imported(str(node.module), alias.name)))


def imported(source: str, name: str) -> str | None:
    """The module that `from source import name` needs; None for the version, which is there before all else."""
    if (source, name) == ("ldcodec", "__version__"):
        return None
    submodule = f"{source}.{name}"
    return submodule if submodule in MODULES else source


def part(module: str) -> str:
    """The entry at the top of the package that holds a module: `ldcodec.cli.view` → `cli`."""
    return module.split(".")[1] if "." in module else "__init__"


def floor(module: str) -> int:
    """The position of a module in FLOORS; 0 is the top."""
    return next(number for number, parts in enumerate(FLOORS) if part(module) in parts)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


@cache
def private_names() -> frozenset[str]:
    """The private functions, classes, variables and attributes of the package, without their modules."""
    nodes = [node for path in MODULES.values() for node in ast.walk(parse(path))]
    names = {node.name for node in nodes if isinstance(node, Definition)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    return frozenset(filter(is_private, names))


def private_uses(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) where a test imports a private name of the package, reads it off something, or names it to patch it.

    What is read off `self` is the test's own.
    """
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and node.attr in private_names():
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call):  # setattr(layout, "_check", …), patch("ldcodec.layout._check")
            words = [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
            yield from ((node.lineno, word) for word in words if word.rpartition(".")[2] in private_names())


def lines(node: Definition) -> int:
    """Lines of a definition, without decorators and docstring."""
    count = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return count
    docstring = node.body[0]
    return count - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """The public functions and classes of a module or class, and those within its public classes."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_") and node.name not in PASSES:
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def test_every_part_of_the_package_has_a_floor() -> None:
    assert {part(module) for module in MODULES} == set().union(*FLOORS)


def test_imports_point_down() -> None:
    """Never up, and never to a peer."""
    wrong = [
        f"{module} imports {target}"
        for module, path in MODULES.items()
        for target in imports(path)
        if part(target) != part(module) and floor(target) <= floor(module)
    ]
    assert not wrong


def test_every_part_stands_as_low_as_its_imports_allow() -> None:
    """So there are no more floors than imports ask for."""
    lowest = {part(module): len(FLOORS) - 1 for module in MODULES}
    for module, path in MODULES.items():
        below = (floor(target) - 1 for target in imports(path) if part(target) != part(module))
        lowest[part(module)] = min([lowest[part(module)], *below])
    assert lowest == {name: number for number, parts in enumerate(FLOORS) for name in parts}


def test_imports_have_no_cycle() -> None:
    TopologicalSorter({module: set(imports(path)) for module, path in MODULES.items()}).prepare()


def test_the_top_of_the_package_is_seen_at_a_glance() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "models"}
    assert len(entries) <= MOST_ENTRIES


def test_module_names_are_unique() -> None:
    """Commands are named for what the user types, so they may share a name with what they run."""
    names = Counter(path.stem for path in MODULES.values() if path.parent.name != "cli")
    twice = {name for name, count in names.items() if count > 1 and not name.startswith("__")}
    assert not twice


def test_class_names_are_unique() -> None:
    """At the top of modules, and but for private ones: whoever searches for a class finds one."""
    definitions = (node for path in MODULES.values() for node in parse(path).body if isinstance(node, ast.ClassDef))
    names = Counter(node.name for node in definitions if not node.name.startswith("_"))
    assert not {name for name, count in names.items() if count > 1}


def test_modules_are_named_for_what_they_hold() -> None:
    assert not [module for module in MODULES if NAMELESS.intersection(module.split("."))]


def test_tests_use_no_private_names() -> None:
    """What is private may change, and no test with it."""
    uses = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, name in private_uses(path)
    ]
    assert not uses


def test_public_definitions_of_some_length_have_docstrings() -> None:
    assert not [
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        for node in public(parse(path).body)
        if lines(node) > SELF_EXPLAINING and not ast.get_docstring(node)
    ]
