"""Tables on standard output, in whose cells no text is markup: names of runs and files may hold anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from infoae.errors import printable


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()) -> None:
    """Print a table with a column for each of `columns`; those in `right` end at their right side."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=printable(title))
    for column in columns:
        table.add_column(printable(column), justify="right" if column in right else "left")
    for row in rows:
        table.add_row(*map(printable, row))
    Console(markup=False, emoji=False, highlight=False).print(table)
