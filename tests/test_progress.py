"""Long pictures show how far they are where there is a terminal, and the library says nothing."""

import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import tqdm
from PIL import Image

from ldcodec.cli import Stopped
from ldcodec.codec import decode_array, encode
from ldcodec.decoder import tiles
from ldcodec.decoder.progress import watched_by
from ldcodec.decoder.request import Request
from ldcodec.nets.model import Model
from tests.commands import TINY, Call
from tests.pictures import texture
from tests.test_cli import Terminal

pytestmark = pytest.mark.usefixtures("small_parts")  # 6 tiles and 2 slices

LONG = texture(200, 300)
SETTINGS = ["--quality", "50", "--no-fallback", *TINY]


Shown = Callable[..., tuple[int, list[str]]]  # a command line → exit code, all that was ever in the line of the bar


@pytest.fixture
def shown(call: Call, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Run a command line with a terminal as standard error, in a folder with long.png and long.ldc."""
    Image.fromarray(LONG).save("long.png")
    assert call("compress", "long.png", *SETTINGS)[0] == 0

    def run(*arguments: str) -> tuple[int, list[str]]:
        with monkeypatch.context() as patch:
            terminal = Terminal()
            patch.setattr(sys, "stderr", terminal)
            # A fast machine would be done before the bar is drawn again.
            patch.setattr(tqdm.tqdm, "__init__", partialmethod(tqdm.tqdm.__init__, mininterval=0))
            code = call(*arguments)[0]
            return code, terminal.getvalue().split("\r")

    return run


def watch(work: Callable[[], Any]) -> Counter[tuple[str, int]]:
    """How often each kind of work, with the number of its parts, began and went on."""
    told: Counter[tuple[str, int]] = Counter()

    def begun(part: str, count: int) -> Callable[[], None]:
        told[part, 0] += 1
        return lambda: told.update([(part, count)])

    with watched_by(begun):
        work()
    return told


def has(lines: list[str], *words: str) -> bool:
    return any(all(word in line for word in words) for line in lines)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("compress", "long.png", *SETTINGS), ("0/2", "slice")),
        (("compress", "long.png", "--rate", "2", *TINY), ("0/15", "sample")),
        (("compress", "long.png", "--psnr", "30", *TINY), ("attempt 2: ", "sample")),
        (("compress", "long.png", "--psnr", "30", *TINY), ("0/5", "tile")),
        (("decompress", "long.ldc"), ("0/5", "tile")),
        (("decompress", "long.ldc", "--region", "0,0,200,100"), ("0/2", "tile")),
        (("decompress", "long.ldc", "--scale", "1/2"), ("0/2", "slice")),
    ],
)
def test_a_long_picture_shows_its_parts(shown: Shown, command: tuple[str, ...], words: tuple[str, ...]) -> None:
    code, lines = shown(*command, "-f")
    assert code == 0 and has(lines, *words), lines
    assert lines[-1] == ""
    assert shown(*command, "-f", "-q") == (0, [""])


def test_steps_are_shown_where_there_are_no_tiles(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "is_large", lambda width, height: False)
    code, lines = shown("decompress", "long.ldc", "-f", "--steps", "3")
    assert code == 0 and has(lines, "0/3", "step")


def test_many_pictures_have_one_bar(shown: Shown) -> None:
    Image.fromarray(LONG).save("other.png")
    Path("there").mkdir()
    code, lines = shown("compress", "long.png", "other.png", "-o", "there", *SETTINGS)
    assert code == 0 and has(lines, "0/2", "picture") and not has(lines, "slice")
    code, lines = shown("compress", "-r", "long.png", "-o", "folder", "--jobs", "1", *SETTINGS)
    assert code == 0 and has(lines, "1 files") and not has(lines, "slice")


def test_one_part_needs_no_bar(shown: Shown) -> None:
    assert shown("decompress", "long.ldc", "-f", "--region", "0,0,50,50") == (0, [""])


def test_who_stops_gets_a_line_without_a_bar(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(tiles, "reverse_diffusion", stop)
    code, lines = shown("decompress", "long.ldc", "-f")
    assert (code, lines[-1]) == (130, "ldcodec: error: stopped by SIGINT\n") and has(lines, "0/5")


def test_an_error_is_a_line_of_its_own(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tiles, "reverse_diffusion", fail)
    code, lines = shown("decompress", "long.ldc", "-f")
    assert code == 1 and "ldcodec: error: long.ldc: not enough memory\n" in lines and lines[-1] == ""


def test_every_part_is_told(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(LONG, quality=50, model=model, fallback=False)
    assert watch(lambda: encode(LONG, quality=50, model=model)) == {("slice", 0): 1, ("slice", 2): 2}
    assert watch(lambda: decode_array(data, model=model)) == {("tile", 0): 1, ("tile", 5): 5}
    small = Request(scale=4)
    assert watch(lambda: decode_array(data, model=model, request=small)) == {("slice", 0): 1, ("slice", 2): 2}
    searched = watch(lambda: encode(LONG, psnr=30, model=model))
    assert searched["sample", 0] == 2 and searched["sample", 15] == 30
    assert searched["slice", 2] == 2 * searched["slice", 0] and searched["tile", 5] == 5 * searched["slice", 0]
    assert capfd.readouterr() == ("", "")


def test_steps_are_told_beside_who_asked_for_them(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(LONG, quality=50, model=model, fallback=False)
    monkeypatch.setattr(tiles, "is_large", lambda width, height: False)
    asked: list[int] = []
    told = watch(lambda: decode_array(data, model=model, steps=3, realism=1, on_step=asked.append))
    assert (told, asked) == ({("step", 0): 1, ("step", 3): 3}, [1, 2, 3])
