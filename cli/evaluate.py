"""infoae evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from infoae.evaluation.evaluate import Labelled, RunEvaluation

MOST_CLASSES = 12  # that a terminal has columns for; evaluation.json and the figure have all


def evaluate(
    run: RunArgument = "latest",
    checkpoint: CheckpointOption = CheckpointChoice.best,
    data_root: MovedDataOption = None,
    device: DeviceOption = Device.AUTO,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Measure a run on the test images: its accuracy, as in the paper, and measures that need no labels.

    Categories are matched to classes one-to-one (Hungarian). Beside them stands what needs no training: k-means on
    pixels or colour, and nearest neighbours in 4 x 4 pixels. The result is kept in evaluation.json.
    """
    from infoae.device import resolve_device
    from infoae.evaluation.evaluate import evaluate_run
    from infoae.loading import load_tests
    from infoae.runs.run import Run

    found = Run.open(run, runs)
    result = evaluate_run(found, load_tests(found, data_root), checkpoint.value, resolve_device(device.value))
    if as_json:
        print_json(result.to_dict())
    else:
        _print_tables(result)


def _print_tables(found: RunEvaluation) -> None:
    from dataclasses import asdict

    from infoae.reporting.tables import print_table

    result = found.measures
    measures: list[list[str]] = []
    if result.labelled is not None:
        names = ("accuracy", "many_to_one", "nmi", "ari")
        measures += [[name.replace("_", "-"), f"{getattr(result.labelled, name):.4f}"] for name in names]
    if result.frechet_distance is not None:
        measures.append(["Fréchet distance", f"{result.frechet_distance:.3f}"])
    groups = {
        "label-free": asdict(result.label_free),
        "trivial": result.trivial.measures(),
        "generated": asdict(result.generated),
    }
    for group, values in groups.items():
        for name, value in values.items():
            text = "-" if value != value else f"{value:.4f}" if isinstance(value, float) else str(value)  # NaN != NaN
            measures.append([f"{group}: {name.replace('_', ' ')}", text])
    print_table(f"{found.run} {found.checkpoint}, {result.num_images} test images", ["measure", "value"], measures)
    columns, categories = _categories(result.category_sizes, result.labelled)
    print_table("categories", columns, categories, right=columns[2:])
    for warning in result.warnings:
        echo(f"warning: {warning}")


def _categories(sizes: list[int], labelled: Labelled | None) -> tuple[list[str], list[list[str]]]:
    """Return columns, and a row a category: its images and, where there are classes, which they are of."""
    if labelled is None:
        return ["category", "images"], [[str(category), str(size)] for category, size in enumerate(sizes)]
    classes = len(labelled.confusion[0])
    shown = range(classes if classes <= MOST_CLASSES else 0)
    rows = []
    for category, size in enumerate(sizes):
        matched = labelled.matching.get(category)
        counts = [str(labelled.confusion[category][label]) for label in shown]
        name = "-" if matched is None else str(matched)
        rows.append([str(category), str(size), name, f"{labelled.purity[category]:.3f}", *counts])
    return ["category", "images", "class", "purity", *(f"is {label}" for label in shown)], rows
