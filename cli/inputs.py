"""What the verbs that read images share: their options, and what they say of the inputs."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from infoae.cli.options import echo
from infoae.limits import COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infoae.data.decode import DecodeOptions

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Images: files, folders (and all below), glob patterns, .npy, .npz, IDX, .parquet, .tar or .zip files; "
        "- reads a list of files from stdin.",
        show_default=False,
    ),
]
ColumnOption = Annotated[
    str | None,
    typer.Option(
        "--column", metavar="NAME", help="Parquet column or .npz array that holds the images, where there are several."
    ),
]
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
