"""infoae gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infoae.cli.inputs import ColumnOption
from infoae.cli.options import (
    CheckpointChoice,
    CheckpointOption,
    DeviceOption,
    JsonOption,
    MovedDataOption,
    RunArgument,
    RunsOption,
    echo,
    print_json,
)
from infoae.gpu import Device


def gallery(
    run: RunArgument = "latest",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Pictures to show, anything that classify takes. Default: those that the run was given, or the test "
            "images of its data set.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The page. Default: gallery.html in the run's folder.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Bundle that classifies pictures dropped on the page. Default: bundle in the run's folder, if it is "
            "there.",
        ),
    ] = None,
    column: ColumnOption = None,
    checkpoint: CheckpointOption = CheckpointChoice.best,
    data_root: MovedDataOption = None,
    device: DeviceOption = Device.AUTO,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Write a page to look at a run's categories, name them and correct them: one HTML file that needs no network."""
    from infoae.data.selection import told
    from infoae.gallery.page import write
    from infoae.runs.run import Run

    done = write(
        Run.open(run, runs),
        out,
        data=data,
        column=column,
        bundle=bundle,
        which=checkpoint.value,
        data_root=data_root,
        device=device.value,
        say=lambda text: echo(text, err=True),
    )
    if done.passed_over:
        echo(f"not shown: {told(done.passed_over)}", err=True)
    if as_json:
        print_json(
            {
                "page": str(done.page),
                "pictures": None if done.folder is None else str(done.folder),
                "num_pictures": done.num_pictures,
                "category_sizes": done.category_sizes,
                "passed_over": done.passed_over,
                "classifies": done.classifies,
            }
        )
        return
    echo(done.page)
