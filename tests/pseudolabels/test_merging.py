from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.pseudolabels import merging
from tests.helpers.synthetic import kinds


def mutual_information(joint: np.ndarray) -> float:
    """Mutual information in nats, cell by cell."""
    rows, columns = joint.sum(1), joint.sum(0)
    cells = np.ndenumerate(joint)
    return sum(float(p) * math.log(p / (rows[i] * columns[j])) for (i, j), p in cells if p > 0)


def merged(joint: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Add up the cells of each pair of groups."""
    membership = np.eye(categories.max() + 1)[categories]
    return np.asarray(membership.T @ joint @ membership)


def random_joint(size: int, seed: int, zeros: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    joint = random.random((size, size)) ** 3
    if zeros:
        joint[joint < 0.1] = 0
    joint += joint.T + np.eye(size) / 100
    return np.asarray(joint / joint.sum())


@given(st.integers(2, 7), st.integers(0, 1000), st.booleans())
def test_the_loss_of_each_merge_is_the_information_it_loses(size: int, seed: int, zeros: bool) -> None:
    joint = random_joint(size, seed, zeros)
    losses = merging.merging_losses(joint)
    for i in range(size):
        for j in range(size):
            if i < j:
                categories = np.arange(size)
                categories[j] = i
                _, categories = np.unique(categories, return_inverse=True)
                assert losses[i, j] == pytest.approx(
                    mutual_information(joint) - mutual_information(merged(joint, categories)), abs=1e-9
                )
            else:
                assert losses[i, j] == np.inf


@given(st.integers(3, 9), st.integers(0, 1000), st.booleans())
def test_no_single_move_keeps_more_information(size: int, seed: int, zeros: bool) -> None:
    joint = random_joint(size, seed, zeros)
    categories, left = merging.merge(joint, 3)
    for one in range(size):
        for category in range(3):
            moved = categories.copy()
            moved[one] = category
            assert mutual_information(merged(joint, moved)) <= left + 1e-6


@given(st.integers(3, 7), st.integers(0, 1000), st.booleans())
def test_distinctness_is_the_information_lost_over_what_it_is_at_most(size: int, seed: int, zeros: bool) -> None:
    joint = random_joint(size, seed, zeros)
    found, before, p = merging._distinctions(joint), mutual_information(joint), joint.sum(1)
    for i in range(size):
        for j in range(i + 1, size):
            categories = np.unique(np.where(np.arange(size) == j, i, np.arange(size)), return_inverse=True)[1]
            lost = before - mutual_information(merged(joint, categories))
            both, share = p[i] + p[j], p[i] / (p[i] + p[j]) if p[i] else 0.0
            if 0 < share < 1:
                most = -both * (share * math.log(share) + (1 - share) * math.log(1 - share))
                assert found[i, j] == pytest.approx(lost / most, abs=1e-9)
    assert (found[np.tril_indices(size)] == np.inf).all()
    left = merging.merge(joint, 3, "distinctness")
    assert left[1] == pytest.approx(mutual_information(merged(joint, left[0])), abs=1e-9)


def test_distinctness_keeps_rare_categories_apart_where_information_splits_a_common_one() -> None:
    """Two kinds of one thing, of 48 % each, that partners move between less often than not; two rare things of 2 %."""
    sizes, truth = np.array([0.48, 0.48, 0.02, 0.02]), [0, 0, 1, 2]
    mixed = np.diag([0.7, 0.7, 0.97, 0.97]) + np.array(
        [[0, 0.3, 0, 0], [0.3, 0, 0, 0], [0, 0, 0, 0.03], [0, 0, 0.03, 0]]
    )
    joint = sizes[:, None] * mixed
    assert merging.merge(joint, 3, "distinctness")[0].tolist() == truth
    assert merging.merge(joint, 3)[0][2] == merging.merge(joint, 3)[0][3]


def test_over_categories_never_answered_are_merged_first_by_distinctness() -> None:
    joint = np.zeros((6, 6))
    joint[:4, :4] = kinds(4, 1, 0.5)
    categories = merging.merge(joint, 4, "distinctness")[0]
    assert sorted(categories[:4].tolist()) == [0, 1, 2, 3]


def test_moves_keep_more_than_greedy_merging_alone() -> None:
    joints = [random_joint(12, seed) for seed in range(50)]
    gained = [merging.merge(joint, 3)[1] - merging.information_kept(joint)[3] for joint in joints]
    assert min(gained) >= -1e-9
    assert np.mean(np.array(gained) > 1e-3) > 0.3


@given(st.integers(3, 12), st.integers(0, 1000))
def test_merging_reports_the_information_left_and_numbers_by_probability(size: int, seed: int) -> None:
    joint = random_joint(size, seed)
    categories, left = merging.merge(joint, 3)
    assert sorted(set(categories.tolist())) == [0, 1, 2]
    result = merged(joint, categories)
    assert left == pytest.approx(mutual_information(result), abs=1e-9)
    assert left <= mutual_information(joint) + 1e-9
    assert (np.diff(result.sum(1)) <= 1e-12).all()


def test_blocks_are_found_whatever_their_order() -> None:
    """Over-categories of one class answer for each other's neighbours, those of different classes do not."""
    truth = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 5))
    joint = np.where(truth[:, None] == truth[None, :], 1.0, 0.01)
    categories, left = merging.merge(joint / joint.sum(), 4)
    pairs = {(int(a), int(b)) for a, b in zip(categories, truth, strict=True)}
    assert len(pairs) == 4
    assert left == pytest.approx(mutual_information(merged(joint / joint.sum(), categories)))


def test_as_many_categories_as_there_are_stay_as_they_are() -> None:
    joint = random_joint(4, 0)
    categories, left = merging.merge(joint, 4)
    assert sorted(categories.tolist()) == [0, 1, 2, 3]
    assert left == pytest.approx(mutual_information(joint))


@given(st.integers(2, 12), st.integers(2, 4), st.floats(0.4, 0.8), st.integers(0, 1000))
def test_the_number_of_things_is_found(num_things: int, num_kinds: int, mixed: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(num_things * num_kinds)
    joint = kinds(num_things, num_kinds, mixed)[np.ix_(order, order)]
    kept = merging.information_kept(joint)
    assert list(kept) == list(range(len(joint), 0, -1))
    assert all(kept[number] >= kept[number - 1] - 1e-12 for number in range(2, len(joint) + 1))
    assert kept[1] == pytest.approx(0, abs=1e-12)
    assert kept[num_things] == pytest.approx(merging.merge(joint, num_things)[1])
    assert merging.choose_number(kept) == num_things


def test_a_head_that_joins_things_does_not_decide_the_number() -> None:
    joined = kinds(2, 9, 0.6)
    assert merging.choose_number(merging.information_kept(joined)) == 2
    assert merging.choose_number(merging.information_kept(joined, *[kinds(6, 3, 0.6)] * 3)) == 6


def test_over_categories_that_are_hardly_used_do_not_decide_the_number() -> None:
    joint = np.zeros((14, 14))
    joint[:8, :8] = kinds(4, 2, 0.7) * 0.999
    joint[8:, 8:] = np.diag(10.0 ** -np.arange(4, 10))
    assert merging.choose_number(merging.information_kept(joint / joint.sum())) == 4
