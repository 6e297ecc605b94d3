"""Completion, man pages and desktop files, tried with the shells, groff and shared-mime-info if they are installed."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner
from PIL import Image

import ldcodec
from ldcodec import cli
from ldcodec.cli import man
from ldcodec.cli.completion import VARIABLE
from ldcodec.decoder.request import Request
from ldcodec.nets.model import Model
from tests.commands import ROOT, environment, error_line
from tests.pictures import photo

pytestmark = pytest.mark.slow

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line in this process, with an empty home and data folder: (exit code, stdout, stderr)."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def completions(*words: str) -> list[str]:
    """What click offers for a command line whose last word is being typed."""
    shell = get_completion_class("bash")
    assert shell is not None
    found = shell(cli.ldcodec, {}, "ldcodec", VARIABLE).get_completions(list(words[:-1]), words[-1])
    return [f"{item.type},{item.value}" for item in found]


def test_commands_options_and_files_are_completed() -> None:
    assert set(completions("comp")) == {"plain,compress", "plain,completion"}
    assert "plain,--rate" in completions("compress", "--ra")
    assert completions("decompress", "--sampler", "h") == ["plain,heun"]
    for words in (("compress", "ph"), ("info", "ph"), ("compress", "-o", "ph")):
        assert completions(*words) == ["file,ph"]


def test_a_shell_that_asks_for_completions_is_answered() -> None:
    asked = environment() | {VARIABLE: "bash_complete", "COMP_WORDS": "ldcodec comp", "COMP_CWORD": "1"}
    run = [sys.executable, "-m", "ldcodec"]
    answer = subprocess.run(run, env=asked, capture_output=True, text=True, check=True).stdout
    assert set(answer.splitlines()) == {"plain,compress", "plain,completion"}


def test_completion_scripts(call: Call, tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        code, out, err = call("completion", shell)
        assert (code, err) == (0, "")
        assert f"_LDCODEC_COMPLETE={shell}_complete" in out
        if shutil.which(shell) is not None:
            (tmp_path / "script").write_text(out)
            subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_an_unknown_shell(call: Call) -> None:
    code, out, err = call("completion", "tcsh")
    assert (code, out) == (2, "")
    assert "tcsh" in error_line(err)


def test_every_command_has_a_man_page(tmp_path: Path) -> None:
    done = CliRunner().invoke(man.man, [str(tmp_path / "man1")])
    assert done.exit_code == 0, done.output
    names = {f"ldcodec-{name}.1" for name in cli.COMMANDS} | {
        "ldcodec-desktop-install.1",
        "ldcodec-desktop-uninstall.1",
    }
    assert {path.name for path in (tmp_path / "man1").iterdir()} == names | {"ldcodec.1"}
    page = (tmp_path / "man1" / "ldcodec-compress.1").read_text()
    assert page.startswith('.TH "LDCODEC\\-COMPRESS" "1"')
    assert ".TP\n\\fB\\-\\-rate BPP\\fR\nAt most this many bits per pixel." in page
    assert "\\fB\\-h, \\-\\-help\\fR" in page


def test_a_place_where_no_man_page_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(man.man, [str(tmp_path / "file" / "man1")])
    assert done.exit_code == 1
    assert re.fullmatch(r"Error: [^\n]+\n", done.output)


def test_man_pages_are_sound(tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    for name, page in man.pages():
        run = ["groff", "-man", "-Kutf8", "-Tutf8", "-ww"]
        done = subprocess.run(run, input=page, capture_output=True, encoding="utf-8", check=True)
        assert done.stderr == "", name
        text = re.sub(r"\x1b\[\d*m|.\x08", "", done.stdout)
        assert "SYNOPSIS" in text
        if name == "ldcodec":
            assert re.search(r"^ +130 +stopped by Ctrl-C", text, re.MULTILINE)  # as one types it, lines as they stand


def test_desktop_files_are_installed_and_removed(call: Call, tmp_path: Path) -> None:
    kind = tmp_path / "share" / "mime" / "packages" / "ldcodec.xml"
    thumbnailer = tmp_path / "share" / "thumbnailers" / "ldcodec.thumbnailer"
    for _ in range(2):
        assert call("desktop", "install") == (0, f"installed {kind}\ninstalled {thumbnailer}\n", "")
    assert thumbnailer.read_text().splitlines()[0] == "[Thumbnailer Entry]"
    assert call("desktop", "uninstall") == (0, f"removed {kind}\nremoved {thumbnailer}\n", "")
    assert call("desktop", "uninstall") == (0, "", "")
    assert not kind.exists()
    assert not thumbnailer.exists()


def test_no_command_shows_the_help(call: Call) -> None:
    code, out, err = call("desktop")
    assert (code, out) == (2, "")
    assert "Commands:\n  install" in err
    assert "thumbnail " not in err


def test_a_data_folder_that_is_not_absolute_counts_as_none(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "share")
    assert f"installed {tmp_path}/.local/share/mime/packages/ldcodec.xml" in call("desktop", "install")[1]


def test_the_type_is_known_to_shared_mime_info(call: Call, tmp_path: Path) -> None:
    if shutil.which("update-mime-database") is None:
        pytest.skip("shared-mime-info is not installed")
    known = tmp_path / "share" / "mime" / "globs2"
    call("desktop", "install")
    assert "50:image/x-ldc:*.ldc" in known.read_text().splitlines()
    assert b"\x8aLDC" in (tmp_path / "share" / "mime" / "magic").read_bytes()
    call("desktop", "uninstall")
    assert not known.exists() or "ldc" not in known.read_text()


@pytest.mark.slow
def test_a_thumbnail_as_a_file_manager_asks_for_it(
    call: Call, model: Model, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """The line of the .thumbnailer, run in a folder that holds a treacherous module; the target exists already."""
    import shlex

    data = ldcodec.encode(photo(320, 200), quality=60, fallback=False, model=model)
    (tmp_path / "a picture.ldc").write_bytes(data)
    (tmp_path / "ldcodec.py").write_text("raise SystemExit('not this one')")
    target = tmp_path / "thumbnail"
    target.write_bytes(b"")
    call("desktop", "install")
    lines = (tmp_path / "share" / "thumbnailers" / "ldcodec.thumbnailer").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines[1:])
    assert os.access(fields["TryExec"], os.X_OK)
    given = {"%s": "64", "%i": str(tmp_path / "a picture.ldc"), "%o": str(target)}
    run = [given.get(word, word) for word in shlex.split(fields["Exec"])]
    subprocess.run(run, cwd=tmp_path, env=environment(tiny_model_folder) | {"PYTHONPATH": str(ROOT)}, check=True)
    with Image.open(io.BytesIO(target.read_bytes())) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("PNG", (64, 40))
        preview = ldcodec.decode(data, request=Request(scale=2), model=model)
        preview.thumbnail((64, 64))
        assert np.abs(np.asarray(thumbnail).astype(int) - np.asarray(preview)).mean() < 2


def test_no_thumbnail_of_what_is_no_file_of_ours(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo().save(tmp_path / "a.ldc", "PNG")
    (tmp_path / "b.ldc").write_bytes(b"\x8aLDC\x01")
    for name in ("a.ldc", "b.ldc", "missing.ldc"):
        code, out, err = call("desktop", "thumbnail", name, "out.png")
        assert (code, out) == (1, "") and name in error_line(err)
        assert not (tmp_path / "out.png").exists()
