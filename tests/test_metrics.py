from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from infoae import metrics
from infoae.errors import InfoAEError


@given(npst.arrays(np.int64, (4, 4), elements=st.integers(0, 20)))
def test_matching_is_the_best_of_all_one_to_one_matchings(confusion: np.ndarray) -> None:
    matching = metrics.match_categories(confusion)
    assert sorted(matching) == sorted(matching.values()) == [0, 1, 2, 3]
    best = max(sum(confusion[i, p[i]] for i in range(4)) for p in itertools.permutations(range(4)))
    assert sum(confusion[i, j] for i, j in matching.items()) == best


def test_accuracy_of_a_relabelled_copy_is_one() -> None:
    labels = np.arange(100) % 5
    confusion = metrics.confusion_matrix((labels + 2) % 5, labels, 5, 5)
    matching = metrics.match_categories(confusion)
    assert matching == {2: 0, 3: 1, 4: 2, 0: 3, 1: 4}
    assert metrics.accuracy(confusion, matching) == 1
    assert metrics.purity(confusion).tolist() == [1] * 5


def test_more_categories_than_classes_leave_some_unmatched_and_wrong() -> None:
    confusion = np.array([[6, 0], [0, 5], [4, 0]])
    matching = metrics.match_categories(confusion)
    assert matching == {0: 0, 1: 1}
    assert metrics.accuracy(confusion, matching) == pytest.approx(11 / 15)


def test_many_to_one_gives_each_category_its_commonest_class() -> None:
    confusion = np.array([[5, 1, 0], [4, 0, 0], [0, 2, 3], [0, 0, 0]])
    assert metrics.many_to_one(confusion) == pytest.approx((5 + 4 + 3) / 15)
    assert metrics.accuracy(confusion, metrics.match_categories(confusion)) == pytest.approx((5 + 0 + 3) / 15)


def test_confusion_counts_by_category_and_class() -> None:
    counts = metrics.confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 0]), 3, 2)
    assert counts.tolist() == [[0, 2], [0, 0], [1, 0]]
    assert metrics.purity(counts).tolist() == [1, 0, 1]


def test_entropy_of_an_even_distribution_is_log_k() -> None:
    assert metrics.entropy(np.full(8, 1 / 8)) == pytest.approx(math.log(8))
    assert metrics.entropy(np.array([1.0, 0.0])) == 0


@given(
    npst.arrays(np.float64, (7, 3), elements=st.floats(0.01, 1)),
    npst.arrays(np.float64, (7, 3), elements=st.floats(0.01, 1)),
)
def test_mutual_information_is_the_loss_with_its_sign_turned(a: np.ndarray, b: np.ndarray) -> None:
    import torch

    from infoae import losses

    p, q = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
    expected = -losses.mutual_information(torch.tensor(np.log(p)), torch.tensor(np.log(q))).item()
    assert metrics.mutual_information(metrics.joint_distribution(p, q)) == pytest.approx(expected, abs=1e-5)


def test_mutual_information_of_independent_answers_is_zero() -> None:
    p = np.tile(np.array([0.25, 0.75]), (50, 1))
    assert metrics.mutual_information(metrics.joint_distribution(p, p)) == pytest.approx(0, abs=1e-12)


def test_mean_pairwise_distance() -> None:
    assert metrics.mean_pairwise_distance(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx(10 / 3)
    assert math.isnan(metrics.mean_pairwise_distance(np.zeros((1, 2))))


def test_a_class_of_a_huge_number_is_refused_before_its_matrix_is_made() -> None:
    labels = np.array([0, 59_000_000])
    with pytest.raises(InfoAEError, match="59000000: number the classes from 0"):
        metrics.confusion_matrix(np.zeros(2, np.int64), labels, 10**9, int(labels.max()) + 1)
