"""infoae config list | show | validate | schema."""

from __future__ import annotations

from typing import Annotated

import typer

from infoae.cli.options import JsonOption, SetOption, print_json, warn_idle

app = typer.Typer(help="Look at recipes and check configurations.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(metavar="NAME|FILE", help="Recipe name or YAML file.")]


@app.command("list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with infoae."""
    from infoae.config import recipes

    found = {name: _first_comment(path.read_text(encoding="utf-8")) for name, path in recipes.recipes().items()}
    if as_json:
        print_json(found)
        return
    for name, text in found.items():
        typer.echo(f"{name:<14} {text}")


@app.command()
def show(source: Source = "mnist", settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Print a configuration with every key written out."""
    from infoae.config import recipes

    loaded = recipes.load(source, settings or [])
    if as_json:
        print_json(loaded.model_dump(mode="json"))
    else:
        typer.echo(recipes.dump(loaded), nl=False)


@app.command()
def validate(source: Source, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a configuration; exit 2 and one line if something is wrong."""
    from infoae.config import recipes

    warn_idle(recipes.load(source, settings or []), settings or [])
    if as_json:
        print_json({"source": source, "valid": True})
    else:
        typer.echo(f"{source} is valid")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from infoae import config

    print_json(config.Config.model_json_schema())


def _first_comment(text: str) -> str:
    first = text.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("#") else ""
