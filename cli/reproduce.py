"""infoae reproduce."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from infoae.cli.inputs import ClassesOption, DataOption, FeaturesOption, data_settings, features_settings
from infoae.cli.options import JsonOption, RunsOption, SetOption, echo, print_json, warn_unused


def reproduce(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="Recipe, a name of infoae config list, or table, such as table1; or a YAML file of either.",
        ),
    ],
    seeds: Annotated[str, typer.Option(help="Seeds to train, as in 0-9 or 0,3,7.")] = "0-9",
    settings: SetOption = None,
    data: DataOption = None,
    data_root: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that a data set lies in.")] = None,
    labels: ClassesOption = None,
    features: FeaturesOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Of a table: only its budget quick, on the first seed.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the results; default: results/CONFIG, or results/CONFIG-quick."),
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Train a recipe, or every row of a table, on several seeds, and report mean, deviation and worst.

    Each seed's result is a file; repeat the command to go on after an interruption, or with more seeds.
    """
    from infoae.config import recipes
    from infoae.errors import UsageError
    from infoae.reproduce import comparison, tables
    from infoae.reproduce.seeds import MEASURES, parse_seeds, run_seeds
    from infoae.reproduce.summary import summarize

    wanted, name, changes = parse_seeds(seeds), Path(config).stem, list(settings or [])
    extra = [argument for setting in changes for argument in ("--set", setting)]
    options = {"--data": data, "--data-root": data_root, "--labels": labels, "--features": features}
    extra += [word for option, value in options.items() if value is not None for word in (option, str(value))]
    extra += ["--quick"] * quick
    given = data_settings(data, data_root, labels) | features_settings(features)
    changes += [recipes.override(key, value) for key, value in given.items() if value is not None]
    command = shlex.join(["infoae", "reproduce", config, "--seeds", seeds, *extra])
    folder = out or Path("results") / (f"{name}-{tables.QUICK}" if quick else name)

    def say(line: str) -> None:
        echo(line, err=as_json)

    table = tables.load(config)
    if table is None:
        if quick:
            raise UsageError(f"--quick is of tables ({', '.join(tables.available())}); {config} is a recipe")
        warn_unused(recipes.load(config, changes), changes)
        results = list(run_seeds(config, changes, wanted, folder, runs, say))
        _stop_unless_done(len(results), len(wanted), "seeds")
        summary = summarize(command, name, results, folder)
        if as_json:
            print_json(summary.to_dict())
            return
        for measure, statistic in summary.measures.items():
            values = ", ".join(f"{each} {value:.4f}" for each, value in asdict(statistic).items())
            echo(f"{MEASURES[measure]}: {values}")
        echo(f"results: {folder}/summary.md, {folder}/seeds.png")
        return
    entries = tables.entries(table, quick, changes)
    rows = list(comparison.train(entries, wanted[:1] if quick else wanted, command, folder, runs, say))
    _stop_unless_done(len(rows), len(entries), "rows")
    found = comparison.Comparison(command, table, rows)
    written = comparison.write(found, folder, name, runs, say)
    if as_json:
        print_json(found.to_dict())
        return
    echo(*found.to_markdown().splitlines())
    echo(f"results: {', '.join(map(str, written))}")


def _stop_unless_done(done: int, wanted: int, what: str) -> None:
    if done < wanted:
        echo(f"stopped with {done} of {wanted} {what}; repeat the command to go on", err=True)
        raise typer.Exit(130)
