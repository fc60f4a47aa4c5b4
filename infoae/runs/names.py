"""Names for categories: from a few labelled examples or given, kept in the run with the checkpoint they belong to."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from infoae.data.decode import DEFAULTS, DecodeOptions, read_image
from infoae.data.unreadable import UnreadableImageError
from infoae.errors import InfoAEError, one_line
from infoae.files import write_json
from infoae.runs.run import NAMES, Run


@dataclass(frozen=True)
class Naming:
    """What labelled examples say of K categories; `votes` counts the names of each category's examples."""

    votes: list[dict[str, int]]

    @property
    def names(self) -> list[str | None]:
        """The commonest name of each category, (K,); None without examples and where two are equally common."""
        leaders = [_leaders(votes) for votes in self.votes]
        return [found[0] if len(found) == 1 else None for found in leaders]

    @property
    def unseen(self) -> list[int]:
        """Categories without any example."""
        return [category for category, votes in enumerate(self.votes) if not votes]

    @property
    def tied(self) -> dict[int, list[str]]:
        """Categories whose commonest names are equally common, and those names."""
        leaders = {category: _leaders(votes) for category, votes in enumerate(self.votes)}
        return {category: found for category, found in leaders.items() if len(found) > 1}


class _Stored(BaseModel):
    """The content of names.json."""

    model_config = ConfigDict(strict=True, extra="forbid")

    checkpoint_step: int
    names: list[str | None]


def by_majority(categories: NDArray[np.int64], names: Sequence[str], num_categories: int) -> Naming:
    """Count the names of N examples by the category (N,) that the model gives each."""
    votes: list[Counter[str]] = [Counter() for _ in range(num_categories)]
    for category, name in zip(categories.tolist(), names, strict=True):
        votes[category][name] += 1
    return Naming([dict(counts) for counts in votes])


def read_examples(
    source: Path, shape: tuple[int, int, int], options: DecodeOptions = DEFAULTS
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return labelled examples as images uint8 (N, C, H, W) of `shape` (C, H, W), and their N names.

    `source` is a folder with a subfolder of images for each name, or a .csv file with the columns `path` (relative to
    the file) and `name` (or `label`). Raises InfoAEError for anything else, and for an image that cannot be read.
    """
    pairs = _from_folder(source) if source.is_dir() else _from_csv(source)
    if not pairs:
        raise InfoAEError(f"{source} holds no examples: make a folder of images for each name in it")
    images = np.empty((len(pairs), *shape), np.uint8)
    for row, (path, _) in enumerate(pairs):
        try:
            images[row] = read_image(path, *shape, options)
        except UnreadableImageError as error:
            raise InfoAEError(f"example {path}: {error}") from error
    return images, [_checked(name, source) for _, name in pairs]


def read_names(path: Path, num_categories: int) -> list[str | None]:
    """Return the names of `num_categories` categories from a file.

    A .json file holds a list, or an object from category number to name, where some may be missing; any other file is
    text, a name on each line. Raises InfoAEError.
    """
    text = _read(path)
    if path.suffix.lower() != ".json":
        given: object = text.splitlines()
    else:
        try:
            given = json.loads(text)
        except ValueError as error:
            raise InfoAEError(f"{path} is not JSON: {one_line(error)}") from None
    if isinstance(given, dict):
        unknown = sorted(set(given) - {str(category) for category in range(num_categories)})
        if unknown:
            raise InfoAEError(f"{path} names category {unknown[0]!r}: this run has 0 to {num_categories - 1}")
        given = [given.get(str(category)) for category in range(num_categories)]
    if not isinstance(given, list) or len(given) != num_categories:
        found = f"{len(given)} names" if isinstance(given, list) else type(given).__name__
        raise InfoAEError(f"{path} holds {found}: this run has {num_categories} categories, and needs a name for each")
    return [None if name is None else _checked(name, path) for name in given]


def store(run: Run, names: Sequence[str | None], step: int) -> None:
    """Keep the names of the categories of the checkpoint at `step` in the run's names.json."""
    write_json(run.path / NAMES, {"checkpoint_step": step, "names": list(names)})


def stored(run: Run, num_categories: int, step: int) -> list[str | None] | None:
    """Return the names kept in the run, None if there are none.

    Raises InfoAEError if they belong to another checkpoint than that at `step`: its categories may be others.
    """
    path = run.path / NAMES
    if not path.exists():
        return None
    try:
        found = _Stored.model_validate_json(_read(path))
        if len(found.names) != num_categories:
            raise ValueError(f"{len(found.names)} names for {num_categories} categories")
    except ValueError as error:
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): name the categories again, or delete it") from None
    if found.checkpoint_step != step:
        raise InfoAEError(
            f"{path} names the categories of step {found.checkpoint_step}, and this checkpoint is of step {step}: name "
            "them again, or delete it"
        )
    return [None if name is None else _checked(name, path) for name in found.names]


def display(names: Sequence[str | None]) -> list[str]:
    """Return a text for every category: its name, or "category <number>"."""
    return [f"category {category}" if name is None else name for category, name in enumerate(names)]


def _leaders(votes: dict[str, int]) -> list[str]:
    most = max(votes.values(), default=0)
    return sorted(name for name, count in votes.items() if count == most)


def _from_folder(folder: Path) -> list[tuple[Path, str]]:
    return [
        (path, child.name)
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".")
        for path in sorted(child.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def _from_csv(path: Path) -> list[tuple[Path, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(_read(path), newline="")))
    except csv.Error as error:
        raise InfoAEError(f"{path} is not CSV: {one_line(error)}") from None
    columns = set(rows[0]) if rows else set()
    column = "name" if "name" in columns else "label"
    if not {"path", column} <= columns:
        raise InfoAEError(f"{path}: give a folder, or a CSV file with the columns path and name")
    return [(path.parent / (row["path"] or ""), row[column] or "") for row in rows]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InfoAEError(f"cannot read {path}: {one_line(error)}") from None
    except UnicodeDecodeError:
        raise InfoAEError(f"{path} is not UTF-8 text") from None


def _checked(name: object, source: Path) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InfoAEError(f"{source}: {name!r} is no name for a category: give printable text")
    return name.strip()
