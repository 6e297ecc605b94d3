"""`ldcodec desktop`: the file type and the thumbnailer of .ldc files, for freedesktop.org desktops."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

import click

from ldcodec.jobs.paths import created, opened

MIME_TYPE = """\
<?xml version="1.0" encoding="UTF-8"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="image/x-ldc">
    <comment>ldcodec picture</comment>
    <magic priority="60">
      <match type="string" offset="0" value="\\x8aLDC"/>
    </magic>
    <glob pattern="*.ldc"/>
  </mime-type>
</mime-info>
"""
THUMBNAILER = """\
[Thumbnailer Entry]
TryExec={program}
Exec={command} desktop thumbnail --size %s %i %o
MimeType=image/x-ldc;
"""


@click.group(short_help="Install the file type and thumbnails on the desktop.", invoke_without_command=True)
@click.pass_context
def desktop(context: click.Context) -> None:
    """Make the desktop recognise .ldc files and show thumbnails of them, for this user."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


@desktop.command(short_help="Install file type and thumbnails.")
def install() -> int:
    """Install the type image/x-ldc and a thumbnailer in $XDG_DATA_HOME, or ~/.local/share."""
    program = sys.executable.replace("%", "%%")
    # -P: no module is imported from the folder that a file manager happens to be in.
    command = f"{shlex.quote(program)} -P -m ldcodec"
    texts = MIME_TYPE, THUMBNAILER.format(program=program, command=command)
    for path, text in zip(_paths(), texts, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with created(str(path)) as stream:
            stream.write(text.encode())
        click.echo(f"installed {path}")
    _refresh()
    return 0


@desktop.command(short_help="Remove file type and thumbnails.")
def uninstall() -> int:
    """Remove what `install` installed."""
    for path in _paths():
        with suppress(FileNotFoundError):
            path.unlink()
            click.echo(f"removed {path}")
    _refresh()
    return 0


@desktop.command(hidden=True)
@click.option("--size", type=click.IntRange(1, 4096), default=256, show_default=True, help="Of the longer side.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
def thumbnail(size: int, source: str, target: str) -> int:
    """Write a thumbnail as PNG, from a preview like that of `decompress --scale`; file managers call this."""
    from PIL import Image

    from ldcodec.pictures.guard import guarded
    from ldcodec.pillow import FORMAT

    with opened(source) as stream, guarded(source), Image.open(stream, formats=[FORMAT]) as image:
        image.thumbnail((size, size))
    with created(target) as out:
        image.save(out, "PNG")
    return 0


def _paths() -> tuple[Path, Path]:
    """The files of the type and of the thumbnailer; a relative XDG_DATA_HOME is ignored, as its standard says."""
    named = os.environ.get("XDG_DATA_HOME", "")
    home = Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"
    return home / "mime" / "packages" / "ldcodec.xml", home / "thumbnailers" / "ldcodec.thumbnailer"


def _refresh() -> None:
    """Let the desktop read its types again; without that program it does so at its next start."""
    import subprocess
    from shutil import which

    program, database = which("update-mime-database"), _paths()[0].parent.parent
    if program is not None and database.is_dir():
        done = subprocess.run([program, str(database)], capture_output=True, text=True, check=False)
        if done.returncode:
            click.echo(f"warning: {program} has failed: {' '.join(done.stderr.split())}", err=True)
