"""A table of recipes, as its YAML file says: rows, what was published of them, and budgets; all of it checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from infoae.config import Config, Section, plain_yaml, recipes
from infoae.config.validation import explain
from infoae.errors import UsageError

QUICK = "quick"
"""The budget that is trained where only that is asked for, and only then."""

BudgetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Settings = Annotated[tuple[str, ...], Field(strict=False)]
"""Each as after --set: key=value."""


class Published(Section):
    """What others measured."""

    error: str
    """Error rate in %, as it was printed."""
    protocol: Literal["one-to-one", "many-to-one"]
    """How categories got their classes there."""
    source: str
    """Who published it, and when."""


class Row(Section):
    """A recipe, and what it is compared with."""

    heading: Annotated[str, Field(pattern=r"^[^|\n]*[A-Za-z0-9][^|\n]*$")]
    recipe: str
    """A recipe's name, or a YAML file."""
    settings: Settings = ()
    published: Published | None = None
    budgets: Annotated[list[BudgetName], Field(min_length=1)] | None = None
    """Budgets that the row is trained in; all if not given."""

    @property
    def slug(self) -> str:
        """The heading as the name of a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-")


class Table(Section):
    """Rows, and the budgets in which they are trained."""

    title: str
    budgets: Annotated[dict[BudgetName, Settings], Field(min_length=1)]
    """What all rows are set to, over their own settings."""
    rows: Annotated[list[Row], Field(min_length=1)]

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        slugs: dict[str, str] = {}
        for row in self.rows:
            if row.slug in slugs:
                raise ValueError(f"rows {slugs[row.slug]!r} and {row.heading!r} would share a folder: change a heading")
            slugs[row.slug] = row.heading
            for budget in row.budgets or ():
                if budget not in self.budgets:
                    raise ValueError(f"row {row.heading!r}: no budget {budget!r}; there are {', '.join(self.budgets)}")
        return self


@dataclass(frozen=True)
class Entry:
    """A row in a budget, ready to be trained."""

    budget: str
    row: Row
    settings: Settings
    """Of row and budget, and what the user set."""
    config: Config
    run: str
    """Name of its runs, before the seed. Entries of the same configuration share their runs."""

    def __str__(self) -> str:
        return f"{self.budget}, {self.row.heading}"


def available() -> dict[str, Path]:
    """Return the tables that come with infoae, name -> YAML file."""
    folder = Path(str(files("infoae") / "configs" / "tables"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(source: str) -> Table | None:
    """Return the table that `source` names or is a YAML file of; None where that is a recipe, without rows.

    Raises UsageError, one line, if it is neither or if the table is wrong.
    """
    path, text = recipes.read_named(source, recipes.available() | available(), "recipe, table")
    tree = plain_yaml.read(text, str(path))
    if not isinstance(tree, dict) or "rows" not in tree:
        return None
    try:
        return Table.model_validate(tree)
    except ValidationError as error:
        raise UsageError(f"{path}: " + "; ".join(explain(error, Table))) from None


def entries(table: Table, quick: bool, overrides: Sequence[str]) -> list[Entry]:
    """Return every row in the budget `quick`, or in every other one, with `overrides` over all settings.

    Raises UsageError if a row's configuration is wrong or there is none.
    """
    found: list[Entry] = []
    for budget, common in table.budgets.items():
        for row in table.rows:
            if (budget == QUICK) != quick or budget not in (row.budgets or table.budgets):
                continue
            settings = (*row.settings, *common, *overrides)
            try:
                config = recipes.load(row.recipe, settings)
            except UsageError as error:
                raise UsageError(f"{budget}, {row.heading}: {error}") from None
            run = next((entry.run for entry in found if entry.config == config), f"{budget}-{row.slug}")
            found.append(Entry(budget, row, settings, config, run))
    if not found:
        raise UsageError(
            f"the table has no row in budget {QUICK}: leave --quick out"
            if quick
            else f"the table has no row in a budget other than {QUICK}: give --quick"
        )
    return found
