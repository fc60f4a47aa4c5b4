"""Tables of a training step: how near it comes to the machine, what other programs take, where the time goes."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.pages.results import Results, milliseconds, spread, table


def _stage(entry: dict[str, Any]) -> str:
    return f"`{entry['recipe']}`, {entry['stage'].replace('_', ' ')}"


def _of_step(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"


def step(results: Results) -> list[str]:
    """Speed in each way, against one thread and against the peak."""
    header = ["stage", "GFLOP a step", "computed by", "a step", "images a second", "against one thread"]
    header += ["peak, GFLOP/s", "share of the peak"]
    rows = []
    for entry in results.json("step.json")["speed"]:
        for name, way in entry["ways"].items():
            count = {"processes": way["processes"], "threads": way["threads"]}.get(name)
            rows.append(
                [
                    f"{_stage(entry)}, {entry['precision']}",
                    f"{entry['operations'] / 1e9:.1f}",
                    f"{count} {name}" if count else name,
                    milliseconds(statistics.median(way["seconds"])),
                    f"{way['images_per_second']:,.0f}",
                    spread(way["ratios"]) if count else "1",
                    f"{statistics.median(way['peak']) / 1e9:,.0f}",
                    spread(way["shares_of_peak"]),
                ]
            )
    return results.source("step") + table(header, rows)


def busy(results: Results) -> list[str]:
    """What remains of each speed beside busy processes."""
    header = ["what", "computed by", "a second, alone", "of that beside one busy process", "beside two"]
    rows = [
        [row["what"].replace("_", " "), row["way"], f"{row['per_second'][0]:,.0f}", *map(spread, row["shares"])]
        for row in results.json("step.json")["busy"]
    ]
    return table(header, rows)


def phases(results: Results) -> list[str]:
    """Where a step's time goes, by phase and by kind of operation, a column for each stage."""
    found = results.json("step.json")
    stages, bandwidth = found["profile"], found["copy_bandwidth"]
    in_phases = [sum(entry["phases"].values()) for entry in stages]
    in_kinds = [sum(kind["seconds"] for kind in entry["kinds"].values()) for entry in stages]
    rows = [["**a step of one thread**", *map(milliseconds, in_phases)]]
    for name in dict.fromkeys(name for entry in stages for name in entry["phases"]):
        parts = zip(stages, in_phases, strict=True)
        rows.append([name, *(_of_step(entry["phases"].get(name, 0), whole) for entry, whole in parts)])
    rows.append(["**the same, watched by the profiler**", *map(milliseconds, in_kinds)])
    for name in stages[0]["kinds"]:
        cells = []
        for entry, whole in zip(stages, in_kinds, strict=True):
            kind = entry["kinds"][name]
            cell = _of_step(kind["seconds"], whole)
            if kind["bytes"] and kind["seconds"]:
                cell += f"; {kind['bytes'] / kind['seconds'] / bandwidth:.2f}"
            cells.append(cell)
        rows.append([name, *cells])
    return table(["", *map(_stage, stages)], rows)
