"""The infoae command: its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from infoae.cli import (
    augment,
    cache,
    classify,
    config,
    convert,
    correct,
    doctor,
    evaluate,
    export,
    figures,
    gallery,
    generate,
    name,
    reproduce,
    sort,
    status,
    train,
    tune,
)
from infoae.cli.options import Command
from infoae.version import __version__

app = typer.Typer(
    name="infoae",
    help="Information Maximizing Autoencoder: unlabelled images in; categories, a representation and a generator out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("sort", cls=Command)(sort.sort)
app.command("convert", cls=Command)(convert.convert)
app.command("train", cls=Command)(train.train)
app.command("reproduce", cls=Command)(reproduce.reproduce)
app.command("tune", cls=Command)(tune.tune)
app.command("status", cls=Command)(status.status)
app.command("evaluate", cls=Command)(evaluate.evaluate)
app.command("figures", cls=Command)(figures.figures)
app.command("gallery", cls=Command)(gallery.gallery)
app.command("name", cls=Command)(name.name)
app.command("correct", cls=Command)(correct.correct)
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
