"""`infoae classify`: label a pile of images with a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from infoae.cli.inputs import (
    BackgroundOption,
    ClassifiedArgument,
    ColumnOption,
    MaxErrorsOption,
    NullOption,
    RangeOption,
    decode_options,
    tell_of_inputs,
)
from infoae.cli.options import DeviceOption, JsonOption, ModelOption, ProviderOption, at_most, echo, print_json
from infoae.gpu import Device, Provider
from infoae.limits import MAX_AT_ONCE, MAX_THREADS

_COLUMNS = "path, label, name, confidence, topK_label, topK_name, topK_confidence, error"

_RAW_CSV = (
    "Write text into CSV as it is. By default a cell that a spreadsheet would run gets a ' in front, and control "
    "characters are escaped."
)


def classify(
    inputs: ClassifiedArgument,
    model: ModelOption,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URI",
            help="Result: a .csv, .jsonl or .parquet file; a folder with --ray; or an address of either. Default: CSV "
            "on stdout.",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="LIST", help=f"Columns of the result, separated by commas: {_COLUMNS}.")
    ] = None,
    latent: Annotated[bool, typer.Option("--latent", help="Add each image's latent vector to its row.")] = False,
    raw_csv: Annotated[bool, typer.Option("--raw-csv", help=_RAW_CSV)] = False,
    column: ColumnOption = None,
    null: NullOption = False,
    value_range: RangeOption = None,
    background: BackgroundOption = "black",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted job with the same --out.")] = False,
    max_errors: MaxErrorsOption = None,
    device: DeviceOption = Device.AUTO,
    provider: ProviderOption = Provider.CUDA,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1, callback=at_most(MAX_AT_ONCE), help="Images computed at once; a thread on a CPU takes at most 128."
        ),
    ] = 256,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, callback=at_most(MAX_THREADS), help="Threads that decode and classify. Default: one for each CPU."
        ),
    ] = None,
    fail_on_drift: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="X",
            help="Exit with 4 where the images are further than X from those that the bundle knows; 0.25 is usual. All "
            "rows are written.",
        ),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Classify on the Ray cluster at RAY_ADDRESS, or on one started here; see docs/distributed.md."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Label images with a bundle: one row for each image, in input order.

    Exit code 0: all are labelled; 3: some are unreadable; 4: --fail-on-drift, and they have drifted; 1: none could be
    used.
    """
    from infoae.errors import InfoAEError, UsageError

    if out is None and (resume or as_json or ray):
        raise UsageError("--resume, --json and --ray need a place for the result: give --out")
    if ray and raw_csv:
        raise UsageError("--raw-csv is of CSV: with --ray the result is Parquet")
    if ray and workers is not None:
        raise UsageError("--workers is for one machine: with --ray each actor decodes its own images")
    if fail_on_drift is not None:
        _check_watched(model)
    options: dict[str, Any] = {
        "null": null,
        "decoding": decode_options(value_range, background),
        "columns": columns,
        "latent": latent,
        "column": column,
        "resume": resume,
        "max_errors": max_errors,
        "device": device,
        "provider": provider,
        "batch_size": batch_size,
    }
    try:
        if ray:
            os.environ.setdefault("RAY_LOG_TO_DRIVER", "0")  # what workers print is no result; read by Ray's import
            from infoae.deploy.ray_batch import classify_on_ray

            assert out is not None
            summary = classify_on_ray(inputs, model, out, **options)
        else:
            from infoae.deploy.job import classify_files

            with _written_to(out, inputs) as file:
                summary = classify_files(inputs, model, file, num_workers=workers, raw_csv=raw_csv, **options)
    except (KeyboardInterrupt, SystemExit) as stop:  # Ray makes a SystemExit of SIGTERM
        if out is None:
            raise
        echo("interrupted; continue with --resume", err=True)
        raise typer.Exit(130) from stop
    tell_of_inputs(summary.passed_over, summary.peak, value_range)
    again = f", {summary.num_resumed} of them from before" if summary.num_resumed else ""
    echo(
        f"{summary.num_rows} rows{again}, {summary.num_failed} unreadable, {summary.seconds:.1f} s, "
        f"{summary.images_per_second:,.0f} images/s",
        err=True,
    )
    far = summary.drift
    drifted = far is not None and fail_on_drift is not None and far.distance > fail_on_drift
    if far is not None:
        echo(f"{far}; above --fail-on-drift {fail_on_drift:g}" if drifted else far, err=True)
    if as_json:
        result = {
            "out": out,
            "num_rows": summary.num_rows,
            "num_failed": summary.num_failed,
            "num_resumed": summary.num_resumed,
            "passed_over": summary.passed_over,
            "seconds": round(summary.seconds, 3),
            "images_per_second": round(summary.images_per_second, 1),
            "drift": None if far is None else far.to_dict(),
        }
        print_json(result)
    if summary.num_failed == summary.num_rows:
        raise InfoAEError("not one input is readable: the result's error column says why")
    if drifted:
        raise typer.Exit(4)
    if summary.num_failed:
        raise typer.Exit(3)


@contextmanager
def _written_to(out: str | None, inputs: Sequence[str]) -> Iterator[Path | None]:
    """Yield the file to write: `out`, or one that is copied there."""
    from infoae.addresses import is_address

    if out is None or not is_address(out):
        yield None if out is None else Path(out)
        return
    from infoae.deploy.job_store import result_address, staged

    with staged(result_address(out, inputs)) as file:
        yield file


def _check_watched(model: Path) -> None:
    """Raise InfoAEError, before anything is done, where there is nothing that images could be far from."""
    from infoae.deploy.bundle import Bundle
    from infoae.errors import InfoAEError

    if Bundle.load(model).manifest.reference is None:
        raise InfoAEError(
            f"--fail-on-drift: bundle {model} does not say how its test images are answered; export it again"
        )
