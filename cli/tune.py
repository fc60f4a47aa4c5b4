"""infoae tune."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infoae.cli.inputs import (
    ClassesOption,
    DataOption,
    FeaturesOption,
    data_settings,
    features_settings,
    recipe_of,
)
from infoae.cli.options import (
    ADDRESS_HELP,
    JsonOption,
    RunsOption,
    SetOption,
    at_most,
    echo,
    print_json,
    refuse_changes,
    warn_unused,
)
from infoae.cli.train import Wandb
from infoae.limits import COUNT, MAX_RUNS, MAX_THREADS

if TYPE_CHECKING:
    from infoae.tune.record import Sweep


MAY_CHANGE = {"resume", "trials", "data_root", "wandb", "address", "runs", "as_json"}
"""Options of a sweep that goes on."""


class Search(StrEnum):
    """Where the values of a trial come from."""

    random = "random"
    grid = "grid"
    optuna = "optuna"


class Scheduler(StrEnum):
    """Whether trials that lag are stopped early."""

    asha = "asha"
    none = "none"


class Metric(StrEnum):
    """The score of a trial, without labels."""

    mutual_information = "mutual_information"
    recovered = "recovered"


def tune(
    context: typer.Context,
    config: Annotated[
        str, typer.Option("--config", help="Recipe that the trials vary: a name of infoae config list, or a YAML file.")
    ] = "mnist",
    settings: SetOption = None,
    data: DataOption = None,
    data_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that a data set lies in; with --resume, if it has moved."),
    ] = None,
    labels: ClassesOption = None,
    features: FeaturesOption = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, callback=at_most(MAX_RUNS), help="Number of trials; default 20. A grid tries all of its points."
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Search space: a name or a YAML file (docs/tune.md). Default: the λs of the recipe's method.",
        ),
    ] = None,
    search: Annotated[
        Search, typer.Option(help=r"How values are chosen; optuna needs: pip install 'infoae\[optuna]'.")
    ] = Search.random,
    scheduler: Annotated[
        Scheduler,
        typer.Option(help="When trials are stopped; asha stops the worse ones early, none trains all to the end."),
    ] = Scheduler.asha,
    metric: Annotated[
        Metric, typer.Option(help="Measure to maximise, at a trial's best checkpoint. Neither uses a label.")
    ] = Metric.mutual_information,
    name: Annotated[str | None, typer.Option(help="Name of the sweep's folder; default: recipe and time.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sweep to go on with; --trials may ask for more.")
    ] = None,
    wandb: Annotated[
        Wandb, typer.Option(help="Track with Weights & Biases, a run a trial, grouped by sweep.")
    ] = Wandb.disabled,
    nodes: Annotated[
        int | None, typer.Option(min=1, max=COUNT, help="Nodes of a Ray cluster for each trial; default 1.")
    ] = None,
    workers_per_node: Annotated[
        int | None,
        typer.Option(min=1, callback=at_most(MAX_THREADS), help="Workers on each node, for each trial; default 1."),
    ] = None,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT", help=ADDRESS_HELP)] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Search for the λs, or any other setting, of the highest score.

    Each trial is a run of its own; the best one's recipe is written to best.yaml. Ctrl-C stops; --resume goes on.
    """
    from infoae.cluster import connect
    from infoae.config import recipes
    from infoae.tune import record as records
    from infoae.tune import sweep as sweeping

    if resume is not None:
        refuse_changes(context, MAY_CHANGE, "a sweep", "--trials and --data-root")
        sweep, folder = records.load(resume, runs)
        sweep = sweeping.extended(sweeping.moved(sweep, data_root), trials)
        several = sweep.nodes > 1 or sweep.workers_per_node > 1
        request = connect.request(
            str(sweep.nodes) if several else None, sweep.workers_per_node if several else None, address
        )
    else:
        request = connect.request(None if nodes is None else str(nodes), workers_per_node, address)
        config = recipe_of(context, config, features)
        given = data_settings(data, data_root, labels) | features_settings(features)
        overrides = [
            *(settings or []),
            *(recipes.override(key, value) for key, value in given.items() if value is not None),
        ]
        sweep, folder = sweeping.planned(
            config,
            overrides,
            space,
            (search.value, scheduler.value, metric.value),
            trials,
            request,
            runs,
            name,
        )
        warn_unused(sweep.config, overrides)
    finished = sweeping.run(sweep, folder, request, wandb.value)
    result = sweep.result(folder)
    best = sweep.best()
    if best is not None:
        result |= {
            "best_config": str(records.write_best(sweep, best, folder)),
            "figure": str(records.write_figure(sweep, best, folder)),
        }
    if as_json:
        print_json(result)
    else:
        if best is not None:
            _print_table(sweep, folder)
            echo(
                f"train it: {shlex.join(['infoae', 'train', '--config', result['best_config']])}",
                f"look at it: {result['figure']}",
            )
        if not finished:
            where = [] if request.address is None else ["--address", request.address]
            where += [] if runs == Path("runs") else ["--runs", str(runs)]
            command = shlex.join(["infoae", "tune", "--resume", resume or sweep.name, *where])
            echo(f"not all trials have ended; go on with: {command}")
    if not finished:
        raise typer.Exit(130)


def _print_table(sweep: Sweep, folder: Path) -> None:
    from infoae.reporting.tables import print_table

    rows = []
    for rank, trial in enumerate(sweep.ranked(), start=1):
        values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.values.values()]
        score = "-" if trial.score is None else f"{trial.score:.4g}"
        ended = "" if trial.status == "finished" else f" {trial.status}"
        rows.append([str(rank), f"{trial.number:03d}", *values, score, f"{len(trial.epochs)}{ended}"])
    title = f"score: {sweep.metric.replace('_', ' ')}"
    print_table(title, ["rank", "trial", *sweep.space, "score", "epochs"], rows)
    echo(f"the trials are runs: {folder / sweep.name}-<trial>")
    for trial in sweep.trials:
        if trial.message is not None:
            echo(f"{trial.run} {trial.status}: {trial.message}")
