"""From many over-categories to the wanted number, by merging those between which images and their partners move."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from infoae.config import Merging

Floats = NDArray[np.float64]

SMALL = 0.01  # nats
LEAST_GAIN = 1e-9  # above rounding, so that moves end


def merge(joint: Floats, num_categories: int, merging: Merging = "information") -> tuple[NDArray[np.int64], float]:
    """Merge the categories of a symmetric joint distribution (M, M) until `num_categories` are left.

    Greedily first: each merge is the one that loses the least mutual information (the agglomerative information
    bottleneck of Slonim and Tishby 1999, on the joint distribution of the answers for two views), or, with `merging`
    "cut", the least of the sum over categories of the part of each whose partners are in it, too: the number of
    categories minus their normalised cut (Shi and Malik 2000). Information weighs a category by its size, the cut does
    not. Then one of the M at a time moves to where it keeps the most, until none does (sequential: Slonim, Friedman and
    Tishby 2002): what was merged early may belong elsewhere once there are fewer. Returns the category of each of the M
    (M,), numbered by falling probability, and the mutual information in nats that is left.
    """
    losses, value = (merging_losses, _information) if merging == "information" else (_cut_losses, _uncut)
    groups = next(groups for groups, _ in _merges(joint, losses) if len(groups) == num_categories)
    categories = np.empty(len(joint), np.int64)
    for number, group in enumerate(groups):
        categories[group] = number
    categories = _moved(joint, categories, value)
    merged = merged_joint(joint, categories)
    rank = np.argsort(np.argsort(-merged.sum(1), kind="stable"))
    return rank[categories], _information(merged)


def merged_joint(joint: Floats, categories: NDArray[np.int64]) -> Floats:
    """Return the joint distribution (K, K) of merged categories, given the category of each of the M (M,)."""
    member = np.eye(categories.max() + 1)[categories]
    return np.asarray(member.T @ joint @ member)


def information_kept(joint: Floats) -> dict[int, float]:
    """Return the mutual information in nats that merging leaves, by number of categories from M down to 1."""
    return {len(groups): _information(merged) for groups, merged in _merges(joint, merging_losses)}


def choose_number(kept: dict[int, float]) -> int:
    """Return the number of categories, 2 or more, where `information_kept` bends most.

    Down to the right number a merge joins two kinds of the same thing, which answers for two views mix up; the next
    one joins different things. So it is the number whose merge loses the largest multiple of what the merge before it
    lost; losses below 0.01 nats count as 0.01, or the first merges of hardly used categories would decide.
    """
    lost = {number: kept[number] - kept[number - 1] for number in range(2, max(kept) + 1)}
    bends = {number: lost[number] / max(lost[number + 1], SMALL) for number in range(2, max(kept))}
    return max(bends, key=bends.__getitem__, default=max(kept))


def _merges(joint: Floats, losses: Callable[[Floats], Floats]) -> Iterator[tuple[list[list[int]], Floats]]:
    """Yield the groups of categories and their joint distribution, before the first merge and after each."""
    groups = [[index] for index in range(len(joint))]
    joint = joint.astype(np.float64, copy=True)
    yield groups, joint
    while len(groups) > 1:
        first, second = np.unravel_index(losses(joint).argmin(), joint.shape)
        joint[first] += joint[second]
        joint[:, first] += joint[:, second]
        joint = np.delete(np.delete(joint, second, 0), second, 1)
        groups[first] += groups.pop(second)
        yield groups, joint


def _moved(joint: Floats, categories: NDArray[np.int64], value: Callable[[Floats], float]) -> NDArray[np.int64]:
    """Move one of the M at a time to the category where it keeps the most of `value`, until no move gains any."""
    kept, moved = value(merged_joint(joint, categories)), True
    while moved:
        moved = False
        for one in np.flatnonzero(joint.sum(1) > 0):
            for category in range(categories.max() + 1):
                if np.count_nonzero(categories == categories[one]) == 1:
                    break  # a category keeps its last one
                tried = categories.copy()
                tried[one] = category
                would_keep = value(merged_joint(joint, tried))
                if would_keep > kept + LEAST_GAIN:
                    categories, kept, moved = tried, would_keep, True
    return categories


def _information(joint: Floats) -> float:
    return float(_xlogx(joint).sum() - 2 * _xlogx(joint.sum(1)).sum())


def merging_losses(joint: Floats) -> Floats:
    """Return the information lost by merging each pair, at [i, j] with i < j; infinity elsewhere.

    I = sum f(P_kl) - 2 sum f(P_k) with f(p) = p log p, so only the terms of rows and columns i and j change.
    """
    cells, marginal = _xlogx(joint), joint.sum(1)
    rows = cells.sum(1)
    merged_rows = _xlogx(joint[:, None, :] + joint[None, :, :])  # f(P_ik + P_jk) for every pair and k
    diagonal, i, j = np.diag(joint), *np.indices(joint.shape)
    outside = merged_rows.sum(2) - merged_rows[i, j, i] - merged_rows[i, j, j]  # over k other than i and j
    before = 2 * (rows[i] + rows[j]) - cells[i, i] - 2 * cells[i, j] - cells[j, j]
    after = 2 * outside + _xlogx(diagonal[i] + 2 * joint + diagonal[j])
    gained = 2 * (_xlogx(marginal[i] + marginal[j]) - _xlogx(marginal)[i] - _xlogx(marginal)[j])
    return np.where(i < j, before - after + gained, np.inf)


def _uncut(joint: Floats) -> float:
    """Sum over categories of the part of each whose partners are in it, too; 0 for one that is never answered."""
    return float((np.diag(joint) / np.maximum(joint.sum(1), np.finfo(np.float64).tiny)).sum())


def _cut_losses(joint: Floats) -> Floats:
    """Return what merging each pair loses of `_uncut`, at [i, j] with i < j; infinity elsewhere."""
    inside, marginal, i, j = np.diag(joint), joint.sum(1), *np.indices(joint.shape)
    tiny = np.finfo(np.float64).tiny
    parts = inside / np.maximum(marginal, tiny)
    merged = (inside[i] + 2 * joint + inside[j]) / np.maximum(marginal[i] + marginal[j], tiny)
    return np.where(i < j, parts[i] + parts[j] - merged, np.inf)


def _xlogx(values: Floats) -> Floats:
    return np.where(values > 0, values * np.log(np.maximum(values, np.finfo(np.float64).tiny)), 0.0)
