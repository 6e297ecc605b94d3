"""Find the files in folders, and decide where in the output folder the output of each goes."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ldcodec.errors import LdcodecError
from ldcodec.jobs import remote
from ldcodec.jobs.manifest import Fingerprint
from ldcodec.jobs.messages import Console
from ldcodec.jobs.paths import Job, check_collisions, is_special, joined, unfinished_path

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

    taken: extensions of the files that are taken, in lower case; extension: of the outputs; output: their folder.
    """

    taken: frozenset[str]
    extension: str
    output: str


@dataclass
class Tree:
    """All inputs, sorted; how many other files are left alone, by extension; each output folder's input folder."""

    files: list[TreeFile] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    folders: dict[str, str] = field(default_factory=dict)

    def keep_times(self) -> None:
        """Give the output folders that exist the times of their input folders."""
        for target, source in self.folders.items():
            with suppress(OSError):
                status = os.stat(source)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def tree_of(inputs: Sequence[str], selection: Selection, known: Mapping[str, str], console: Console) -> Tree:
    """The tree of files and folders. known: outputs of earlier runs, by the names of their inputs.

    An input keeps the output it had. Where two would become one (a.jpg and a.png), the later keeps its extension too
    (a.png.ldc). Hidden files and folders, links to folders and the output folder are skipped. What cannot be listed is
    reported as a failure. Raises UsageError if an output would replace an input.
    """
    tree = Tree()
    taken_by = {target.casefold(): name for name, target in known.items()}
    for source in inputs:
        found = _found_remotely if remote.is_remote(source) else _found
        for path, name, fingerprint in found(source, selection, tree, console):
            target = known.get(name) or _target(name, selection.extension, taken_by)
            taken_by.setdefault(target.casefold(), name)
            place = joined(selection.output, target)
            size = _size(path) if fingerprint is None else fingerprint.size
            unfinished = None if remote.appears_whole(place) else unfinished_path(place)
            tree.files.append(TreeFile(Job(path, place, True, unfinished), name, size, fingerprint))
    check_collisions([file.job for file in tree.files])
    return tree


def _target(name: str, extension: str, taken_by: Mapping[str, str]) -> str:
    short = os.path.splitext(name)[0] + extension
    return short if taken_by.get(short.casefold(), name) == name else name + extension


def _found(
    source: str, selection: Selection, tree: Tree, console: Console
) -> Iterator[tuple[str, str, Fingerprint | None]]:
    """Paths and names of an input's files; a file that the user names is taken whatever its extension."""
    if not os.path.isdir(source):
        yield source, os.path.basename(source), None
        return
    for folder, inner, files in os.walk(source, onerror=lambda error: _report(error, console)):
        inner[:] = sorted(name for name in inner if not _is_skipped(os.path.join(folder, name), selection.output))
        relative = os.path.relpath(folder, source)
        if not remote.is_remote(selection.output):
            tree.folders[os.path.normpath(os.path.join(selection.output, relative))] = folder
        for file in sorted(name for name in files if not name.startswith(".")):
            path, extension = os.path.join(folder, file), os.path.splitext(file)[1].lower()
            if extension in selection.taken and not is_special(path):
                yield path, os.path.normpath(os.path.join(relative, file)), None
            else:
                tree.others[extension] += 1


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
        elif path.startswith(remote.joined(selection.output, "")) or any(
            p.startswith(".") for p in SEPARATOR.split(name)
        ):
            continue  # hidden, or the key of an object that would leave the output folder with ..
        elif extension in selection.taken:
            yield path, name, fingerprint
        else:
            tree.others[extension] += 1


def _is_skipped(folder: str, output: str) -> bool:
    hidden = os.path.basename(folder).startswith(".")
    return hidden or os.path.realpath(folder) == os.path.realpath(output)


def _report(error: OSError, console: Console) -> None:
    with console.reporting(str(error.filename)):
        raise error


def _size(path: str) -> int:
    with suppress(OSError):
        status = os.stat(path)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0
