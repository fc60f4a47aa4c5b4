"""What a training costs: the formula beside what was measured."""

from __future__ import annotations

from typing import Any

from benchmarks.pages.results import Results, milliseconds, table, wrapped


def _error(expected: float, measured: float) -> str:
    return f"{100 * (expected / measured - 1):+.0f} %"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _of_steps(found: dict[str, Any]) -> list[str]:
    header = ["changed", "operations", "a step", "formula", "error", "memory", "expected", "error"]
    rows = []
    for row in found["points"]:
        seconds, formula = row["seconds"], row["seconds_of_others"]
        size, expected = row["memory"], row["memory_expected"]
        times = [milliseconds(seconds), milliseconds(formula), _error(formula, seconds)]
        sizes = [_gigabytes(size), _gigabytes(expected), _error(expected, size)]
        name = "nothing" if row["name"] == "default" else row["name"].replace("_", "-")
        rows.append([name, f"{row['operations'] / 1e9:.1f} G", *times, *sizes])
    errors = [
        f"{100 * found['errors'][of][which]:.0f} %" for of in ("seconds", "memory") for which in ("median", "max")
    ]
    rows.append(["error: median, most", "", "", "", ", ".join(errors[:2]), "", "", ", ".join(errors[2:])])
    a, b, c = (found["coefficients"][name] for name in "abc")
    formula = (
        f"The formula: {milliseconds(a)}, {1e12 * b:.2g} s for each 10¹² operations, and {1e9 * c:.2g} s for each GB "
        "of activations that fall to one CPU."
    )
    return [*wrapped(formula), "", *table(header, rows)]


def _of_training(found: dict[str, Any]) -> list[str]:
    rows = []
    for part in found["parts"]:
        run = f"{part['run']:,.0f} s" if "run" in part else ""
        one = milliseconds(part["of_one"])
        rows.append([part["name"].replace("_", " "), f"{part['number']:,}", one, f"{part['seconds']:,.0f} s", run, ""])
    for name in ("steps", "whole"):
        formula, run = found[name]["formula"], found[name]["run"]
        beside = ["", ""] if run is None else [f"{run:,.0f} s", _error(formula, run)]
        rows.append(["all steps" if name == "steps" else "all", "", "", f"{formula:,.0f} s", *beside])
    return table(["`infoae train`", "number", "one", "formula", "the run", "error"], rows)


def cost(results: Results) -> list[str]:
    """Seconds and memory of a step, and the whole of a training."""
    found = results.json("cost.json")
    lines = results.source("cost") + _of_steps(found)
    return [*lines, "", *_of_training(found["training"])] if "training" in found else lines
