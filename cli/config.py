"""infoae config list | show | validate | schema."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from infoae.cli.options import Command, JsonOption, SetOption, echo, print_json, warn_unused

app = typer.Typer(help="Look at recipes and check configurations.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(metavar="NAME|FILE", help="Recipe name or YAML file.")]


@app.command("list", cls=Command)
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with infoae."""
    from infoae.config import recipes

    found = {name: _first_comment(path.read_text(encoding="utf-8")) for name, path in recipes.available().items()}
    if as_json:
        print_json(found)
        return
    for name, text in found.items():
        echo(f"{name:<14} {text}")


@app.command(cls=Command)
def show(source: Source = "mnist", settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Print a configuration with every key written out, and what happens in which epoch, as YAML comments."""
    from infoae.config import recipes

    loaded = recipes.load(source, settings or [])
    if as_json:
        print_json(loaded.settings())
        return
    from infoae.methods.schedules import schedule_of

    schedule = schedule_of(loaded)
    for line in (*_columns(list(schedule.table())), "losses and weights", *_columns(list(schedule.weights()))):
        echo(*textwrap.wrap(line, 120, initial_indent="# ", subsequent_indent="#" + 22 * " "))
    echo(*recipes.dump(loaded).splitlines())


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


@app.command(cls=Command)
def validate(source: Source, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a configuration; exit 2 and one line if something is wrong."""
    from infoae.config import recipes

    warn_unused(recipes.load(source, settings or []), settings or [])
    if as_json:
        print_json({"source": source, "valid": True})
    else:
        echo(f"{source} is valid")


@app.command(cls=Command)
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from infoae import config

    print_json(config.Config.model_json_schema())


def _first_comment(text: str) -> str:
    first = text.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("#") else ""
