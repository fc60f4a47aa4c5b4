"""infoae train."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infoae.cli.inputs import (
    AUTO_RECIPE,
    DEFAULT_RECIPE,
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
from infoae.gpu import Device
from infoae.limits import COUNT, MAX_BATCH, MAX_RUNS, MAX_THREADS, SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infoae.planning import Plan

MAY_CHANGE = {
    "resume",
    "epochs",
    "data_root",
    "wandb",
    "nodes",
    "workers_per_node",
    "address",
    "storage",
    "retries",
    "runs",
    "as_json",
}
"""Options of a run that goes on: how long, where, and who is told."""


class Precision(StrEnum):
    """The number format that training multiplies in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Wandb(StrEnum):
    """Whether Weights & Biases is told, and when."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


def train(
    context: typer.Context,
    config: Annotated[
        str,
        typer.Option(
            "--config",
            help="Recipe to train: a name of infoae config list, or a YAML file; auto, the default for pictures of "
            "--data PATH, tries those for strokes, things, textures and sound on some of them.",
        ),
    ] = DEFAULT_RECIPE,
    settings: SetOption = None,
    data: DataOption = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that a data set lies in; mnist and pictures need none.")
    ] = None,
    labels: ClassesOption = None,
    features: FeaturesOption = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Let torchvision download the data set into --data-root, or --features."),
    ] = False,
    categories: Annotated[
        str | None, typer.Option(metavar="N|auto", help="Number of categories; auto finds it.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=COUNT, help="Passes over the training images.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=SEED, help="Random seed of weights, order, noise and augmentation.")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Number format of the networks; auto is the fastest that the hardware has.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where to train; auto is a GPU if there is one.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's folder; default: recipe and time.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Run to go on with, exactly where it stopped; --epochs may change, and --data-root."
        ),
    ] = None,
    wandb: Annotated[
        Wandb, typer.Option(help="Track with Weights & Biases; offline needs no account.")
    ] = Wandb.disabled,
    global_batch: Annotated[
        int | None, typer.Option(min=2, callback=at_most(MAX_BATCH), help="Images per step, over all workers.")
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(metavar="N|N-M", help="Nodes of a Ray cluster to train on, default 1; a range grows and shrinks."),
    ] = None,
    workers_per_node: Annotated[
        int | None,
        typer.Option(
            min=1, callback=at_most(MAX_THREADS), help="Workers on each node; default: one a GPU, or one without GPUs."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help=ADDRESS_HELP),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URI", help="Where all nodes reach the run, e.g. s3://bucket/path; --runs if shared."
        ),
    ] = None,
    restarts: Annotated[
        int,
        typer.Option(
            min=1,
            callback=at_most(MAX_RUNS),
            help="Runs to train, of consecutive seeds; the one of the highest score counts.",
        ),
    ] = 1,
    retries: Annotated[
        int,
        typer.Option(
            min=0, callback=at_most(MAX_RUNS), help="How often lost workers or nodes are replaced before giving up."
        ),
    ] = 3,
    runs: RunsOption = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check config and data, print the plan, train nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the networks of a method on unlabelled images.

    Ctrl-C saves and says how to go on. One worker trains in this process; more need Ray (docs/distributed.md).
    """
    from infoae import launch
    from infoae.cluster import connect
    from infoae.config import recipes
    from infoae.errors import UsageError
    from infoae.planning import planned, resumed
    from infoae.runs.run import Run
    from infoae.runs.storage import parse

    request = connect.request(nodes, workers_per_node, address)
    store = None if storage is None else parse(storage)
    here = "auto" if request.needs_ray else None  # the workers' machines have the device asked for, or say not
    if store is not None and not request.needs_ray:
        raise UsageError("--storage is for several workers: give --nodes or --workers-per-node too")

    config = recipe_of(context, config, features, data)
    given = data_settings(data, data_root, labels) | features_settings(features, download)
    # The weights of --features alone, unless the data set is one that torchvision has, too.
    only_weights = given.get("features.download") and given["data.name"] in (None, "mnist", "shards", "files")
    given |= {
        "data.download": None if only_weights else download or None,
        "train.epochs": epochs,
        "seed": seed,
        "train.precision": precision,
        "train.device": device,
        "train.batch_size": global_batch,
    }
    overrides = [recipes.override(key, value) for key, value in given.items() if value is not None]
    overrides += [] if categories is None else [f"model.num_categories={categories}"]
    if resume is not None:
        refuse_changes(context, MAY_CHANGE, "a run", "--epochs and --data-root")
        if store is not None:
            store.fetch(Run(runs / Path(resume).name))
        plan = resumed(resume, runs, epochs, here, data_root)
    else:

        def plan_of(recipe: str, kind: Sequence[str] = ()) -> Plan:
            over = [] if categories is None else recipes.over_categories(recipe, settings or [], categories)
            return planned(recipe, [*kind, *(settings or []), *over, *overrides], runs, name, here)

        plan = plan_of(DEFAULT_RECIPE if config == AUTO_RECIPE else config)
        if config == AUTO_RECIPE and not dry_run:
            from infoae import choosing

            found = choosing.chosen(plan)
            plan = plan_of(found.recipe, found.settings)
        warn_unused(plan.config, [*(settings or []), *overrides])
    if dry_run:
        launch.check(plan, restarts, launch.Executor(request, store))
        summary = plan.summary()
        if config == AUTO_RECIPE:
            summary["recipe"] = f"{AUTO_RECIPE}: tried on some of the pictures first; what follows is of {plan.recipe}"
        print_json(summary) if as_json else echo(*(f"{key}: {value}" for key, value in summary.items()))
        return
    executor = launch.Executor(request, store, retries, wandb.value)
    if restarts == 1:
        result = launch.run(plan, executor)
    else:
        result = launch.run_restarts(plan, restarts, executor, lambda line: echo(line, err=True))
    if as_json:
        print_json(result.to_dict())
    else:
        echo(*result.describe())
    if not result.finished:
        raise typer.Exit(130)
