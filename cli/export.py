"""infoae export."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infoae.cli.options import (
    CheckpointChoice,
    CheckpointOption,
    JsonOption,
    LabelsOption,
    MovedDataOption,
    RunArgument,
    RunsOption,
    echo,
    print_json,
)
from infoae.deploy.precision import Precision

if TYPE_CHECKING:
    from infoae.deploy.export import Exported


def export(
    run: RunArgument = "latest",
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write ONNX graphs. Needed: it is the one format there is.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for the bundle. Default: bundle in the run's folder.")
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(help="Number format of the graphs; fp16 and int8 are refused where they change the answers."),
    ] = Precision.FP32,
    triton: Annotated[
        bool, typer.Option("--triton", help="Add a model repository for Triton Inference Server, in triton/.")
    ] = False,
    labels: LabelsOption = None,
    checkpoint: CheckpointOption = CheckpointChoice.best,
    data_root: MovedDataOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Write a run as a bundle: a folder that classifies and generates without PyTorch.

    Its answers are first compared with PyTorch's on the test images. Categories are called by the names of --labels, or
    else of `infoae name`.
    """
    from infoae.deploy.export import export_run
    from infoae.errors import UsageError
    from infoae.methods.registry import model_of
    from infoae.runs import names
    from infoae.runs.checkpoint import read
    from infoae.runs.run import Run

    if not onnx:
        raise UsageError("say in which format: infoae export --onnx")
    found = Run.open(run, runs)
    with found.locked():  # or training might replace the checkpoint meanwhile
        num_categories = model_of(found, checkpoint.value).num_categories
        step = read(found.checkpoint(checkpoint.value)).step
        given = (
            names.stored(found, num_categories, step) if labels is None else names.read_names(labels, num_categories)
        )
        exported = export_run(
            found,
            out,
            precision=precision,
            names=None if given is None else names.display(given),
            which=checkpoint.value,
            data_root=data_root,
            triton=triton,
            say=lambda text: echo(text, err=True),
        )
    if as_json:
        print_json(_to_json(exported))
    else:
        _print(exported)


def _print(exported: Exported) -> None:
    found = exported.verification
    for output in found.outputs:
        allowed = f"allowed {output.tolerance:.1e}" if output.tolerance < float("inf") else "not bounded: labels are"
        echo(f"{output.name:<24} largest difference {output.difference:.1e} at batches 1, 7, 256; {allowed}")
    if found.pixels_any is not None:
        echo(f"{'pixels_any.images':<24} largest difference {found.pixels_any} of 255 levels from infoae's own resize")
    same = found.num_images - found.num_different
    accuracy = "" if found.accuracy is None else f"; accuracy {found.accuracy:.2%}"
    echo(f"{'labels':<24} {same} of {found.num_images} test images as PyTorch's{accuracy}")
    if len(exported.classifier_bytes) > 1:
        before, after = exported.classifier_bytes.values()
        cost = f"{found.num_different / found.num_images:.2%} of the labels change"
        if found.accuracy is not None and found.torch_accuracy is not None:
            cost += f", accuracy {found.torch_accuracy:.2%} -> {found.accuracy:.2%}"
        cost += (
            f"; {before / 1e3:,.0f} -> {after / 1e3:,.0f} kB, {found.speedup:.2f} times the speed of fp32 on this CPU"
        )
        echo(f"{exported.manifest.precision + ' costs':<24} {cost}")
    echo(f"bundle {exported.path}; use it: infoae classify IMAGES --model {shlex.quote(str(exported.path))}")


def _to_json(exported: Exported) -> dict[str, Any]:
    found = exported.verification
    return {
        "out": str(exported.path),
        "precision": exported.manifest.precision,
        "category_names": list(exported.manifest.category_names),
        "accuracy": found.accuracy,
        "torch_accuracy": found.torch_accuracy,
        "parity": found.to_dict(),
        "speed_against_fp32": round(found.speedup, 3),
        "classifier_bytes": {str(kind): size for kind, size in exported.classifier_bytes.items()},
    }
