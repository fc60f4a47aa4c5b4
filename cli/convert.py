"""`infoae convert`: any pile of images becomes shards to train on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infoae.cli.inputs import (
    BackgroundOption,
    ClassesOption,
    ColumnOption,
    InputsArgument,
    MaxErrorsOption,
    NullOption,
    RangeOption,
    decode_options,
    tell_of_inputs,
)
from infoae.cli.options import JsonOption, at_most, echo, print_json
from infoae.limits import MAX_IMAGE_SIZE, SEED

if TYPE_CHECKING:
    from infoae.inputs.convert import Decoder


def convert(
    inputs: InputsArgument,
    out: Annotated[
        str, typer.Option(metavar="DIR|URI", help="New folder for the shards, or an address such as s3://bucket/path.")
    ],
    size: Annotated[
        int,
        typer.Option(min=8, callback=at_most(MAX_IMAGE_SIZE), help="Pixels of the resized images' height and width."),
    ],
    channels: Annotated[
        int, typer.Option(metavar="1|3", help="Colour channels of the images: 1 is grey, 3 is RGB.")
    ] = 3,
    test: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the images, drawn at random, that is kept for tests.")
    ] = 0.1,
    labels: ClassesOption = None,
    seed: Annotated[
        int, typer.Option(min=0, max=SEED, help="Random seed of the images' order and of those kept for tests.")
    ] = 0,
    column: ColumnOption = None,
    null: NullOption = False,
    value_range: RangeOption = None,
    background: BackgroundOption = "black",
    max_errors: MaxErrorsOption = None,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Decode on the Ray cluster at RAY_ADDRESS, or on one started here; all nodes must see the inputs.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn images of any kind into shuffled shards to train on.

    Exit code 0: all are in; 3: some were unreadable and are left out; 1: nothing was written.
    """
    from infoae.addresses import is_address
    from infoae.errors import UsageError

    if channels not in (1, 3):
        raise UsageError(f"--channels {channels}: 1 is grey, 3 is RGB")
    if not 0 < test < 1:
        raise UsageError(f"--test {test}: a share of the images is more than 0 and less than 1")
    out = out if is_address(out) else str(Path(out))
    options = decode_options(value_range, background)
    from infoae.data.image_spec import ImageSpec
    from infoae.inputs.convert import convert_files
    from infoae.inputs.upload import written_to

    try:
        with written_to(out) as folder, _decoder(ray) as decoder:
            done = convert_files(
                inputs,
                folder,
                ImageSpec.model_validate({"channels": channels, "height": size, "width": size}),
                test_share=test,
                seed=seed,
                labels=labels,
                column=column,
                max_errors=max_errors,
                null=null,
                options=options,
                decoder=decoder,
            )
    except KeyboardInterrupt as stop:
        left = f"what lies in {out} is not whole" if is_address(out) else "nothing was written"
        echo(f"interrupted; {left}", err=True)
        raise typer.Exit(130) from stop
    for reason in done.reasons:
        echo(f"skipped {reason}", err=True)
    if done.num_failed > len(done.reasons):
        echo(f"skipped {done.num_failed - len(done.reasons):,} more", err=True)
    tell_of_inputs(done.passed_over, done.peak, value_range)
    count = done.num_train + done.num_test
    place = "" if is_address(out) else "shards --data-root "
    command = f"infoae train --data {place}{shlex.quote(out)}"
    echo(
        f"{count:,} images ({channels} x {size} x {size}) in {out}: {done.num_train:,} to train on, {done.num_test:,} "
        f"for tests; {done.num_failed:,} unreadable, {done.seconds:.1f} s, {count / done.seconds:,.0f} images/s",
        f"next: {command}",
        err=True,
    )
    if as_json:
        result = {
            "out": out,
            "num_train": done.num_train,
            "num_test": done.num_test,
            "num_failed": done.num_failed,
            "passed_over": done.passed_over,
            "num_classes": done.num_classes,
            "seconds": round(done.seconds, 3),
            "images_per_second": round(count / done.seconds, 1),
            "next": command,
        }
        print_json(result)
    if done.num_failed:
        raise typer.Exit(3)


@contextmanager
def _decoder(ray: bool) -> Iterator[Decoder | None]:
    """Who decodes: a cluster that is connected meanwhile, or None for this machine."""
    if not ray:
        yield None
        return
    os.environ.setdefault("RAY_LOG_TO_DRIVER", "0")  # what workers print is no result; read by Ray's import
    from infoae.cluster import connect, converting
    from infoae.files import user_cache

    log = user_cache("ray.log")
    with connect.connected(connect.Request(address=os.environ.get(connect.VARIABLE) or None), log):
        yield converting.on_nodes(log)
