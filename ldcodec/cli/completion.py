"""`ldcodec completion`: scripts that let a shell complete commands, options and file names, from click."""

import click
from click.shell_completion import get_completion_class

from ldcodec.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LDCODEC_COMPLETE"  # set by a shell that asks click for completions


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print the script that lets a shell complete ldcodec's commands, options and file names.

    \b
    bash  ldcodec completion bash > ~/.local/share/bash-completion/completions/ldcodec
    zsh   ldcodec completion zsh > ~/.zfunc/_ldcodec, with ~/.zfunc in fpath
    fish  ldcodec completion fish > ~/.config/fish/completions/ldcodec.fish
    """
    from ldcodec.cli import ldcodec

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"this version of click knows no completion for {shell}")
    click.echo(found(ldcodec, {}, "ldcodec", VARIABLE).source())
    return 0
