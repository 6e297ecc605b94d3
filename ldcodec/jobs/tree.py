"""Find the files in folders, and decide where in the output folder the output of each goes."""

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, count

from ldcodec.errors import LdcodecError
from ldcodec.jobs import remote
from ldcodec.jobs.manifest import FILE_NAME, Fingerprint
from ldcodec.jobs.messages import Console
from ldcodec.jobs.paths import Job, check_collisions, is_special, joined, renamed, unfinished_path

SEPARATOR = re.compile(r"[/\\]")


@dataclass(frozen=True)
class TreeFile:
    """One input of a tree: its job, its name within its folder, its size in bytes.

    fingerprint: known from the listing if the file is remote.
    """

    job: Job
    name: str
    size: int
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True)
class Selection:
    """Which files of a folder are taken, and where their outputs go.

    taken: extensions of the files that are taken, in lower case; recognised: whether a local file whose extension says
    nothing is taken for its first 64 bytes; extension: of the outputs; output: their folder.
    """

    taken: frozenset[str]
    recognised: Callable[[bytes], bool]
    extension: str
    output: str

    def takes(self, path: str) -> bool:
        """Whether a local file is taken; one that cannot be read is, so that this is reported."""
        if is_special(path):
            return False
        extension = os.path.splitext(path)[1].lower()
        if extension in self.taken or extension in _types():
            return extension in self.taken
        try:
            with open(path, "rb") as stream:
                return self.recognised(stream.read(64))
        except OSError:
            return True


@cache
def _types() -> frozenset[str]:
    """The extensions that Python itself knows, whatever this machine adds to them."""
    from mimetypes import MimeTypes

    return frozenset(MimeTypes().types_map[True])


@dataclass
class Tree:
    """All inputs, sorted; each output folder's input folder.

    others: how many files are left alone, by extension; passed: how much is passed over, by kind.
    """

    files: list[TreeFile] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    folders: dict[str, str] = field(default_factory=dict)

    def make_folder(self, folder: str) -> None:
        """Make an output folder, and those above it, that whoever may not use the input folder may not use either."""
        if os.path.isdir(folder):
            return
        self.make_folder(os.path.dirname(folder))
        source = self.folders.get(folder)
        os.mkdir(folder, 0o777 if source is None else stat.S_IMODE(os.stat(source).st_mode) & 0o777 | stat.S_IRWXU)

    def keep_times(self) -> None:
        """Give the output folders that exist the times of their input folders."""
        for target, source in self.folders.items():
            with suppress(OSError):
                status = os.stat(source)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def tree_of(inputs: Sequence[str], selection: Selection, known: Mapping[str, str], console: Console) -> Tree:
    """The tree of files and folders. known: outputs of earlier runs, by the names of their inputs.

    An input keeps the output it had. Where two would become one (a.jpg and a.png), each keeps its extension too
    (a.jpg.ldc and a.png.ldc). Hidden files and folders, links to folders and the output folder are passed over, and all
    but the last are counted. What cannot be listed is reported as a failure. Raises UsageError if an output would
    replace an input.
    """
    tree = Tree()
    found: list[tuple[str, str, Fingerprint | None]] = []
    for source in inputs:
        find = _found_remotely if remote.is_remote(source) else _found
        found += find(source, selection, tree, console)
    targets = targets_of({name for _, name, _ in found}, selection.extension, known)
    for path, name, fingerprint in found:
        place = joined(selection.output, targets[name])
        size = _size(path) if fingerprint is None else fingerprint.size
        unfinished = None if remote.appears_whole(place) else unfinished_path(place)
        tree.files.append(TreeFile(Job(path, place, True, unfinished), name, size, fingerprint))
    check_collisions([file.job for file in tree.files])
    return tree


def targets_of(names: Collection[str], extension: str, known: Mapping[str, str]) -> dict[str, str]:
    """The names of the outputs of inputs, so that none has a name under which another one might be looked for.

    known: the outputs of earlier runs, which are kept. Otherwise an input gets its name with the other extension if no
    other one has a claim to that, or else its whole name followed by the extension; `x.png.ldc` has the first claim to
    `x.png`. Names that differ in capitals alone count as one, since on some disks they are.
    """
    short = {name: renamed(name, extension) for name in names}
    claims = Counter(target.casefold() for target in short.values())
    own = Counter(target.casefold() for name, target in short.items() if _is_own(name, target))
    whole = Counter((name + extension).casefold() for name in names)
    kept = {name: target for name, target in known.items() if not own[target.casefold()] or _is_own(name, target)}
    taken = {target.casefold() for target in kept.values()}
    targets: dict[str, str] = {}
    for name in sorted(names):
        key = short[name].casefold()
        sole = own[key] == 1 if _is_own(name, short[name]) else claims[key] == 1 and not whole[key]
        numbered = (f"{name}.{number}{extension}" for number in count(2))
        free = (target for target in chain([name + extension], numbered) if target.casefold() not in taken)
        target = kept.get(name) or (short[name] if sole and key not in taken else next(free))
        taken.add(target.casefold())
        targets[name] = target
    return targets


def _is_own(name: str, target: str) -> bool:
    """Whether an output's name is the beginning of its input's, from which a run the other way round has made that."""
    return os.path.splitext(name)[0] == target


def _found(
    source: str, selection: Selection, tree: Tree, console: Console
) -> Iterator[tuple[str, str, Fingerprint | None]]:
    """Paths and names of an input's files; a file that the user names is taken whatever its extension."""
    if not os.path.isdir(source):
        yield source, os.path.basename(source), None
        return
    for folder, inner, files in os.walk(source, onerror=lambda error: _report(error, console)):
        inner[:] = sorted(name for name in inner if not _is_passed(os.path.join(folder, name), selection.output, tree))
        relative = os.path.relpath(folder, source)
        if not remote.is_remote(selection.output):
            tree.folders[os.path.normpath(os.path.join(selection.output, relative))] = folder
        tree.passed["hidden files"] += sum(name.startswith(".") and name != FILE_NAME for name in files)
        for file in sorted(name for name in files if not name.startswith(".")):
            path = os.path.join(folder, file)
            if selection.takes(path):
                yield path, os.path.normpath(os.path.join(relative, file)), None
            else:
                tree.others[os.path.splitext(file)[1].lower()] += 1


def _found_remotely(
    source: str, selection: Selection, tree: Tree, console: Console
) -> Iterator[tuple[str, str, Fingerprint | None]]:
    """Like `_found`, for a folder with a URL, from one listing of it."""
    listing: dict[str, remote.Listed] = {}
    with console.reporting(source):
        listing = remote.listed(source)
        if not listing:
            raise LdcodecError("no such file or folder")
    for name, entry in listing.items():
        fingerprint = Fingerprint(entry.size, tag=entry.tag)
        path, extension = remote.joined(source, name), os.path.splitext(name)[1].lower()
        if not name:
            yield source, remote.base_name(source), fingerprint
        elif path.startswith(remote.joined(selection.output, "")):
            continue
        elif any(part.startswith(".") for part in SEPARATOR.split(name)):
            tree.passed["hidden files"] += 1  # or the key of an object that would leave the output folder with ..
        elif extension in selection.taken:
            yield path, name, fingerprint
        else:
            tree.others[extension] += 1


def _is_passed(folder: str, output: str, tree: Tree) -> bool:
    hidden = os.path.basename(folder).startswith(".")
    tree.passed["hidden folders" if hidden else "links to folders"] += hidden or os.path.islink(folder)
    return hidden or os.path.realpath(folder) == os.path.realpath(output)


def _report(error: OSError, console: Console) -> None:
    with console.reporting(str(error.filename)):
        raise error


def _size(path: str) -> int:
    with suppress(OSError):
        status = os.stat(path)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0
