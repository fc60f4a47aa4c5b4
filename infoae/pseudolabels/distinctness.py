"""How cleanly categories are told apart, seen in the joint distribution of answers for pairs, without a label."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from infoae import metric_names
from infoae.pseudolabels import merging

Floats = NDArray[np.float64]

SIZEABLE = 0.25  # of a category: what is smaller is an odd style, not a second thing


def distinctions(joint: Floats) -> Floats:
    """Return how cleanly each two categories are told apart, 0 to 1, from the joint distribution (K, K) for pairs.

    It is the information that merging them loses, over what telling them apart without error would be worth; 1 also
    where it loses more, because other categories go with only one of them. At [i, j] with i < j; 1 elsewhere.
    """
    answered, (i, j) = joint.sum(1) > 0, np.indices(joint.shape)
    pairs = (i < j) & answered[i] & answered[j]
    found: Floats = np.where(pairs, np.minimum(merging.merging_losses(joint) / merging.perfect_losses(joint), 1.0), 1.0)
    return found


def of_joint(joint: Floats, category_of: NDArray[np.int64]) -> dict[str, float]:
    """Return how cleanly the two most alike categories and the halves of the most divided are told apart, 0 to 1."""
    merged = merging.merged_joint(joint, category_of)
    split = [told_apart for _, told_apart, _ in divided(joint, category_of)]
    return {
        metric_names.LEAST_DISTINCT: float(distinctions(merged).min()),
        metric_names.MOST_DIVIDED: max(split, default=0.0),
    }


def divided(joint: Floats, category_of: NDArray[np.int64]) -> Iterator[tuple[int, float, float]]:
    """Yield categories of two sizeable parts, how cleanly these are told apart, and how much of it the smaller is."""
    for category in range(int(category_of.max()) + 1):
        parts = _halves(joint, category_of, category)
        if parts is not None:
            smaller = float(parts.sum(1)[:2].min() / parts.sum(1)[:2].sum())
            if smaller >= SIZEABLE:
                yield category, float(distinctions(parts)[0, 1]), smaller


def _halves(joint: Floats, category_of: NDArray[np.int64], category: int) -> Floats | None:
    """Merge the over-categories of one category down to two: joint distribution (3, 3) of these and all others."""
    inside = np.flatnonzero((category_of == category) & (joint.sum(1) > 0))
    if len(inside) < 2:
        return None
    within = joint[np.ix_(inside, inside)]
    if not within.any():  # pairs of the category's images are all of other categories
        return None
    halves = np.full(len(joint), 2)
    halves[inside] = merging.merge(within / within.sum(), 2)[0]
    return merging.merged_joint(joint, halves) if (halves == 2).any() else None
