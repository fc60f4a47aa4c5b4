"""Options that several verbs share, spelled once."""

from __future__ import annotations

import json
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from infoae.errors import printable
from infoae.gpu import Device, Provider
from infoae.limits import SEED, Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from infoae.config import Config


ADDRESS_HELP = (
    "Ray cluster to use. Default: beside --nodes or --workers-per-node what RAY_ADDRESS says, else this machine."
)


class CheckpointChoice(StrEnum):
    """Which checkpoint of a run."""

    best = "best"
    newest = "newest"


RunArgument = Annotated[str, typer.Argument(metavar="[RUN]", help="Run to use: its folder, or its name under --runs.")]
RunsOption = Annotated[Path, typer.Option("--runs", envvar="INFOAE_RUNS", help="Folder that holds all runs.")]
CheckpointOption = Annotated[
    CheckpointChoice,
    typer.Option("--checkpoint", help="Which checkpoint: best has the highest score, newest was saved last."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a configuration key, as optim.learning_rate=1e-4. Repeatable."
    ),
]
MovedDataOption = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="Folder that the run's data set lies in now, if it has moved."),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute; auto is a GPU if there is one.")]
ProviderOption = Annotated[
    Provider,
    typer.Option(
        "--provider",
        help="How a GPU computes: operation by operation; each batch as one CUDA graph; or by TensorRT, whose engines "
        "are kept in infoae's cache. Refused where it cannot do all.",
    ),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Category names: a text file with a name a line, or JSON, a list or an object from number to name.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout, and nothing else there.")
]

# Of the verbs that use a bundle.
ModelOption = Annotated[
    Path, typer.Option("--model", metavar="BUNDLE", help="Model to use: the folder that `infoae export --onnx` wrote.")
]
PicturesOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR|FILE.npz",
        help="Where to write: a new folder of <category>/<number>.png and index.csv, or an .npz file.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=SEED, help="Random seed; the same one gives the same images.")
]


class Command(TyperCommand):
    """A verb whose paths may begin with ~, which a shell leaves alone in --out=~/x and in variables."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, with every text that begins with a home folder in full."""
        rest = super().parse_args(ctx, args)
        ctx.params = {name: _at_home(value) for name, value in ctx.params.items()}
        return rest


def _at_home(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_at_home(each) for each in value)
    if isinstance(value, str | Path) and re.match(r"~[\w.-]*(/|$)", str(value)):
        return type(value)(os.path.expanduser(value))  # noqa: PTH111 (Path's raises where there is no home)
    return value


def at_most(limit: Limit) -> Callable[[Any], Any]:
    """Return what refuses an option's value that is over a limit."""

    def checked(value: Any) -> Any:
        if value is not None and value > limit:
            raise typer.BadParameter(f"{value} is more than {limit}")
        return value

    return checked


def echo(*lines: object, err: bool = False) -> None:
    """Print each as one line, whatever names of files in it hold."""
    for line in lines:
        typer.echo(printable(str(line)), err=err)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json.dumps(value, allow_nan=False))


def warn_unused(config: Config, keys: Iterable[str]) -> None:
    """Say on stderr which of the dotted keys that were asked for change nothing in this configuration."""
    from infoae.config.unused_settings import unused

    for sentence in unused(config, keys):
        echo(f"warning: {sentence}", err=True)


def refuse_changes(context: typer.Context, may_change: Collection[str], what: str, only: str) -> None:
    """Raise UsageError if an option was given that cannot change when `what` is resumed; `only` are those that can."""
    from infoae.errors import UsageError

    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name, flag in flags.items():
        source = context.get_parameter_source(str(name))
        if name not in may_change and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{flag} cannot change when {what} is resumed; only {only} can")
