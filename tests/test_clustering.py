from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae import clustering


def information(joint: np.ndarray) -> float:
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
    losses = clustering.merging_losses(joint)
    for i in range(size):
        for j in range(size):
            if i < j:
                categories = np.arange(size)
                categories[j] = i
                _, categories = np.unique(categories, return_inverse=True)
                assert losses[i, j] == pytest.approx(
                    information(joint) - information(merged(joint, categories)), abs=1e-9
                )
            else:
                assert losses[i, j] == np.inf


@given(st.integers(3, 9), st.integers(0, 1000), st.booleans())
def test_no_single_move_keeps_more_information(size: int, seed: int, zeros: bool) -> None:
    joint = random_joint(size, seed, zeros)
    categories, left = clustering.merge(joint, 3)
    for one in range(size):
        for category in range(3):
            moved = categories.copy()
            moved[one] = category
            assert information(merged(joint, moved)) <= left + 1e-6


def test_moves_keep_more_than_greedy_merging_alone() -> None:
    joints = [random_joint(12, seed) for seed in range(50)]
    gained = [clustering.merge(joint, 3)[1] - clustering.information_kept(joint)[3] for joint in joints]
    assert min(gained) >= -1e-9
    assert np.mean(np.array(gained) > 1e-3) > 0.3


@given(st.integers(3, 12), st.integers(0, 1000))
def test_merging_reports_the_information_left_and_numbers_by_probability(size: int, seed: int) -> None:
    joint = random_joint(size, seed)
    categories, left = clustering.merge(joint, 3)
    assert sorted(set(categories.tolist())) == [0, 1, 2]
    result = merged(joint, categories)
    assert left == pytest.approx(information(result), abs=1e-9)
    assert left <= information(joint) + 1e-9
    assert (np.diff(result.sum(1)) <= 1e-12).all()


def test_blocks_are_found_whatever_their_order() -> None:
    """Over-categories of one class answer for each other's neighbours, those of different classes do not."""
    truth = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 5))
    joint = np.where(truth[:, None] == truth[None, :], 1.0, 0.01)
    categories, left = clustering.merge(joint / joint.sum(), 4)
    pairs = {(int(a), int(b)) for a, b in zip(categories, truth, strict=True)}
    assert len(pairs) == 4
    assert left == pytest.approx(information(merged(joint / joint.sum(), categories)))


def test_as_many_categories_as_there_are_stay_as_they_are() -> None:
    joint = random_joint(4, 0)
    categories, left = clustering.merge(joint, 4)
    assert sorted(categories.tolist()) == [0, 1, 2, 3]
    assert left == pytest.approx(information(joint))


def kinds(num_things: int, num_kinds: int, mixed: float) -> np.ndarray:
    """Joint distribution of answers of `num_kinds` for each of `num_things`, kinds of a thing mixed up that often."""
    size = num_things * num_kinds
    same_thing = np.kron(np.eye(num_things), np.ones((num_kinds, num_kinds)) / num_kinds)
    joint = (1 - mixed) * np.eye(size) + mixed * same_thing
    return np.asarray(0.97 * joint / size + 0.03 / size**2)


@given(st.integers(2, 12), st.integers(2, 4), st.floats(0.4, 0.8), st.integers(0, 1000))
def test_the_number_of_things_is_found(num_things: int, num_kinds: int, mixed: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(num_things * num_kinds)
    joint = kinds(num_things, num_kinds, mixed)[np.ix_(order, order)]
    kept = clustering.information_kept(joint)
    assert list(kept) == list(range(len(joint), 0, -1))
    assert all(kept[number] >= kept[number - 1] - 1e-12 for number in range(2, len(joint) + 1))
    assert kept[1] == pytest.approx(0, abs=1e-12)
    assert kept[num_things] == pytest.approx(clustering.merge(joint, num_things)[1])
    assert clustering.choose_number(kept) == num_things


def test_over_categories_that_are_hardly_used_do_not_decide_the_number() -> None:
    joint = np.zeros((14, 14))
    joint[:8, :8] = kinds(4, 2, 0.7) * 0.999
    joint[8:, 8:] = np.diag(10.0 ** -np.arange(4, 10))
    assert clustering.choose_number(clustering.information_kept(joint / joint.sum())) == 4
