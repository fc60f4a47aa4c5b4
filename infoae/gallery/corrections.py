"""corrections.json: what a person says of categories and pictures on the gallery's page (docs/gallery.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from infoae.errors import InfoAEError, one_line, shown

FORMAT = 1
"""The newest format that this version writes and reads."""

Category = Annotated[int, Field(ge=0)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NotThis(_Section):
    """A picture that does not belong to the category that it was given."""

    path: str
    category: Category


class Corrections(_Section):
    """The content of corrections.json. Categories are numbers of the checkpoint at `step`, paths those of the page."""

    format: Literal[1] = 1
    run: str
    step: int = Field(ge=0)
    num_categories: int = Field(gt=0)
    names: dict[Category, Name] = {}
    """Name of a category, where one was given."""
    merges: tuple[tuple[Category, ...], ...] = ()
    """Groups of two or more categories that are one; no category is in two groups."""
    splits: tuple[Category, ...] = ()
    """Categories that are several."""
    parts: dict[Category, Category] = {}
    """Over-category -> the category that all its pictures belong to."""
    not_this: tuple[NotThis, ...] = ()
    """Pictures that are not of the category that they were given."""
    examples: dict[str, Category] = {}
    """Path of a picture -> the category that it belongs to."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        merged = [category for group in self.merges for category in group]
        if any(len(group) < 2 for group in self.merges) or len(set(merged)) < len(merged):
            raise ValueError("merges are groups of two or more categories, each category in one of them at most")
        if both := sorted(set(merged) & set(self.splits)):
            raise ValueError(f"category {both[0]} is to be merged and to be split")
        named = [*self.names, *merged, *self.splits, *(each.category for each in self.not_this)]
        named += [*self.parts.values(), *self.examples.values()]
        if over := [category for category in named if category >= self.num_categories]:
            raise ValueError(f"category {over[0]} of {self.num_categories}, which are 0 to {self.num_categories - 1}")
        for each in self.not_this:
            if self.examples.get(each.path) == each.category:
                raise ValueError(f"{shown(each.path)} is said to be of category {each.category} and not to be")
        for name in self.names.values():
            if not name.isprintable():
                raise ValueError(f"{shown(name)} is no name for a category: give printable text")
        return self


def read(path: Path) -> Corrections:
    """Return what a corrections.json holds. Raises InfoAEError if it cannot be read, or is none."""
    try:
        return Corrections.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InfoAEError(f"cannot read {path}: {one_line(error)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise InfoAEError(f"{path} is no corrections.json of infoae gallery: {one_line(ValueError(reason))}") from None
