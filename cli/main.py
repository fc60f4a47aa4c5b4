"""The infoae command: its verbs, and how errors reach people."""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer

from infoae.cli import (
    augment,
    cache,
    classify,
    config,
    convert,
    doctor,
    evaluate,
    export,
    figures,
    generate,
    name,
    reproduce,
    streams,
    train,
    tune,
)
from infoae.cli.options import Command, echo
from infoae.errors import InfoAEError, Notice, machine_errors
from infoae.version import __version__

ClickException: Any = typer.BadParameter.__bases__[0].__bases__[0]
"""What is wrong with a command, whether typer brings its own Click or not."""

app = typer.Typer(
    name="infoae",
    help="Information Maximizing Autoencoder: unlabelled images in; categories, a representation and a generator out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("convert", cls=Command)(convert.convert)
app.command("train", cls=Command)(train.train)
app.command("reproduce", cls=Command)(reproduce.reproduce)
app.command("tune", cls=Command)(tune.tune)
app.command("evaluate", cls=Command)(evaluate.evaluate)
app.command("figures", cls=Command)(figures.figures)
app.command("name", cls=Command)(name.name)
app.command("export", cls=Command)(export.export)
app.command("classify", cls=Command)(classify.classify)
app.command("generate", cls=Command)(generate.generate)
app.command("augment", cls=Command)(augment.augment)
app.add_typer(config.app, name="config")
app.command("cache", cls=Command)(cache.cache)
app.command("doctor", cls=Command)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infoae {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the verb."""


def main() -> None:
    """Run the command; an error for people is one line on stderr and a non-zero exit, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to stop a job is to stop it tidily, as Ctrl-C does
    warnings.showwarning = _show_warning
    streams.prepare()
    try:
        with machine_errors():
            try:
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
        echo(f"note: {message}", err=True)
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _fail(message: str, exit_code: int) -> None:
    echo(f"error: {message}", err=True)
    raise SystemExit(exit_code)
