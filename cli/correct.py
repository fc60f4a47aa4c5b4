"""infoae correct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infoae.cli.inputs import ColumnOption
from infoae.cli.options import JsonOption, MovedDataOption, RunsOption, echo, print_json


def correct(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run to correct: its folder, or its name in --runs.")],
    corrections: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="What is wrong: corrections.json, as the page of infoae gallery saves."),
    ],
    pictures: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that the paths in FILE start from. Default: the current one.")
    ] = Path(),
    column: ColumnOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the new run; default: the old one's, and the time.")] = None,
    data_root: MovedDataOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Make a new run of an old one: categories merged, split and named, pictures put where they belong.

    The encoder stays, the classifier learns again, in seconds. The old run stays as it is.
    """
    from infoae.correcting.correct import correct as corrected
    from infoae.gallery import corrections as given
    from infoae.runs.run import Run

    found = corrected(Run.open(run, runs), given.read(corrections), pictures, name, data_root, column)
    if as_json:
        print_json(found.to_dict())
        return
    echo(*found.described())
    echo(f"run {found.run.path}; the old one is as it was. Use it: {found.run.command('export', '--onnx')}")
