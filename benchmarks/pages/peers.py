"""The table of training beside what others run."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.pages.results import Results, percent, spread, table


def _trained(row: dict[str, Any]) -> list[str]:
    rates = {name: f"{statistics.median(each):,.0f}" for name, each in row["images_per_second"].items()}
    sizes = {name: f"{count / 1e6:.1f}" for name, count in row["parameters"].items()}
    return [
        f"`{row['recipe']}`",
        row["peer"],
        f"{sizes['infoae']}; {sizes['peer']}",
        rates["infoae"],
        rates["peer"],
        spread(row["ratios"]),
    ]


def trained(results: Results) -> list[str]:
    """How fast infoae and its peers train."""
    header = ["recipe", "peer", "million parameters: infoae; peer", "infoae, images a second", "peer", "ratio"]
    return table(header, map(_trained, results.json("peers.json")["training"]))


def table_of(results: Results) -> list[str]:
    """How fast infoae and its peers train, then how well and how fast k-means finds categories."""
    found, committed = results.json("peers.json"), results.summary("mnist")["measures"]
    categories = [
        [f"{row['method']} on 50 components", percent(row["accuracy"]), f"{row['seconds']:,.1f} s"]
        for row in found["clusterings"]
    ]
    accuracy, seconds = (committed[name]["mean"] for name in ("accuracy", "seconds_training"))
    categories.append(["infoae, recipe `mnist`", percent(accuracy), f"{seconds:,.0f} s"])
    fitted = f"categories, fitted on {found['images_fitted']:,} images"
    return [*results.source("peers"), *trained(results), "", *table([fitted, "accuracy", "time"], categories)]
