"""From many over-categories to the wanted number, by merging those between which images and their partners move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from infoae import metrics
from infoae.config import MergingCriterion

Floats = NDArray[np.float64]

SMALL = 0.01  # nats
LEAST_GAIN = 1e-9  # above rounding, so that moves end
SMALLEST = 1e-12  # share of a category that is never answered


def merge(
    joint: Floats, num_categories: int, criterion: MergingCriterion = "mutual_information"
) -> tuple[NDArray[np.int64], float]:
    """Merge the categories of a symmetric joint distribution (M, M) until `num_categories` are left.

    Greedily first, by the agglomerative information bottleneck of Slonim and Tishby (1999) on the joint distribution of
    the answers for two views: each merge is the one that loses the least mutual information. Then one of the M at a
    time moves to where it keeps the most, until none does (sequential: Slonim, Friedman and Tishby 2002): what was
    merged early may belong elsewhere once there are fewer. Information weighs a category by its size; so with
    `criterion` "distinctness" each merge is of the two that are told apart least cleanly, for their size, and none
    moves. Returns the category of each of the M (M,), numbered by falling probability, and the mutual information in
    nats that is left.
    """
    by_information = criterion == "mutual_information"
    losses = merging_losses if by_information else _distinctions
    groups = next(groups for groups, _ in _merges(joint, losses) if len(groups) == num_categories)
    categories = np.empty(len(joint), np.int64)
    for number, group in enumerate(groups):
        categories[group] = number
    if by_information:
        categories = _moved(joint, categories)
    merged = merged_joint(joint, categories)
    rank = np.argsort(np.argsort(-merged.sum(1), kind="stable"))
    return rank[categories], metrics.mutual_information(merged)


def merged_joint(joint: Floats, categories: NDArray[np.int64]) -> Floats:
    """Return the joint distribution (K, K) of merged categories, given the category of each of the M (M,)."""
    member = np.eye(categories.max() + 1)[categories]
    return np.asarray(member.T @ joint @ member)


def information_kept(*joints: Floats) -> dict[int, float]:
    """Return the mutual information in nats that merging leaves, by number of categories from M down to 1.

    It is the mean over the joint distributions (M, M) of several heads, each merged by itself.
    """
    every = [[metrics.mutual_information(merged) for _, merged in _merges(joint, merging_losses)] for joint in joints]
    return dict(zip(range(len(joints[0]), 0, -1), np.mean(every, 0).tolist(), strict=True))


def bends(kept: Mapping[int, float]) -> dict[int, float]:
    """Return how much `information_kept` bends at each number of categories, 2 or more.

    Down to the right number a merge joins two kinds of the same thing, which answers for two views mix up; the next
    one joins different things. So it is what the merge of a number loses as a multiple of what the merge before it
    lost; losses below 0.01 nats count as 0.01, or the first merges of hardly used categories would decide.
    """
    lost = {number: kept[number] - kept[number - 1] for number in range(2, max(kept) + 1)}
    return {number: lost[number] / max(lost[number + 1], SMALL) for number in range(2, max(kept))}


def choose_number(kept: Mapping[int, float]) -> int:
    """Return the number of categories, 2 or more, where `information_kept` bends most."""
    found = bends(kept)
    return max(found, key=found.__getitem__, default=max(kept))


def _merges(joint: Floats, losses: Callable[[Floats, Floats], Floats]) -> Iterator[tuple[list[list[int]], Floats]]:
    """Yield the groups of categories and their joint distribution, before the first merge and after each.

    The sums that `merging_losses` needs are M^3 logarithms; a merge changes them in M^2 places.
    """
    groups = [[index] for index in range(len(joint))]
    joint = joint.astype(np.float64, copy=True)
    sums = _sums_of_pairs(joint)
    yield groups, joint
    while len(groups) > 1:
        first, second = np.unravel_index(losses(joint, sums).argmin(), joint.shape)
        one, other = joint[:, first].copy(), joint[:, second].copy()
        sums += _of_pairs(one + other) - _of_pairs(one) - _of_pairs(other)
        joint[first] += joint[second]
        joint[:, first] += joint[:, second]
        joint, sums = (np.delete(np.delete(each, second, 0), second, 1) for each in (joint, sums))
        groups[first] += groups.pop(second)
        place = first - (second < first)
        sums[place] = sums[:, place] = _xlogx(joint[place] + joint).sum(1)
        yield groups, joint


def _moved(joint: Floats, categories: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move one of the M at a time to the category where it keeps most information, until no move gains any."""
    moved = True
    while moved:
        moved = False
        for one in np.flatnonzero(joint.sum(1) > 0):
            if np.count_nonzero(categories == categories[one]) == 1:
                continue  # a category keeps its last one
            others, links = joint.copy(), joint[one].copy()
            others[one] = others[:, one] = links[one] = 0
            rest = merged_joint(others, categories)
            links = np.bincount(categories, links, len(rest)).astype(np.float64)
            gained = _information_gains(rest, links, float(joint[one, one]))
            if gained.max() > gained[categories[one]] + LEAST_GAIN:
                categories[one], moved = gained.argmax(), True
    return categories


def _information_gains(rest: Floats, links: Floats, own: float) -> Floats:
    """Return the information gained (K,) by putting one more into each category, up to what is the same for all.

    `rest` (K, K) is the joint distribution of the others, `links` (K,) and `own` that of the one with them and itself.
    """
    inside, marginal = np.diag(rest), rest.sum(1) + links
    cells = _xlogx(rest + links) - _xlogx(rest)
    outside = 2 * (cells.sum(1) - np.diag(cells))
    diagonal = _xlogx(inside + 2 * links + own) - _xlogx(inside)
    gained: Floats = outside + diagonal - 2 * (_xlogx(marginal + links.sum() + own) - _xlogx(marginal))
    return gained


def merging_losses(joint: Floats, sums: Floats | None = None) -> Floats:
    """Return the information lost by merging each pair, at [i, j] with i < j; infinity elsewhere.

    I = sum f(P_kl) - 2 sum f(P_k) with f(p) = p log p, so only the terms of rows and columns i and j change. `sums` are
    those over k of f(P_ik + P_jk), made anew if not given.
    """
    sums = _sums_of_pairs(joint) if sums is None else sums
    cells, marginal = _xlogx(joint), joint.sum(1)
    rows = cells.sum(1)
    diagonal = np.diag(joint)
    with_own = _xlogx(joint + diagonal)
    outside = sums - with_own.T - with_own  # over k other than i and j
    before = 2 * np.add.outer(rows, rows) - np.add.outer(np.diag(cells), np.diag(cells)) - 2 * cells
    after = 2 * outside + _xlogx(np.add.outer(diagonal, diagonal) + 2 * joint)
    gained = 2 * (_xlogx(np.add.outer(marginal, marginal)) - np.add.outer(_xlogx(marginal), _xlogx(marginal)))
    losses: Floats = before - after + gained
    losses[np.tri(len(joint), dtype=bool)] = np.inf
    return losses


def _sums_of_pairs(joint: Floats) -> Floats:
    """Return the sums over k of f(P_ik + P_jk), (M, M)."""
    return np.stack([_xlogx(row + joint).sum(1) for row in joint])


def _of_pairs(column: Floats) -> Floats:
    return _xlogx(column[:, None] + column)


def perfect_losses(joint: Floats) -> Floats:
    """Return the information that merging each pair would lose if the two were told apart without error, (M, M)."""
    marginal = np.maximum(joint.sum(1), SMALLEST)
    lost: Floats = _xlogx(np.add.outer(marginal, marginal)) - np.add.outer(_xlogx(marginal), _xlogx(marginal))
    return lost


def _distinctions(joint: Floats, sums: Floats | None = None) -> Floats:
    """Return how cleanly each pair is told apart, 1 being without error, at [i, j] with i < j; infinity elsewhere."""
    return merging_losses(joint, sums) / perfect_losses(joint)


def _xlogx(values: Floats) -> Floats:
    found = np.maximum(values, np.finfo(np.float64).tiny)
    np.log(found, out=found)
    found *= values  # of no negative value
    return found
