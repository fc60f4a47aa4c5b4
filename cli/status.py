"""infoae status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infoae.cli.options import JsonOption, RunArgument, RunsOption, echo, print_json

if TYPE_CHECKING:
    from infoae.runs.run import Run


def status(
    run: RunArgument = "latest",
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URI", help="Look at the run of that name in the --storage that it is trained with instead."
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Say where a run is, how fast, when it is done, and what went wrong.

    It may be asked at any time, of a run that trains, has ended or was killed; also of a result of infoae sort.
    """
    from infoae import status as statuses
    from infoae.errors import UsageError
    from infoae.runs.run import check_name
    from infoae.runs.storage import parse

    if storage is None:
        found = statuses.of_run(_found(run, runs))
    elif run == "latest":
        raise UsageError("--storage needs the name of a run: infoae status RUN --storage …")
    else:
        check_name(run)
        found = statuses.of_stored(run, parse(storage))
    if as_json:
        print_json(found.to_dict())
    else:
        echo(*found.describe())


def _found(run: str, runs: Path) -> Run:
    """Find a run, or that of a result of infoae sort. Raises InfoAEError."""
    from infoae.errors import UsageError
    from infoae.runs.run import Run
    from infoae.sorting import state

    for folder in (Path(run), runs / run):
        if (folder / state.FILE).is_file() and (progress := state.read(folder)) is not None:
            return Run.open(progress.run, folder / state.RUNS)
        if (folder / "sweep.json").is_file():
            asked = f"infoae status {folder.name}-000 --runs {folder}"
            raise UsageError(f"{folder} is a sweep of infoae tune: for one of its trials, {asked}")
    return Run.open(run, runs)
