"""infoae evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from infoae.cli.options import (
    CheckpointChoice,
    CheckpointOption,
    Device,
    DeviceOption,
    JsonOption,
    RunArgument,
    RunsOption,
    print_json,
)

MOST_CLASSES = 12  # that a terminal has columns for; evaluation.json and the figure have all


def evaluate(
    run: RunArgument = "latest",
    checkpoint: CheckpointOption = CheckpointChoice.best,
    device: DeviceOption = Device.auto,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Measure a run on the test images, by the paper's protocol and without labels.

    Categories are matched to classes one-to-one (Hungarian); the result is kept in evaluation.json.
    """
    from infoae import data
    from infoae.device import resolve_device
    from infoae.launch import evaluate_run
    from infoae.runs.run import Run

    found = Run.open(run, runs)
    test = data.load(found.config().data, "test")
    result = evaluate_run(found, test, checkpoint.value, resolve_device(device.value))
    if as_json:
        print_json(result)
    else:
        _print_tables(result)


def _print_tables(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    measures = Table(
        "measure", "value", title=f"{result['run']} {result['checkpoint']}, {result['num_images']} test images"
    )
    for key in ("accuracy", "nmi", "ari"):
        if key in result:
            measures.add_row(key, f"{result[key]:.4f}")
    if result["frechet_distance"] is not None:
        measures.add_row("Fréchet distance", f"{result['frechet_distance']:.3f}")
    for group in ("label_free", "generated"):
        for key, value in result[group].items():
            text = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
            measures.add_row(f"{group.replace('_', '-')}: {key.replace('_', ' ')}", text)
    console.print(measures)
    categories = Table("category", "images", title="categories")
    classes = len(result["confusion"][0]) if "confusion" in result else 0
    shown = range(classes if classes <= MOST_CLASSES else 0)
    if classes:
        for column in ("class", "purity", *(f"is {label}" for label in shown)):
            categories.add_column(column, justify="right")
    for category, size in enumerate(result["category_sizes"]):
        row = [str(category), str(size)]
        if classes:
            matched = result["matching"].get(category)
            row += ["-" if matched is None else str(matched), f"{result['purity'][category]:.3f}"]
            row += [str(result["confusion"][category][label]) for label in shown]
        categories.add_row(*row)
    console.print(categories)
    for warning in result["warnings"]:
        typer.echo(f"warning: {warning}")
