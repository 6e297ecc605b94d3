"""The command `ldcodec`: commands are imported when called, errors become one line and an exit code."""

import gc
import io
import os
import signal
import sys
from importlib import import_module
from types import FrameType

import click

from ldcodec import __version__
from ldcodec.errors import LdcodecError, one_line

COMMANDS = ("compress", "decompress", "info", "verify", "view", "export", "bench", "completion", "desktop")
EPILOG = """\b
Exit codes:
  0    everything was done
  1    a file is missing, damaged, unknown, cannot be written or meet its target; with several inputs the rest was done
  2    wrong use: options that are unknown, missing, out of range or contradictory
  3    decompress --salvage: a damaged file was restored in part
  130  stopped by Ctrl-C (143 by SIGTERM); no unfinished file is left
"""


class Stopped(BaseException):
    """A signal asked the program to end; a BaseException, so that no `except Exception` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class LazyGroup(click.Group):
    """A group whose commands live in modules ldcodec.cli.NAME, which are imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"ldcodec.cli.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="ldcodec", message="%(prog)s %(version)s")
@click.pass_context
def ldcodec(context: click.Context) -> None:
    """Store photographs in small files and bring them back."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may hold characters that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    code = run(arguments)
    # At its end the interpreter looks for cycles among all objects, again and again: 55 ms. Whatever they hold is given
    # back with the process.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; errors are printed as one line. Returns the exit code."""
    try:
        code = ldcodec.main(arguments, prog_name="ldcodec", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "ldcodec"
        return _complain(f"{error.format_message()} (see {path} --help)", error.exit_code)
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except (LdcodecError, Stopped) as error:
        return _complain(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _complain("stopped", 130)
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        _drop_output()
        return _complain(error.strerror or str(error), 1)
    except MemoryError:
        return _complain("not enough memory", 1)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return _complain("this needs torch, which is not installed: pip install torch", 1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _complain(message: str, exit_code: int) -> int:
    click.echo(f"ldcodec: error: {one_line(' '.join(message.split()))}", err=True)
    return exit_code


def _drop_output() -> None:
    """Discard what is still buffered for standard output, so that the interpreter's exit does not fail on it."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
