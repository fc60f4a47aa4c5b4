"""How cleanly categories are told apart, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.evaluation.health import CLEAN
from infoae.pseudolabels import distinctness, merging
from tests.helpers.synthetic import kinds


@given(st.integers(2, 5), st.integers(2, 3), st.integers(0, 1000))
def test_categories_are_told_apart_between_not_at_all_and_perfectly(k: int, num_kinds: int, seed: int) -> None:
    joint = kinds(k, num_kinds, np.random.default_rng(seed).uniform())
    size = len(joint)
    found = distinctness.distinctions(joint)
    assert found.shape == (size, size)
    assert ((found >= -1e-9) & (found <= 1 + 1e-9)).all()
    assert distinctness.distinctions(np.eye(4) / 4) == pytest.approx(np.ones((4, 4)))
    assert distinctness.distinctions(np.ones((4, 4)) / 16)[np.triu_indices(4, 1)] == pytest.approx(0)
    never = distinctness.distinctions(np.diag([0.5, 0.5, 0]))
    assert never == pytest.approx(np.ones((3, 3)))


def test_a_distinction_is_the_information_lost_over_what_it_could_be() -> None:
    """Two of three mixed up in a tenth of the pairs: 0.6 H(1/2, 1/2) is what no mistake would be worth."""
    joint = np.array([[0.27, 0.03, 0], [0.03, 0.27, 0], [0, 0, 0.4]])
    kept = 0.54 * np.log(0.9) + 0.06 * np.log(0.1) + 0.6 * np.log(2)
    assert distinctness.distinctions(joint)[0, 1] == pytest.approx(kept / (0.6 * np.log(2)))


def test_what_a_joint_says_of_categories_in_two_numbers() -> None:
    joint, right = kinds(10, 3, 0.9), np.arange(30) // 3
    good = distinctness.of_joint(joint, right)
    assert good["least_told_apart"] > CLEAN > good["most_divided"]
    assert distinctness.of_joint(joint, merging.merge(joint, 9)[0])["most_divided"] > CLEAN
    split = right.copy()
    split[0] = 10
    assert distinctness.of_joint(joint, split)["least_told_apart"] < CLEAN
    nothing_merged = distinctness.of_joint(np.eye(10) / 10, np.arange(10))
    assert nothing_merged == pytest.approx({"least_told_apart": 1.0, "most_divided": 0.0})


@pytest.mark.parametrize(("smaller", "found"), [(0.5, True), (1 / 3, True), (0.1, False)])
def test_the_parts_of_a_divided_category_are_found_if_both_are_sizeable(smaller: float, found: bool) -> None:
    """Two things in one category, beside a third thing; one of a tenth is an odd style."""
    joint = np.diag([0.6 * (1 - smaller), 0.6 * smaller, 0.4])
    divided = list(distinctness.divided(joint, np.array([0, 0, 1])))
    assert len(divided) == found
    for category, told_apart, share in divided:
        assert category == 0
        assert told_apart == pytest.approx(1)
        assert share == pytest.approx(smaller)


def test_parts_that_partners_mix_up_are_one_thing() -> None:
    joint = np.array([[0.15, 0.15, 0], [0.15, 0.15, 0], [0, 0, 0.4]])
    ((category, told_apart, share),) = distinctness.divided(joint, np.array([0, 0, 1]))
    assert category == 0
    assert told_apart == pytest.approx(0, abs=1e-9)
    assert share == pytest.approx(0.5)
