"""The infoae command as it is started: how errors reach people."""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Any, TextIO

import typer

from infoae.cli import streams
from infoae.errors import InfoAEError, Notice, machine_errors, printable

ClickException: Any = typer.BadParameter.__bases__[0].__bases__[0]
"""What is wrong with a command, whether typer brings its own Click or not."""


def main() -> None:
    """Run the command; an error for people is one line on stderr and a non-zero exit, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to stop a job is to stop it tidily, as Ctrl-C does
    warnings.showwarning = _show_warning
    streams.prepare()
    try:
        with machine_errors():
            try:
                from infoae.cli.app import app  # a variable of a limit may be wrong already

                code = app(prog_name="infoae", standalone_mode=False) or 0
            finally:
                sys.stdout.flush()
        raise SystemExit(code)
    except ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            raise SystemExit(error.exit_code) from None
        path = getattr(getattr(error, "ctx", None), "command_path", "infoae")
        _fail(f"{' '.join(error.format_message().split())} (see {path} --help)", error.exit_code)
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        streams.give_up_output()
        raise SystemExit(1) from None
    except InfoAEError as error:
        streams.give_up_output()
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show what is for people as one line, and what libraries say as Python does."""
    if isinstance(message, Notice):
        typer.echo(printable(f"note: {message}"), err=True)
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _fail(message: str, exit_code: int) -> None:
    typer.echo(printable(f"error: {message}"), err=True)
    raise SystemExit(exit_code)
