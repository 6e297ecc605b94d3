"""Whole folders: trees, manifests, processes, and what is left after a kill."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldcodec import cli
from ldcodec.bitstream import container
from ldcodec.errors import UsageError
from ldcodec.jobs import paths, workers
from ldcodec.jobs.manifest import FILE_NAME, fingerprint_of, open_manifest
from ldcodec.jobs.paths import Job, unfinished_path
from ldcodec.jobs.tree import targets_of
from ldcodec.jobs.work import Work
from ldcodec.jobs.workers import CoreSplit, outcomes, split_cores
from tests.commands import Call, environment, error_line, heed_interrupts, start
from tests.pictures import png
from tests.strange import strange
from tests.test_cli import Terminal

pytestmark = pytest.mark.slow

EXACT = ["-r", "--jobs", "1", "--lossless"]  # needs no model
NAMES = ("2024/june/a.png", "2024/b.PNG", "c.png")
PAST = 1_100_000_000_987_654_000


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three pictures in a tree, and files that are to be left alone."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed=seed))
        os.utime(path, ns=(PAST, PAST))
    for name in ("notes.txt", "more.txt", ".hidden.png", ".cache/x.png", "empty/.keep"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png())
    os.utime(folder / "2024", ns=(PAST, PAST))
    return folder


def tree(folder: Path) -> list[str]:
    """Every file in a folder but its manifest, by its path within it."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != FILE_NAME)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The manifest of a folder."""
    return [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]


def summary(out: str) -> tuple[int, ...]:
    """How many files were done, done before and failed."""
    found = re.search(r"^(\d+) done, (\d+) done before, (\d+) failed", out, re.MULTILINE)
    assert found, out
    return tuple(map(int, found.groups()))


def same_pixels(folder: Path, archive: Path) -> None:
    """Every output is whole and holds what its input does."""
    for name in NAMES:
        restored = archive / Path(name).with_suffix(".ldc")
        assert container.read(restored.read_bytes()).lossless
        out = archive.parent / "check.png"
        assert cli.run(["decompress", str(restored), "-o", str(out), "-f", "-q"]) == 0
        with Image.open(out) as image, Image.open(folder / name) as original:
            assert image.tobytes() == original.tobytes()


def test_a_tree_there_and_back(call: Call, photos: Path, tmp_path: Path) -> None:
    code, out, err = call("compress", "photos/", "-o", "archive", *EXACT)
    assert (code, err, summary(out)) == (0, "", (3, 0, 0))
    assert re.search(r"; \d+\.?\d*kB became \d+B|; \d+\.?\d*k?B became \d+\.?\d*k?B", out)
    assert "other files left alone (2): 2 .txt" in out
    assert tree(tmp_path / "archive") == ["2024/b.ldc", "2024/june/a.ldc", "c.ldc"]
    code, out, err = call("decompress", "archive", "-o", "back", "-r", "--jobs", "1")
    assert (code, err, summary(out)) == (0, "", (3, 0, 0))
    assert tree(tmp_path / "back") == ["2024/b.png", "2024/june/a.png", "c.png"]
    for folder, extension in (("archive", ".ldc"), ("back", ".png")):
        for name in NAMES:
            assert (tmp_path / folder / name).with_suffix(extension).stat().st_mtime_ns == PAST
        assert (tmp_path / folder / "2024").stat().st_mtime_ns == PAST
    same_pixels(photos, tmp_path / "archive")


def test_times_are_not_kept_on_demand(call: Call, photos: Path, tmp_path: Path) -> None:
    assert call("compress", "photos", "-o", "archive", *EXACT, "--no-preserve")[0] == 0
    for name in ("c.ldc", "2024"):
        assert (tmp_path / "archive" / name).stat().st_mtime > time.time() - 60
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (0, 3, 0)


def test_what_is_done_is_not_done_again(call: Call, photos: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    assert call("compress", "photos", "-o", "archive", *EXACT)[0] == 0
    before = {name: (archive / name).stat().st_ino for name in tree(archive)}
    manifest = (archive / FILE_NAME).read_bytes()
    code, out, _ = call("compress", "photos", "-o", "archive", *EXACT)
    assert (code, summary(out)) == (0, (0, 3, 0))
    assert (archive / FILE_NAME).read_bytes() == manifest
    (photos / "c.png").touch()  # another time, the same content
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (0, 3, 0)
    assert {name: (archive / name).stat().st_ino for name in tree(archive)} == before
    (photos / "c.png").write_bytes(png(seed=7))
    (archive / "2024/b.ldc").unlink()
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (2, 1, 0)
    (archive / "2024/b.ldc").write_bytes(b"cut")
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (1, 2, 0)
    same_pixels(photos, archive)
    left = "other files left alone (2): 2 .txt\npassed over: hidden files 2, hidden folders 1\n"
    assert call("compress", "photos", "-o", "archive", *EXACT, "-q") == (0, "", left)


def test_failures_are_listed_and_the_rest_is_done(call: Call, photos: Path, tmp_path: Path) -> None:
    (photos / "2024" / "bad.jpg").write_bytes(b"text")
    code, out, err = call("compress", "photos", "missing.png", "-o", "archive", *EXACT)
    assert (code, summary(out)) == (1, (3, 0, 2))
    assert err.splitlines()[-2:] == ["failed: photos/2024/bad.jpg", "failed: missing.png"]
    assert "ldcodec: error: photos/2024/bad.jpg: not a picture in a known format" in err
    assert "ldcodec: error: missing.png: No such file or directory" in err
    assert tree(tmp_path / "archive") == ["2024/b.ldc", "2024/june/a.ldc", "c.ldc"]
    (photos / "2024" / "bad.jpg").write_bytes(png())
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (1, 3, 0)


def picture(path: Path, colour: str) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)


def colours_of(folder: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for path in sorted(folder.glob("*.*")):
        if path.name != FILE_NAME:
            with Image.open(path) as image:
                found[path.name] = image.convert("RGB").getpixel((5, 5))
    return found  # type: ignore[return-value]


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_nothing_comes_back_under_the_name_of_another(call: Call, tmp_path: Path) -> None:
    for name, colour in (("x.bmp", "red"), ("x.png", "lime"), ("x.tif", "blue"), ("y.bmp", "red")):
        picture(tmp_path / "in" / name, colour)
    assert call("compress", "in", "-o", "stored", *EXACT)[0] == 0
    assert tree(tmp_path / "stored") == ["x.bmp.ldc", "x.png.ldc", "x.tif.ldc", "y.ldc"]
    assert call("decompress", "stored", "-o", "back", *EXACT[:3])[0] == 0
    assert colours_of(tmp_path / "back") == {"x.bmp.png": RED, "x.png": GREEN, "x.tif.png": BLUE, "y.png": RED}


def test_a_name_goes_to_whom_it_belongs_even_later(call: Call, tmp_path: Path) -> None:
    """x.bmp was stored as x.ldc, and has come back as x.png, when an x.png appears."""
    picture(tmp_path / "in" / "x.bmp", "red")
    for expected in ({"x.png": RED}, {"x.ldc.png": RED, "x.png": GREEN}):
        assert call("compress", "in", "-o", "stored", *EXACT)[0] == 0
        assert call("decompress", "stored", "-o", "back", *EXACT[:3])[0] == 0
        assert colours_of(tmp_path / "back") == expected
        picture(tmp_path / "in" / "x.png", "lime")
    assert summary(call("compress", "in", "-o", "stored", *EXACT)[1]) == (0, 2, 0)
    assert summary(call("decompress", "stored", "-o", "back", *EXACT[:3])[1]) == (0, 2, 0)


NAMED: list[tuple[str, list[str], list[str]]] = [
    (".ldc", ["x.jpg", "x.png", "x.jpg.png"], ["x.jpg.ldc", "x.png.ldc", "x.jpg.png.ldc"]),
    (".ldc", ["d/x.jpg", "x.png"], ["d/x.ldc", "x.ldc"]),
    (".ldc", ["a.png", "A.png", "A.PNG"], ["a.png.3.ldc", "A.png.2.ldc", "A.PNG.ldc"]),
    (".ldc", ["x.ldc.png", "x.png"], ["x.ldc", "x.png.ldc"]),
    (".png", ["x.jpg.ldc", "x.png.ldc"], ["x.jpg.png", "x.png"]),
    (".png", ["x.ldc", "x.png.ldc"], ["x.ldc.png", "x.png"]),
    (".png", ["x.jpg.png.ldc", "x.jpg.ldc"], ["x.jpg.png", "x.jpg.ldc.png"]),
]


@pytest.mark.parametrize(("extension", "names", "expected"), NAMED, ids=str)
def test_names(extension: str, names: list[str], expected: list[str]) -> None:
    """In any order, and again once they are known."""
    for order in (names, names[::-1]):
        found = targets_of(order, extension, {})
        assert [found[name] for name in names] == expected
        assert targets_of(order, extension, found) == found


def test_names_of_any_two_differ() -> None:
    words = ("x", "X", "x.png", "x.jpg", "x.ldc", "x.png.ldc", "x.jpg.png", "x.PNG", "x.Ldc.png", ".png")
    for names, extension in itertools.product(itertools.combinations(words, 4), (".ldc", ".png")):
        for known in ({}, targets_of(names[:2], extension, {})):
            found = targets_of(names, extension, known)
            assert len({target.casefold() for target in found.values()}) == len(names), (names, found)


def test_private_folders_stay_private(call: Call, photos: Path, tmp_path: Path) -> None:
    """Not even the names in them are shown, and each folder is closed before a file is in it."""
    (photos / "2024" / "june").chmod(0o700)
    photos.chmod(0o750)
    (photos / "c.png").chmod(0o600)
    assert call("compress", "photos", "-o", "new/archive", *EXACT)[0] == 0
    archive, limit = tmp_path / "new" / "archive", 0o777 & ~os.umask(os.umask(0o022))
    assert (archive / "2024" / "june").stat().st_mode & 0o777 == 0o700 & limit
    assert archive.stat().st_mode & 0o777 == 0o750 & limit
    assert (archive / "c.ldc").stat().st_mode & 0o777 == 0o600
    assert (archive / "2024").stat().st_mode & 0o777 == 0o755 & limit | 0o700


@pytest.mark.parametrize("quiet", [[], ["-q"]], ids=["loud", "quiet"])
def test_pictures_that_cannot_be_read_are_told_and_count(quiet: list[str], call: Call, tmp_path: Path) -> None:
    """By their extension or, where that says nothing, by their first bytes; what can be read is taken."""
    picture(tmp_path / "in" / "a.png", "red")
    raw = b"II*\0\x10\0\0\0CR\2\0" + bytes(60)
    left_out = {
        "IMG_1.CR2": raw, "IMG_2.HEIC": b"\0\0\0\x18ftypheic", "IMG_3.jxl": b"\xff\x0a" + bytes(40),
        "IMG_4.dng": b"text", "IMG_5": raw, "IMG_6.x": b"\0\0\0\x18ftypcrx " + bytes(60),
    }  # fmt: skip
    for name, data in left_out.items():
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "in" / "IMG_7").write_bytes(png())
    (tmp_path / "in" / "IMG_8.jpg_large").write_bytes(png())
    (tmp_path / "in" / "notes.txt").write_bytes(png())
    (tmp_path / "in" / "notes").write_bytes(b"II* is not a picture")
    code, out, err = call("compress", "in", "-o", "stored", *EXACT, *quiet)
    assert code == 1
    assert tree(tmp_path / "stored") == ["IMG_7.ldc", "IMG_8.ldc", "a.ldc"]
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert failed == [f"failed: in/{name}" for name in sorted(left_out)]
    assert bool(quiet) == (out == "") and "other files left alone (2): " in (err if quiet else out)


def test_films_are_failures_and_other_files_are_named(call: Call, tmp_path: Path) -> None:
    """A telephone puts films among its pictures; whoever archives its folder must learn that they are not in it."""
    picture(tmp_path / "in" / "a.png", "red")
    film = b"\0\0\0\x14ftypqt  \0\0\0\0qt  "
    for name in ("IMG_1.MOV", "IMG_2", "c.mp4"):
        (tmp_path / "in" / name).write_bytes(film)
    (tmp_path / "in" / "song").write_bytes(b"\0\0\0\x14ftypM4A \0\0\0\0mp42")
    for number in range(10):
        (tmp_path / "in" / f"x.k{number}").write_bytes(b"text")
    code, out, err = call("compress", "in", "-o", "stored", *EXACT, "-q")
    assert (code, out, tree(tmp_path / "stored")) == (1, "", ["a.ldc"])
    for name in ("IMG_1.MOV", "IMG_2", "c.mp4"):
        assert f"error: in/{name}: a film, which is not read\n" in err
    named = ", ".join(["1 without extension", *(f"1 .k{number}" for number in range(7))])
    assert f"other files left alone (11): {named}, 3 of other kinds\n" in err


def test_a_region_that_one_picture_lacks_stops_no_other(call: Call, tmp_path: Path) -> None:
    for width in (40, 90):
        (tmp_path / f"{width}.png").write_bytes(png(width))
    (tmp_path / "in").mkdir()
    for name in ("40.png", "90.png"):
        (tmp_path / "in" / name).write_bytes((tmp_path / name).read_bytes())
    for inputs, made in ((("40.png", "90.png", "-o", "two/"), "two"), (("in", "-o", "all", "-r"), "all")):
        code, _, err = call("compress", *inputs, "--roi", "50,0,20,20", "--lossless")
        assert code == 1 and tree(tmp_path / made) == ["90.ldc"]
        assert "40.png: the region 50,0,20,20 does not lie in a picture of 40x24 pixels\n" in err
    assert call("compress", "40.png", "90.png", "-o", "exact/", "--lossless")[0] == 0
    code, _, err = call("decompress", "exact/40.ldc", "exact/90.ldc", "-o", "back/", "--region", "50,0,20,20")
    assert code == 1 and "exact/40.ldc: the region" in err and tree(tmp_path / "back") == ["90.png"]
    assert call("decompress", "exact/40.ldc", "-o", "a.png", "--region", "50,0,20,20")[0] == 2


def test_names_take_one_line_and_command_no_terminal(call: Call, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "new\nline.png").write_bytes(png())
    (tmp_path / "in" / "\x1b[31mred.png").write_bytes(b"text")
    code, out, err = call("compress", "in", "-o", "stored", *EXACT)
    assert code == 1 and tree(tmp_path / "stored") == ["new\nline.ldc"]
    assert out.startswith("in/new\\nline.png → stored/new\\nline.ldc  40x24")
    assert err.splitlines()[-1] == r"failed: in/\x1b[31mred.png"
    assert r"error: in/\x1b[31mred.png: not a picture" in err
    assert call("info", "stored/new\nline.ldc")[1].startswith("stored/new\\nline.ldc: 40x24")
    assert call("verify", "stored/new\nline.ldc")[1].startswith("stored/new\\nline.ldc: sound")


def test_what_is_passed_over_is_counted(call: Call, photos: Path) -> None:
    (photos / "elsewhere").symlink_to(photos / "2024")
    out = call("compress", "photos", "-o", "photos/archive", *EXACT)[1]
    assert "passed over: hidden files 2, hidden folders 1, links to folders 1" in out
    assert "passed over" not in call("decompress", "photos/archive", "-o", "back", *EXACT[:3])[1]


def test_files_of_other_extensions_are_decompressed_by_their_first_bytes(call: Call, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", "red")
    assert call("compress", "in", "-o", "stored", *EXACT)[0] == 0
    (tmp_path / "stored" / "a.ldc").rename(tmp_path / "stored" / "b")
    (tmp_path / "stored" / "c").write_bytes(b"text")
    code, out, _ = call("decompress", "stored", "-o", "back", *EXACT[:3])
    assert (code, tree(tmp_path / "back")) == (0, ["b.png"]) and "other files left alone (1)" in out


def test_two_that_would_become_one(call: Call, photos: Path, tmp_path: Path) -> None:
    """A picture that comes later never takes the output of another."""
    assert call("compress", "photos", "-o", "archive", *EXACT)[0] == 0
    (photos / "c.bmp").write_bytes(png(seed=5))
    (photos / "c.tif").write_bytes(png(seed=6))
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (2, 3, 0)
    assert [n for n in tree(tmp_path / "archive") if n.startswith("c")] == ["c.bmp.ldc", "c.ldc", "c.tif.ldc"]
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (0, 5, 0)
    same_pixels(photos, tmp_path / "archive")


def test_files_of_others_are_not_overwritten(call: Call, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "c.ldc").write_bytes(b"mine")
    code, out, err = call("compress", "photos", "-o", "archive", *EXACT)
    assert (code, summary(out)) == (1, (2, 0, 1))
    assert "c.ldc: exists already; --force overwrites it" in err
    assert (tmp_path / "archive" / "c.ldc").read_bytes() == b"mine"
    assert summary(call("compress", "photos", "-o", "archive", *EXACT, "--force")[1]) == (3, 0, 0)


def test_other_options_are_refused(call: Call, photos: Path, tmp_path: Path) -> None:
    assert call("compress", "photos", "-o", "archive", *EXACT)[0] == 0
    code, out, err = call("compress", "photos", "-o", "archive", *EXACT, "--strip")
    assert (code, out) == (2, "")
    assert "archive: its files were made with strip False instead of True; name another folder" in error_line(err)
    code, out, _ = call("compress", "photos", "-o", "archive", *EXACT, "--strip", "--force")
    assert (code, summary(out)) == (0, (3, 0, 0))
    assert summary(call("compress", "photos", "-o", "archive", *EXACT, "--strip")[1]) == (0, 3, 0)
    assert call("decompress", "archive", "-o", "archive", "-r")[0] == 2


def test_an_output_folder_within_the_input(call: Call, photos: Path) -> None:
    for expected in ((3, 0, 0), (0, 3, 0)):
        assert summary(call("compress", "photos", "-o", "photos/archive", *EXACT)[1]) == expected
    assert summary(call("decompress", "photos/archive", "-o", "photos/archive/png", *EXACT[:3])[1]) == (3, 0, 0)
    assert summary(call("compress", "photos", "-o", "photos/archive", *EXACT)[1]) == (0, 3, 0)


def test_one_run_at_a_time(call: Call, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    with open_manifest("archive"):
        code, out, err = call("compress", "photos", "-o", "archive", *EXACT)
    assert (code, out) == (1, "")
    assert "another run of ldcodec is at work" in error_line(err)
    assert tree(tmp_path / "archive") == []


def test_a_manifest_that_is_damaged(call: Call, photos: Path, tmp_path: Path) -> None:
    """Whatever is no line of ours says nothing, and no file but what was left unfinished is removed."""
    assert call("compress", "photos", "-o", "archive", *EXACT)[0] == 0
    (tmp_path / "precious").write_bytes(b"mine")
    left = tmp_path / "archive" / ".ldcodec-0123456789abcdef.tmp"
    left.write_bytes(b"begun")
    alike = left.with_name(f"{left.name}\n")
    alike.write_bytes(b"mine")
    names = {"x.ldc": "../precious", "y.ldc": left.name, "z.ldc": alike.name}
    begun = [{"begin": target, "unfinished": name} for target, name in names.items()]
    foreign = b"\xff\xfe\n[1]\n{}\n7\n" + b"\n".join(json.dumps(line).encode() for line in begun) + b'\n{"done": "c.l'
    with (tmp_path / "archive" / FILE_NAME).open("ab") as stream:
        stream.write(foreign)
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (0, 3, 0)
    (photos / "d.png").write_bytes(png(seed=4))
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (1, 3, 0)
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (0, 4, 0)
    assert (tmp_path / "precious").read_bytes() == alike.read_bytes() == b"mine"
    assert not left.exists()


EARLIER: list[dict[str, Any]] = [
    {"ldcodec": 1, "order": {"work": "compress", "model": None, "target": {"lossless": True}, "strip": False,
                             "fallback": True, "effort": 1, "frame": None}},
    {"begin": "2024/b.ldc", "unfinished": "2024/.ldcodec-ee5cbdd2d8cbcb40.tmp"},
    {"done": "2024/b.ldc", "source": "2024/b.PNG"},
    {"begin": "c.ldc", "unfinished": ".ldcodec-0123456789abcdef.tmp"},
]  # fmt: skip


def test_a_folder_of_an_earlier_version_is_continued(call: Call, photos: Path, tmp_path: Path) -> None:
    """With one of its three files complete and another one begun."""
    (tmp_path / "archive" / "2024").mkdir(parents=True)
    assert call("compress", "photos/2024/b.PNG", "-o", "archive/2024/b.ldc", "--lossless")[0] == 0
    (tmp_path / "archive" / "c.ldc").write_bytes(b"half")
    fingerprint = asdict(fingerprint_of(str(photos / "2024/b.PNG")))
    del fingerprint["tag"]
    size = (tmp_path / "archive/2024/b.ldc").stat().st_size
    text = [json.dumps(line | (fingerprint | {"bytes": size} if "done" in line else {})) for line in EARLIER]
    (tmp_path / "archive" / FILE_NAME).write_text("\n".join(text) + "\n")
    code, out, _ = call("compress", "photos", "-o", "archive", *EXACT)
    assert (code, summary(out)) == (0, (2, 1, 0))
    same_pixels(photos, tmp_path / "archive")


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    for _ in range(round(100 * seconds)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"it did not happen within {seconds:.0f} s")


@pytest.mark.parametrize(("number", "after"), [(signal.SIGKILL, 1), (signal.SIGTERM, 2)])
def test_resuming_after_a_kill(number: signal.Signals, after: int, photos: Path, call: Call, tmp_path: Path) -> None:
    """Killed when so many files are done: what is there is whole, and the same command does the rest, each once."""
    for name in NAMES:
        noise = np.random.default_rng(len(name)).integers(0, 256, (300, 300, 3)).astype(np.uint8)
        Image.fromarray(noise).save(photos / name)
    archive = tmp_path / "archive"
    process = start("compress", "photos", "-o", "archive", *EXACT, cwd=tmp_path)
    manifest = archive / FILE_NAME
    wait_until(lambda: manifest.exists() and manifest.read_text().count('"done"') >= after)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (-number, 128 + number)
    before = {name: (archive / name).stat().st_ino for name in tree(archive) if name.endswith(".ldc")}
    done = {line["done"] for line in lines(archive) if "done" in line}
    assert after <= len(done) <= len(before)
    code, out, _ = call("compress", "photos", "-o", "archive", *EXACT)
    assert (code, summary(out)) == (0, (3 - len(done), len(done), 0))
    assert all((archive / name).stat().st_ino == before[name] for name in done)
    assert Counter(line["done"] for line in lines(archive) if "done" in line) == Counter(
        dict.fromkeys(tree(archive), 1)
    )
    assert tree(archive) == ["2024/b.ldc", "2024/june/a.ldc", "c.ldc"]
    same_pixels(photos, archive)


def test_an_output_that_was_begun_is_made_again(call: Call, photos: Path, tmp_path: Path) -> None:
    """Killed between the last byte of an output and its line in the manifest."""
    archive = tmp_path / "archive"
    assert call("compress", "photos", "-o", "archive", *EXACT)[0] == 0
    kept = [line for line in (archive / FILE_NAME).read_text().splitlines() if not line.startswith('{"done": "c.ldc"')]
    (archive / FILE_NAME).write_text("\n".join(kept))
    assert summary(call("compress", "photos", "-o", "archive", *EXACT)[1]) == (1, 2, 0)
    same_pixels(photos, archive)


TWO_CORES = """
from ldcodec.cli import main
from ldcodec.jobs import workers
workers.cores = lambda: 2
main(["compress", "photos", "-o", "archive", "-r", "--jobs", "2", "--lossless"])
"""


def test_two_processes(photos: Path, tmp_path: Path) -> None:
    """As a user has it on two cores; this test may run on one."""
    (photos / "bad.png").write_bytes(b"text")
    run = [sys.executable, "-c", TWO_CORES]
    done = subprocess.run(run, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, summary(done.stdout)) == (1, (3, 0, 1)), done.stderr
    assert done.stderr.splitlines()[-1] == "failed: photos/bad.png"
    assert len(done.stderr.splitlines()) == 2
    assert tree(tmp_path / "archive") == ["2024/b.ldc", "2024/june/a.ldc", "c.ldc"]


def strange_jobs(folder: Path, *names: str) -> Iterator[Job]:
    for name in names:
        (folder / name).write_text(name)
        target = str(folder / f"{name}.out")
        yield Job(str(folder / name), target, True, unfinished_path(target))


STRANGE = Work(strange, None, None, "cpu", 1)


def test_a_process_that_dies_takes_one_job_with_it(tmp_path: Path) -> None:
    jobs = strange_jobs(tmp_path, "a", "dies", "b", "c", "dies too", "d")
    found = {Path(job.source).name: outcome for job, outcome in outcomes(STRANGE, jobs, CoreSplit(2, 3), False)}
    assert {name: outcome.failures for name, outcome in found.items()} == {
        "a": 0, "dies": 1, "b": 0, "c": 0, "dies too": 1, "d": 0,
    }  # fmt: skip
    assert found["dies"].lines == [
        (f"ldcodec: error: {tmp_path / 'dies'}: its process ended by SIGKILL, perhaps for want of memory", True)
    ]
    words_of = [(tmp_path / f"{name}.out").read_text().split() for name in ("a", "b", "c", "d")]
    assert all(words[1:] == ["3", "3"] for words in words_of)
    processes = {int(words[0]) for words in words_of}
    assert os.getpid() not in processes
    assert len(processes) <= 4
    assert not any(is_running(pid) for pid in processes)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_share_the_memory_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts on its part, of 450 MB here, however much the machine has free while it asks."""
    monkeypatch.setattr(workers, "free_memory", lambda: 900e6)
    jobs = strange_jobs(tmp_path, "wants 220", "wants 440", "wants 500")
    lines = {Path(job.source).name: outcome.lines for job, outcome in outcomes(STRANGE, jobs, CoreSplit(2, 1), False)}
    assert lines["wants 220"] == []
    assert [line for line, _ in lines["wants 440"]] == [
        "note: needs about 440 MB of memory, 450 MB are free for it beside other jobs; see --jobs"
    ]
    assert lines["wants 500"][0][0].startswith("ldcodec: error: ") and "needs about 500 MB" in lines["wants 500"][0][0]


def test_stopping_leaves_neither_processes_nor_files(tmp_path: Path) -> None:
    found = outcomes(STRANGE, strange_jobs(tmp_path, "a", "hangs"), CoreSplit(2, 1), False)
    assert Path(next(found)[0].source).name == "a"
    wait_until(lambda: bool(list(tmp_path.glob(".ldcodec-*.tmp"))))
    found.close()
    assert not list(tmp_path.glob(".ldcodec-*.tmp"))
    assert not is_running(int((tmp_path / "hangs.out").read_text().split()[0]))


def test_what_is_wrong_for_all_comes_through(tmp_path: Path) -> None:
    for processes in (1, 2):
        found = list(outcomes(STRANGE, strange_jobs(tmp_path, "wrong"), CoreSplit(processes, 1), False))
        assert [str(outcome.fatal) for _, outcome in found] == ["wrong for all"]


def test_a_missing_model_ends_the_run(call: Call, photos: Path, tmp_path: Path) -> None:
    code, out, err = call("compress", "photos", "-o", "archive", *EXACT[:3], "--quality", "50", "--model", "nonesuch")
    assert (code, out) == (1, "")
    assert "nonesuch" in error_line(err)
    assert tree(tmp_path / "archive") == []


SPLITS = [
    (8, None, None, 4, 2),
    (8, 8, None, 8, 1),
    (8, 3, None, 3, 2),
    (8, None, 4, 2, 4),
    (1, None, None, 1, 1),
    (8, 2, 3, 2, 3),
]


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, jobs, threads, processes, each in SPLITS:
        monkeypatch.setattr(workers, "cores", lambda cores=cores: cores)
        assert split_cores(jobs, threads) == CoreSplit(processes, each)


def test_more_than_the_cores_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 2)
    for jobs, threads in ((3, None), (2, 2), (None, 3)):
        with pytest.raises(UsageError, match="more than the 2 cores"):
            split_cores(jobs, threads)


WRONG_USES: dict[str, tuple[list[str], str]] = {
    "no output": (["compress", "photos", "-r"], "needs a folder after -o"),
    "output to a pipe": (["compress", "photos", "-r", "-o", "-"], "needs a folder after -o"),
    "output is a file": (["compress", "photos", "-r", "-o", "photos/c.png"], "is a file"),
    "standard input": (["compress", "-", "-r", "-o", "archive"], "not standard input"),
    "jobs without a tree": (["compress", "photos/c.png", "--jobs", "2"], "--jobs belongs to --recursive"),
    "no jobs": (["compress", "photos", "-r", "-o", "archive", "--jobs", "0"], "--jobs"),
    "output is input": (["compress", "photos/c.png", "-r", "-o", "same"], "would replace the input"),
}


def test_wrong_use(call: Call, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    (tmp_path / "same" / "c.ldc").hardlink_to(photos / "c.png")
    for name, (arguments, message) in WRONG_USES.items():
        code, out, err = call(*arguments, "--lossless")
        assert (code, out) == (2, "") and message in error_line(err), (name, code, out, err)


def test_progress_tells_what_was_saved(call: Call, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        with Image.open(photos / name) as image:
            image.save(photos / name, compress_level=0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert call("compress", "photos", "-o", "archive", *EXACT)[0] == 0
    shown = terminal.getvalue()
    assert re.search(r"\d files, \d+\.?\d*k?B saved", shown), shown
    assert "<" in shown  # time passed < time left


def test_processes_heed_the_shell(photos: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the group; one line is printed, and no process is left."""
    for name in NAMES:
        noise = np.random.default_rng(len(name)).integers(0, 256, (1500, 1500, 3)).astype(np.uint8)
        Image.fromarray(noise).save(photos / name, compress_level=0)

    def alone() -> None:
        os.setsid()
        heed_interrupts()

    process = subprocess.Popen(
        [sys.executable, "-c", TWO_CORES],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=alone,
    )
    wait_until(lambda: (tmp_path / "archive" / FILE_NAME).exists() and len(lines(tmp_path / "archive")) == 3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)  # returns when no process holds standard error any more
    assert process.returncode == 130
    assert "SIGINT" in error_line(err)
    assert [name for name in tree(tmp_path / "archive") if name.endswith(".tmp")] == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_first_process_is_deaf_to_ctrl_c_from_its_beginning() -> None:
    """Its interpreter would die noisily of one that comes while it starts."""
    program = """
import time
from multiprocessing import get_context
from ldcodec.jobs.workers import start_deaf
process = get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
start_deaf(process)
print([line for line in open(f"/proc/{process.pid}/status") if line.startswith("SigBlk")][0].split()[1])
process.kill()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout, 16) & 1 << signal.SIGINT - 1


def test_what_dead_writers_left_is_removed_and_nothing_else(call: Call, photos: Path, tmp_path: Path) -> None:
    """A file that a writer still holds, a fresh one and those of other names stay."""
    import fcntl

    archive = tmp_path / "archive" / "2024"
    archive.mkdir(parents=True)
    old = time.time() - 2 * paths.ABANDONED
    names = {
        "dead": f".ldcodec-{'0' * 16}.tmp",
        "held": f".ldcodec-{'1' * 16}.tmp",
        "fresh": f".ldcodec-{'2' * 16}.tmp",
        "longer": f".ldcodec-{'3' * 17}.tmp",
        "other": "notes.tmp",
    }
    for kind, name in names.items():
        (archive / name).write_bytes(b"begun")
        if kind != "fresh":
            os.utime(archive / name, (old, old))
    with open(archive / names["held"], "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert call("compress", "photos", "-o", "archive", *EXACT)[0] == 0
    left = {kind for kind, name in names.items() if (archive / name).exists()}
    assert left == {"held", "fresh", "longer", "other"}


def test_a_writer_holds_its_unfinished_file(tmp_path: Path) -> None:
    target = str(tmp_path / "a.ldc")
    unfinished = unfinished_path(target)
    with paths.created(target, unfinished=unfinished) as stream:
        stream.write(b"half")
        stream.flush()
        os.utime(unfinished, (0, 0))
        paths.remove_abandoned(str(tmp_path))
        assert Path(unfinished).exists()
    assert Path(target).read_bytes() == b"half"
