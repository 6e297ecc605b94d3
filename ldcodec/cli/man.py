"""Man pages of all commands, from their help: `python -m ldcodec.cli.man FOLDER`."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from ldcodec import __version__
from ldcodec.cli import ldcodec

SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def pages() -> Iterator[tuple[str, str]]:
    """(name, page in roff) of the program and of each command that is not hidden; a name is like ldcodec-compress."""
    yield from _pages(ldcodec, None)


def _pages(command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=command.name, parent=parent, **command.context_settings)
    inner = _inner(command, context)
    name = context.command_path.replace(" ", "-")
    yield name, "\n".join(_page(name, command, context, inner)) + "\n"
    for child in inner:
        yield from _pages(child, context)


def _inner(command: click.Command, context: click.Context) -> list[click.Command]:
    if not isinstance(command, click.Group):
        return []
    found = (command.get_command(context, name) for name in command.list_commands(context))
    return [child for child in found if child is not None and not child.hidden]


def _page(name: str, command: click.Command, context: click.Context, inner: list[click.Command]) -> Iterator[str]:
    yield f'.TH "{escaped(name.upper())}" "1" "" "ldcodec {escaped(__version__)}" "ldcodec"'
    short = command.short_help or command.get_short_help_str(200)
    yield from (".SH NAME", f"{escaped(name)} \\- {escaped(short.rstrip('.'))}")
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", f"\\fB{escaped(context.command_path)}\\fR {escaped(pieces)}")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.help or "")
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        yield ".SH OPTIONS"
    for names, text in records:
        yield from (".TP", f"\\fB{escaped(names)}\\fR", escaped(text) or "\\&")
    if inner:
        yield ".SH COMMANDS"
    for child in inner:
        title = f"\\fB{escaped(f'{name}-{child.name}')}\\fR(1)"
        yield from (".TP", title, escaped(child.short_help or child.get_short_help_str(200)))
    if command.epilog:
        yield ".SH NOTES"
        yield from _paragraphs(command.epilog)


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text; those behind click's mark \\b keep their lines."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = [line for line in paragraph.splitlines() if line.strip() != "\b"]
        kept = len(lines) < len(paragraph.splitlines())
        yield ".PP"
        yield from (".nf", *map(escaped, lines), ".fi") if kept else map(escaped, map(str.strip, lines))


def escaped(text: str) -> str:
    """Text in one line, escaped so that roff shows it unchanged."""
    plain = "".join(SPECIAL.get(letter, letter) for letter in text.replace("\n", " "))
    return f"\\&{plain}" if plain.startswith(".") else plain


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def man(folder: Path) -> None:
    """Write the man pages of ldcodec and its commands into FOLDER, such as ~/.local/share/man/man1."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, page in pages():
            (folder / f"{name}.1").write_text(page, encoding="utf-8")
            click.echo(folder / f"{name}.1")
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


if __name__ == "__main__":
    man()
