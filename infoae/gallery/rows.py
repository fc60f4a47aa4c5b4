"""Which pictures stand for a category and for its parts: the most typical, doubtful ones, outliers. Without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHOWN = 16
"""Pictures of each kind that a row has, at most."""
OF_PART = 10
"""Pictures that a part has, at most."""


@dataclass(frozen=True)
class Row:
    """One category: its number, how many pictures are in it, and indices of those that a row shows, the first first."""

    category: int
    size: int
    typical: list[int]
    """Of the smallest angle from the mean latent of the category."""
    doubtful: list[int]
    """Least more probable than the next category."""
    outliers: list[int]
    """Of the largest angle from the mean latent of the category."""


@dataclass(frozen=True)
class Part:
    """An over-category: its number, how many pictures are in it, and indices of its most typical ones."""

    over: int
    size: int
    typical: list[int]


def parts(
    over: NDArray[np.int64], distance: NDArray[np.float32], category_of: NDArray[np.int64], num_categories: int
) -> list[list[Part]]:
    """Return the parts of each category that hold a picture, the largest first; none where a category is one part.

    `over` (N,) are the pictures' over-categories, `distance` (N,) those from the mean latents of these, and
    `category_of` (M,) is the category of each over-category.
    """
    found: list[list[Part]] = [[] for _ in range(num_categories)]
    for each, category in enumerate(category_of.tolist()):
        members = np.flatnonzero(over == each)
        typical = members[np.argsort(distance[members], kind="stable")][:OF_PART]
        if len(members):
            found[category].append(Part(each, len(members), typical.tolist()))
    return [sorted(inside, key=lambda part: -part.size) if len(inside) > 1 else [] for inside in found]


def distances(latents: NDArray[np.float32], categories: NDArray[np.int64], num_categories: int) -> NDArray[np.float32]:
    """Return the angle between each of latents (N, Z) and the mean of those of its category (N,): degrees, (N,).

    Both are seen from the mean of all latents, unless all are of one category. Lengths say little: a latent that is
    long is sure of its category, and far from the mean of it.
    """
    sizes = np.bincount(categories, minlength=num_categories)
    vectors = latents.astype(np.float64)
    if (sizes > 0).sum() > 1:
        vectors -= vectors.mean(axis=0)
    means = np.zeros((num_categories, latents.shape[1]))
    np.add.at(means, categories, vectors)
    cosines = (_unit(vectors) * _unit(means)[categories]).sum(axis=1)
    angles: NDArray[np.float32] = np.degrees(np.arccos(cosines.clip(-1, 1))).astype(np.float32)
    return angles


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def rows(
    categories: NDArray[np.int64],
    margins: NDArray[np.float32],
    distance: NDArray[np.float32],
    num_categories: int,
) -> list[Row]:
    """Return a row for each category, of the answers (N,), their margins (N,) and `distances` (N,).

    An outlier is never among the typical: of a small category each gets half.
    """
    found = []
    for category in range(num_categories):
        members = np.flatnonzero(categories == category)
        by_distance = members[np.argsort(distance[members], kind="stable")]
        half = min(SHOWN, (len(members) + 1) // 2)
        doubtful = members[np.argsort(margins[members], kind="stable")][:SHOWN]
        outliers = by_distance[half:][::-1][:SHOWN]
        found.append(Row(category, len(members), by_distance[:half].tolist(), doubtful.tolist(), outliers.tolist()))
    return found
