"""What the verbs that read images share: their options, and what they say of the inputs."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infoae.cli.options import echo
from infoae.limits import COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infoae.data.decode import DecodeOptions

_INPUTS = (
    "Images, or sounds: files, folders (and all below), glob patterns, .npy, .npz, IDX, .parquet, .tar or .zip files, "
    "lists (.txt); - reads a list of files from stdin."
)
InputsArgument = Annotated[list[str], typer.Argument(metavar="INPUT...", help=_INPUTS, show_default=False)]
ClassifiedArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help=f"{_INPUTS} Or s3://bucket/path, gs://bucket/path, file:///folder: all below it in an object store.",
        show_default=False,
    ),
]
ColumnOption = Annotated[
    str | None,
    typer.Option(
        "--column", metavar="NAME", help="Parquet column or .npz array that holds the images, where there are several."
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH|NAME",
        help="What to train on: pictures or sounds (a folder, pattern, list, .tar, .zip, .parquet, .npy or .npz file), "
        "what infoae convert wrote (a folder, or s3://bucket/path), or a data set: mnist, fashion-mnist, kmnist, "
        "emnist, usps, svhn, cifar10.",
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="folders|FILE.csv",
        help="Classes of the pictures, for evaluation alone: the folders they lie in, or a table with columns path "
        "and label.",
    ),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="FILE.onnx|torchvision:NAME|FILE.npy",
        help="Frozen encoder to train on: an ONNX file, a network of torchvision, or features that lie in a file. "
        "Without --config, recipe photos-features.",
    ),
]
DEFAULT_RECIPE, AUTO_RECIPE, FEATURES_RECIPE = "mnist", "auto", "photos-features"
"""The recipe that --features trains where no other is given."""
MaxErrorsOption = Annotated[
    int | None,
    typer.Option(
        "--max-errors", min=0, max=COUNT, help="Stop when more images than this are unreadable. Default: never stop."
    ),
]
NullOption = Annotated[
    bool, typer.Option("--null", "-0", help="Names in the list on stdin end with NUL, as those of find -print0 do.")
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW-HIGH",
        help="Values that are black and white in images of more than 8 bits, as 0-4095 of a 12-bit camera. "
        "Default: all that their bits can hold.",
    ),
]
BackgroundOption = Annotated[
    str,
    typer.Option("--background", metavar="COLOUR", help="Colour behind transparency: a name as white, or #rrggbb."),
]


def decode_options(value_range: str | None, background: str) -> DecodeOptions:
    """Return what --range and --background say. Raises UsageError."""
    from PIL import ImageColor

    from infoae.data.decode import DecodeOptions
    from infoae.errors import UsageError

    limits = None
    if value_range is not None:
        match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value_range)
        limits = (int(match[1]), int(match[2])) if match else (0, 0)
        if not limits[0] < limits[1] <= 65535:
            raise UsageError(f"--range {value_range}: give two values of 0 to 65535, the smaller first, as 0-4095")
    colour: tuple[int, ...] = ()
    with suppress(ValueError):
        colour = ImageColor.getrgb(background)
    if len(colour) != 3:  # four are of one that is transparent itself
        raise UsageError(f"--background {background}: give the name of a colour, as white, or #rrggbb")
    return DecodeOptions(limits, (colour[0], colour[1], colour[2]))


def data_settings(data: str | None, data_root: Path | None, labels: str | None) -> dict[str, object]:
    """Return the configuration keys of --data, --data-root and --labels. Raises UsageError for data that is nowhere."""
    import glob
    from typing import get_args

    from infoae.addresses import is_address
    from infoae.config.kinds import DataName
    from infoae.errors import UsageError

    if data is None or data in get_args(DataName):
        return {"data.name": data, "data.root": data_root, "data.labels": labels}
    if data_root is not None:
        raise UsageError(f"--data {data} says where the pictures are: leave --data-root out")
    if is_address(data):
        return {"data.name": "shards", "data.uri": data, "data.labels": labels}
    path = Path(data)
    if not data or not (path.exists() or glob.glob(data, recursive=True)):  # noqa: PTH207
        names = ", ".join(name for name in get_args(DataName) if name not in ("shards", "files"))
        raise UsageError(f"--data {data}: no such file or folder, and no data set: these are {names}")
    kind = "shards" if any((path / "train").glob("*.npy")) and (path / "test").is_dir() else "files"
    return {"data.name": kind, "data.root": data, "data.labels": labels}


def features_settings(features: str | None, download: bool = False) -> dict[str, object]:
    """Return the configuration keys of --features; `download` is --download, which torchvision's weights may need."""
    if features is None:
        return {}
    from infoae.config.features import TORCHVISION

    fetches = download and features.startswith(TORCHVISION)
    return {
        "features.encoder": features,
        "neighbours.source": "given",
        "features.download": True if fetches else None,
    }


def recipe_of(context: typer.Context, config: str, features: str | None, data: str | None = None) -> str:
    """Return the recipe: --config, or what fits --features or the pictures of --data where it was not given."""
    from typing import get_args

    from infoae.config.kinds import DataName

    source = context.get_parameter_source("config")
    if source is None or source.name != "DEFAULT":
        return config
    if features is not None:
        return FEATURES_RECIPE
    return config if data is None or data in get_args(DataName) else AUTO_RECIPE


def tell_of_inputs(passed_over: Mapping[str, int], peak: int | None, value_range: str | None) -> None:
    """Say on stderr what was passed over, and if 16-bit images, whose largest value is `peak`, look like 12 bits."""
    from infoae.data.selection import told

    if passed_over:
        echo(f"passed over, for they are no images: {told(passed_over)}", err=True)
    if peak is not None and peak < 4096 and value_range is None:
        echo(
            f"note: no value of the 16-bit images is above {peak}: they come out nearly black. If a camera of 12 bits "
            "took them, give --range 0-4095",
            err=True,
        )
