"""The entry point: the commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
from contextlib import suppress
from typing import Annotated

import typer

import mixtools
from mixtools.cli.emulate import emulate
from mixtools.cli.features import features
from mixtools.cli.fit import fit
from mixtools.cli.help import Command, Group
from mixtools.cli.loudnorm import loudnorm
from mixtools.cli.mix import mix
from mixtools.cli.report import say
from mixtools.cli.train import train
from mixtools.cli.transfer import transfer
from mixtools.errors import ExitStatus, MixtoolsError

PROGRAM = "mixtools"

app = typer.Typer(
    name=PROGRAM,
    cls=Group,
    help="Mix multitrack audio, and show the work.",
    no_args_is_help=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for each in (fit, emulate, mix, transfer, features, loudnorm):
    app.command(cls=Command)(each)
app.add_typer(train, name="train")

_UsageError, _ClickException = typer.BadParameter.__mro__[1:3]

_DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


def _version(asked: bool) -> None:
    if asked:
        print(f"mixtools {mixtools.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: list[str] | None = None) -> ExitStatus:
    """Run a command line (`sys.argv` unless given), say what went wrong if anything did, and give the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = typer.main.get_command(app)
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
        command.main(arguments, prog_name=PROGRAM)
    try:
        # Not command.main: it has ideas of its own about interrupts and broken pipes.
        with command.make_context(PROGRAM, list(arguments), obj=shlex.join([PROGRAM, *arguments])) as context:
            command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        return ExitStatus.DONE
    except typer.Exit as done:
        return ExitStatus(done.exit_code)
    except MixtoolsError as error:
        say(str(error))
        return error.status
    except _UsageError as error:
        name = error.ctx.command_path.partition(" ")[2] if error.ctx else ""
        say(f"{name + ': ' if name else ''}{_one_line(error.format_message())}")
        return ExitStatus.BAD_PARAMETERS
    except _ClickException as error:
        say(_one_line(error.format_message()))
        return ExitStatus.BAD_PARAMETERS
    except (KeyboardInterrupt, typer.Abort) as interrupt:
        say(str(interrupt) or "interrupted; nothing was written")
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return ExitStatus.DONE
    except MemoryError:
        say("there is not enough memory for this; give fewer or shorter stems at once")
        return ExitStatus.FAILED
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        say(f"{error.filename or 'stdout'}: could not be written: {error.strerror}")
        _forget_stdout()
        return ExitStatus.FAILED


def _forget_stdout() -> None:
    """Nobody reads it, or it is full: what is left in its buffer must not raise again at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def main() -> None:
    """The console script."""
    with suppress(AttributeError):
        # A name that stdout has no letters for is shown somehow, rather than not at all.
        sys.stdout.reconfigure(errors="backslashreplace")
    with suppress(ValueError, AttributeError):
        # So that being told to stop cleans up like an interrupt does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = run()
    if status is ExitStatus.INTERRUPTED:
        # All is cleaned up by now. A library that was interrupted half way might still complain while Python ends.
        with suppress(AttributeError, OSError):
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
