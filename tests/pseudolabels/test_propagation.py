"""Which images are anchors among neighbours, and where walks over neighbours end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.pseudolabels import propagation
from tests.helpers.synthetic import ring


@pytest.fixture(autouse=True, scope="module", params=[7, 100_000])
def chunk(request: pytest.FixtureRequest) -> Iterator[None]:
    """Images in several chunks, and in one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(propagation, "CHUNK", request.param)
        yield


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_anchors_have_the_label_of_all_images_within_so_many_hops(hops: int) -> None:
    """A ring of two categories of fifty images, and an image without a label."""
    labels = np.arange(100) // 50
    labels[25] = -1
    expected = labels.copy()
    for odd in (0, 25, 50, 99, 49):
        reach = hops if odd == 25 else hops - 1
        expected[np.arange(odd - reach, odd + reach + 1) % 100] = -1
    given_labels = labels.copy()
    assert (propagation.anchors(labels, ring(100), hops) == expected).all()
    assert (labels == given_labels).all()


def test_a_category_keeps_half_of_its_images() -> None:
    """A ring of categories of 80, 7 and 13 images: four hops would leave 72, none and 5 of them."""
    labels = np.repeat([0, 1, 2], [80, 7, 13])
    anchored = propagation.anchors(labels, ring(100), 4)
    assert [np.flatnonzero(anchored == category).tolist() for category in range(3)] == [
        list(range(4, 76)),
        list(range(81, 86)),
        list(range(90, 97)),
    ]


@given(st.integers(0, 2**16), st.integers(0, 4))
def test_anchors_against_a_search_from_neighbour_to_neighbour(seed: int, hops: int) -> None:
    """Image by image; neighbours are mostly of one's own category, some images have no label."""
    random = np.random.default_rng(seed)
    truth = np.arange(60) % 3
    strays = random.random((60, 2)) < 0.1
    neighbours = np.where(strays, random.integers(0, 60, (60, 2)), 3 * random.integers(0, 20, (60, 2)) + truth[:, None])
    labels = np.where(random.random(60) < 0.05, -1, truth)

    def within(image: int, left: int) -> set[int]:
        return {image}.union(*(within(other, left - 1) for other in neighbours[image] if left))

    expected = np.full(60, -1)
    for category in range(3):
        labelled = np.flatnonzero(labels == category).tolist()
        kept = labelled
        for reach in range(1, hops + 1):
            fewer = [image for image in kept if all(labels[other] == category for other in within(image, reach))]
            if 2 * len(fewer) < len(labelled):
                break
            kept = fewer
        expected[kept] = category
    assert propagation.anchors(labels, neighbours, hops).tolist() == expected.tolist()


@given(st.integers(0, 2**16))
def test_walks_end_as_the_absorbing_chain_says(seed: int) -> None:
    """Against the power of the transition matrix of an absorbing Markov chain."""
    random = np.random.default_rng(seed)
    neighbours, anchored = random.integers(0, 40, (40, 3)), np.where(random.random(40) < 0.5, np.arange(40) % 3, -1)
    anchored[:3] = [0, 1, 2]
    step = np.zeros((40, 40))
    np.add.at(step, (np.repeat(np.arange(40), 3), neighbours.ravel()), 1 / 3)
    known = anchored >= 0
    step[known] = np.eye(40)[known]
    chance = np.linalg.matrix_power(step, propagation.WALK)[:, known] @ np.eye(3)[anchored[known]]
    chance /= np.maximum(chance.sum(1, keepdims=True), 1e-12)  # of the walks that end
    for share in (0.55, 0.8):
        found = propagation.propagate(anchored, neighbours, 3, share)
        clear = np.abs(chance - share).min(1) > 1e-4
        assert (found[clear] == np.where(chance.max(1) >= share, chance.argmax(1), -1)[clear]).all()
        assert (found[known] == anchored[known]).all()


def test_without_any_label_there_is_no_anchor() -> None:
    nothing = np.full(10, -1)
    assert (propagation.anchors(nothing, ring(10), 2) == -1).all()
    assert (propagation.propagate(nothing, ring(10), 3, 0.8) == -1).all()


def test_walks_that_end_nowhere_give_nothing() -> None:
    """The last two images are each other's neighbours."""
    neighbours = np.array([[1], [0], [1], [4], [3]])
    assert propagation.propagate(np.array([0, 0, -1, -1, -1]), neighbours, 2, 0.8).tolist() == [0, 0, 0, -1, -1]
