"""Measures of a clustering, as pure functions of arrays: against classes, and without any label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infoae.errors import InfoAEError
from infoae.limits import MAX_CLASSES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SCORE_RESOLUTION = 0.01
"""Nats that the score, which no label goes into, may differ by from one set of as many images to another."""


def choose(scores: Sequence[float]) -> int:
    """Return the place of the last of the scores of a training that is as good as the highest.

    A smaller difference than SCORE_RESOLUTION says nothing, and the generator, which it does not see, learns longest.
    """
    good = np.flatnonzero(np.asarray(scores) >= max(scores) - SCORE_RESOLUTION)
    return int(good[-1])


def confusion_matrix(categories: Ints, classes: Ints, num_categories: int, num_classes: int) -> Ints:
    """Count images by category (row) and class (column): (N,), (N,) -> (num_categories, num_classes).

    Raises InfoAEError where there are more classes than MAX_CLASSES: their numbers may come from a file.
    """
    if num_classes > MAX_CLASSES:
        raise InfoAEError(f"the labels go up to {num_classes - 1}: number the classes from 0, at most {MAX_CLASSES}")
    counts = np.zeros((num_categories, num_classes), dtype=np.int64)
    np.add.at(counts, (categories, classes), 1)
    return counts


def match_categories(confusion: Ints) -> dict[int, int]:
    """Match categories to classes one-to-one so that most images agree (Hungarian method): category -> class.

    With more categories than classes some stay unmatched, and their images count as wrong.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(confusion, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True)}


def accuracy(confusion: Ints, matching: dict[int, int]) -> float:
    """Return the part of all images whose category is matched to their class (the paper's protocol, section 4)."""
    return float(sum(confusion[category, label] for category, label in matching.items()) / confusion.sum())


def many_to_one(confusion: Ints) -> float:
    """Return the part of the images that are of the class of most images of their category."""
    return float(confusion.max(1).sum() / confusion.sum())


def purity(confusion: Ints) -> Floats:
    """Return each category's part of images that are of its commonest class (num_categories,); 0 where empty."""
    sizes = confusion.sum(1)
    return np.asarray(confusion.max(1) / np.maximum(sizes, 1), dtype=np.float64)


def entropy(probabilities: Floats) -> float:
    """Entropy in nats of a distribution (K,); 0 log 0 is 0."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


def joint_distribution(p: Floats, q: Floats) -> Floats:
    """Symmetric joint distribution (K, K) of two answers for the same N things, probabilities (N, K) each."""
    joint = p.T @ q / len(p)
    return np.asarray((joint + joint.T) / 2)


def mutual_information(joint: Floats) -> float:
    """Mutual information in nats of a symmetric joint distribution (K, K); 0 log 0 is 0.

    As `losses.mutual_information`, which minimises it with a gradient.
    """
    return 2 * entropy(joint.sum(0)) - entropy(joint.ravel())


def mean_pairwise_distance(values: Floats) -> float:
    """Mean Euclidean distance between the rows of (N, D); NaN with fewer than two rows."""
    from scipy.spatial.distance import pdist

    return float(pdist(values).mean()) if len(values) > 1 else float("nan")
