"""infoae reproduce."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from infoae.cli.options import JsonOption, RunsOption, SetOption, print_json, warn_unused


def reproduce(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="Recipe: a name of infoae config list, or a YAML file.")
    ],
    seeds: Annotated[str, typer.Option(help="Seeds to train, as in 0-9 or 0,3,7.")] = "0-9",
    settings: SetOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the results; default: results/CONFIG.")
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Train a recipe on several seeds, and report mean, deviation and worst.

    Each seed's result is a file; repeat the command to go on after an interruption, or with more seeds.
    """
    from infoae.config import recipes
    from infoae.reproduce.seeds import MEASURES, parse_seeds, run_seeds
    from infoae.reproduce.summary import summarize

    warn_unused(recipes.load(config, settings or []), settings or [])
    wanted = parse_seeds(seeds)
    recipe = Path(config).stem
    folder = out or Path("results") / recipe
    results = list(run_seeds(config, settings or [], wanted, folder, runs, lambda line: typer.echo(line, err=as_json)))
    if len(results) < len(wanted):
        typer.echo(f"stopped with {len(results)} of {len(wanted)} seeds; repeat the command to go on", err=True)
        raise typer.Exit(130)
    extra = [argument for setting in settings or [] for argument in ("--set", setting)]
    command = shlex.join(["infoae", "reproduce", config, "--seeds", seeds, *extra])
    summary = summarize(command, recipe, results, folder)
    if as_json:
        print_json(summary.to_dict())
        return
    for name, statistic in summary.measures.items():
        values = ", ".join(f"{each} {value:.4f}" for each, value in asdict(statistic).items())
        typer.echo(f"{MEASURES[name]}: {values}")
    typer.echo(f"results: {folder}/summary.md, {folder}/seeds.png")
