"""The table of limits, from the one module that has them."""

from __future__ import annotations

from benchmarks.pages.results import Results, table
from infoae import limits


def table_of(_: Results) -> list[str]:
    """Every limit: the variable that raises it, its default, and what it is of."""
    rows = [[f"`{each.variable}`", f"{each.default:,}", each.of] for each in limits.all_limits()]
    return table(["variable", "default", "of"], rows)
