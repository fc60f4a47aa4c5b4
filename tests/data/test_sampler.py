"""Which images each step sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.config import Train
from infoae.data.sampler import batches, check_shares, steps_an_epoch
from infoae.errors import UsageError


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 500), st.integers(2, 70))
def test_each_image_is_seen_once_an_epoch_in_even_batches(seed: int, epoch: int, count: int, batch_size: int) -> None:
    parts = batches(seed, epoch, count, batch_size)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    sizes = {len(part) for part in parts}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 5), st.integers(1, 300), st.integers(2, 70), st.integers(1, 40))
def test_few_images_are_seen_equally_often_in_enough_steps(epoch: int, count: int, batch: int, least: int) -> None:
    parts = batches(0, epoch, count, batch, min_steps=least)
    steps = -(-count // batch)
    assert len(parts) == steps_an_epoch(count, batch, least)
    assert least <= len(parts) < least + steps
    passes = [np.concatenate(parts[first : first + steps]).tolist() for first in range(0, len(parts), steps)]
    assert all(sorted(order) == list(range(count)) for order in passes)
    following = batches(0, epoch + 1, count, batch, min_steps=least)[:steps]
    assert count < 9 or np.concatenate(following).tolist() not in passes


def test_the_order_differs_by_epoch_and_seed_and_repeats() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(index) for index in np.concatenate(batches(seed, epoch, 100, 10))]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize(("part", "enough"), [(1.0, 49), (0.25, 6)])
def test_each_worker_has_some_of_a_batch_and_of_those_that_are_judged(part: float, enough: int) -> None:
    """Batches of 50 of 299 images are of 49 and 50."""
    train = Train(batch_size=50, adversarial_fraction=part)
    check_shares(299, train, enough)
    with pytest.raises(UsageError, match=f"a batch of 49 images is too small for {enough + 1} workers"):
        check_shares(299, train, enough + 1)
