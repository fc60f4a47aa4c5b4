"""What is certain of categories over links between neighbours, and where walks over them end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.synthetic import ring


@pytest.mark.parametrize("links", [1, 2, 3])
def test_what_all_images_within_so_many_links_have_is_certain(links: int) -> None:
    """A ring of two categories of fifty images, and an image no one agreed on."""
    agreed = np.arange(100) // 50
    agreed[25] = -1
    expected = agreed.copy()
    for odd in (0, 25, 50, 99, 49):
        reach = links if odd == 25 else links - 1
        expected[np.arange(odd - reach, odd + reach + 1) % 100] = -1
    assert (propagation.anchors(agreed, ring(100), links) == expected).all()


def test_a_category_keeps_half_of_its_images() -> None:
    """A ring of categories of 80, 7 and 13 images: four links would leave 72, none and 5 of them."""
    agreed = np.repeat([0, 1, 2], [80, 7, 13])
    certain = propagation.anchors(agreed, ring(100), 4)
    assert [np.flatnonzero(certain == category).tolist() for category in range(3)] == [
        list(range(4, 76)),
        list(range(81, 86)),
        list(range(90, 97)),
    ]


@given(st.integers(0, 2**16), st.integers(0, 4))
def test_certain_against_a_search_along_the_links(seed: int, links: int) -> None:
    random = np.random.default_rng(seed)
    partners, agreed = random.integers(0, 60, (60, 2)), np.where(random.random(60) < 0.05, 1, 0)

    def within(image: int, left: int) -> set[int]:
        return {image}.union(*(within(other, left - 1) for other in partners[image] if left))

    alike = np.array([all(agreed[other] == agreed[image] for other in within(image, links)) for image in range(60)])
    if all(2 * alike[agreed == each].sum() >= (agreed == each).sum() for each in set(agreed)):
        assert (propagation.anchors(agreed, partners, links) == np.where(alike, agreed, -1)).all()


@given(st.integers(0, 2**16))
def test_walks_end_as_the_absorbing_chain_says(seed: int) -> None:
    """Against the power of the transition matrix of an absorbing Markov chain."""
    random = np.random.default_rng(seed)
    partners, certain = random.integers(0, 40, (40, 3)), np.where(random.random(40) < 0.5, np.arange(40) % 3, -1)
    certain[:3] = [0, 1, 2]
    step = np.zeros((40, 40))
    np.add.at(step, (np.repeat(np.arange(40), 3), partners.ravel()), 1 / 3)
    known = certain >= 0
    step[known] = np.eye(40)[known]
    chance = np.linalg.matrix_power(step, propagation.WALK)[:, known] @ np.eye(3)[certain[known]]
    chance /= np.maximum(chance.sum(1, keepdims=True), 1e-12)  # of the walks that end
    for share in (0.55, 0.8):
        found = propagation.propagate(certain, partners, 3, share)
        clear = np.abs(chance - share).min(1) > 1e-4
        assert (found[clear] == np.where(chance.max(1) >= share, chance.argmax(1), -1)[clear]).all()
        assert (found[known] == certain[known]).all()


def test_without_any_agreement_nothing_is_certain() -> None:
    nothing = np.full(10, -1)
    assert (propagation.anchors(nothing, ring(10), 2) == -1).all()
    assert (propagation.propagate(nothing, ring(10), 3, 0.8) == -1).all()


def test_walks_that_end_nowhere_give_nothing() -> None:
    """The last two images are each other's partners."""
    partners = np.array([[1], [0], [1], [4], [3]])
    assert propagation.propagate(np.array([0, 0, -1, -1, -1]), partners, 2, 0.8).tolist() == [0, 0, 0, -1, -1]
