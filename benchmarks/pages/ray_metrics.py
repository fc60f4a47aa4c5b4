"""The table of what Prometheus finds of infoae, from the one module that has it."""

from __future__ import annotations

from benchmarks.pages.results import Results, table
from infoae.cluster import ray_metrics


def table_of(_: Results) -> list[str]:
    """Every metric: its name in Prometheus, its tags, and what it is."""
    rows = [[f"`{each.exported}`", ", ".join(each.tags), each.what] for each in ray_metrics.ALL]
    return table(["metric", "tags", "what"], rows)
