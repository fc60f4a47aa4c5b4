"""Which categories corrections leave, their numbers, and the over-categories of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infoae.errors import UsageError
from infoae.gallery.corrections import Corrections
from infoae.pseudolabels import merging

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Renumbered:
    """The categories that corrections leave, and which over-categories are in each."""

    source: Ints
    """(M',) the over-category of the old model that each is, or is a copy of."""
    category_of: Ints
    """(M',) the new category of each."""
    new_numbers: dict[int, list[int]]
    """Old category -> the new ones that its pictures go to."""

    @property
    def num_categories(self) -> int:
        """K'."""
        return int(self.category_of.max()) + 1

    @property
    def copied(self) -> list[tuple[int, int]]:
        """The new categories, two each, that are told apart by latents alone: both hold a copy of one over-category."""
        twice = np.flatnonzero(np.bincount(self.source) > 1)
        return [tuple(self.category_of[self.source == over].tolist()) for over in twice]


def renumbered(category_of: Ints, given: Corrections, found: Floats | None) -> Renumbered:
    """Return the categories that `given` leaves of those of over-categories (M,).

    Over-categories go to other categories first, then these are merged and split. A merge has the number of its first
    category, the second part of a split comes last. A category is split into the two that its over-categories merge
    into, by their joint distribution `found` (M, M); one that has a single over-category is split in two by latents,
    each part with a copy of it. A category of which nothing is left is where its over-categories went. Raises
    UsageError if one category is left, for an over-category that there is not, and for a split of what is empty.
    """
    first = {category: min(group) for group in given.merges for category in group}
    placed = _placed(category_of, given)
    merged = np.array([first.get(category, category) for category in placed.tolist()])
    parts: dict[int, list[Ints]] = {}
    for category in np.unique(merged).tolist():
        inside = np.flatnonzero(merged == category)
        if category in given.splits:
            assert found is not None
            parts[category] = list(_halves(inside, found))
        else:
            parts[category] = [inside]
    ordered = [(category, found[0]) for category, found in parts.items()]
    ordered += [(category, found[1]) for category, found in parts.items() if len(found) > 1]
    if len(ordered) < 2:
        raise UsageError("these merges leave one category: there have to be two")
    numbers = {category: [new for new, (old, _) in enumerate(ordered) if old == category] for category in parts}
    return Renumbered(
        np.concatenate([inside for _, inside in ordered]),
        np.repeat(np.arange(len(ordered)), [len(inside) for _, inside in ordered]),
        {
            category: numbers.get(first.get(category, category))
            or sorted({new for went in merged[category_of == category].tolist() for new in numbers[went]})
            for category in range(given.num_categories)
        },
    )


def _placed(category_of: Ints, given: Corrections) -> Ints:
    """Return the category of each over-category (M,) once those that belong elsewhere are there."""
    placed = category_of.copy()
    for over, category in given.parts.items():
        if over >= len(placed):
            raise UsageError(f"part {over} of {len(placed)}, which are 0 to {len(placed) - 1}")
        placed[over] = category
    if empty := sorted(set(given.splits) - set(placed.tolist())):
        raise UsageError(f"category {empty[0]} is to be split, and all its parts are to go elsewhere")
    return placed


def _halves(inside: Ints, found: Floats) -> tuple[Ints, Ints]:
    """Return a category's over-categories (.,) in two parts, the same one in both where but one is ever answered."""
    used = inside[found[np.ix_(inside, inside)].sum(1) > 0]
    if len(used) < 2:
        one = used if len(used) else inside[:1]
        return inside, one
    within = found[np.ix_(used, used)]
    second = used[merging.merge(within / within.sum(), 2)[0] == 1]
    return np.setdiff1d(inside, second), second
