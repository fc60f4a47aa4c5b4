"""Options that several verbs share, spelled once."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from infoae.config import Config

RunArgument = Annotated[str, typer.Argument(metavar="[RUN]", help="Run folder, or its name under --runs.")]
RunsOption = Annotated[Path, typer.Option("--runs", envvar="INFOAE_RUNS", help="Folder of all runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a dotted config key, e.g. optim.learning_rate=1e-4. Repeatable."
    ),
]


class Device(StrEnum):
    """Where a model computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class CheckpointChoice(StrEnum):
    """Which checkpoint of a run."""

    best = "best"
    newest = "newest"


DeviceOption = Annotated[Device, typer.Option("--device", help="auto takes a GPU if there is one.")]
CheckpointOption = Annotated[
    CheckpointChoice, typer.Option("--checkpoint", help="best by the label-free score, or newest.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Names of the categories: a name on each line, or JSON, a list or an object from number to name.",
    ),
]


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json.dumps(value, allow_nan=False))


def warn_unused(config: Config, keys: Iterable[str]) -> None:
    """Say on stderr which of the dotted keys that were asked for change nothing in this configuration."""
    from infoae.config.unused_settings import unused

    for sentence in unused(config, keys):
        typer.echo(f"warning: {sentence}", err=True)


def refuse_changes(context: typer.Context, may_change: Collection[str], what: str, only: str) -> None:
    """Raise UsageError if an option was given that cannot change when `what` is resumed; `only` are those that can."""
    from infoae.errors import UsageError

    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name, flag in flags.items():
        source = context.get_parameter_source(str(name))
        if name not in may_change and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{flag} cannot change when {what} is resumed; only {only} can")
