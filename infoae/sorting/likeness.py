"""Whether new pictures are answered as those were that the model was trained on. No torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from infoae.sorting.state import Likeness

FEWEST = 30
"""Fewer new pictures say nothing."""
DIFFERENT = 0.2
"""A share, of the unsure or of the pictures that would have to change their category, that counts as much."""
CHANCE = 0.001
"""How seldom pictures like the old ones would differ by as much."""
DRAWS = 10_000


def of_answers(categories: NDArray[np.int64], probabilities: NDArray[np.float64], num_categories: int) -> Likeness:
    """Return how N pictures were answered: categories and their probabilities, each (N,), N above 0."""
    return Likeness(
        count=len(categories),
        occupancy=(np.bincount(categories, minlength=num_categories) / len(categories)).tolist(),
        probabilities=np.quantile(probabilities, np.linspace(0, 1, 101)).tolist(),
    )


def share_unsure(known: Likeness, unsure: float) -> float:
    """Return the share of the pictures whose answer had a probability below `unsure`."""
    return float(np.interp(unsure, known.probabilities, np.linspace(0, 1, 101)))


def differences(
    known: Likeness, categories: NDArray[np.int64], probabilities: NDArray[np.float64], unsure: float
) -> Iterator[str]:
    """Yield, in words, how N new pictures are answered otherwise: categories and their probabilities, each (N,).

    A difference is told if it is above DIFFERENT, and if as many pictures drawn like the old ones would differ by as
    much less often than CHANCE.
    """
    count, random = len(categories), np.random.default_rng(0)
    if count < FEWEST:
        return
    before, now = share_unsure(known, unsure), float((probabilities < unsure).mean())
    if now - before > DIFFERENT and (random.binomial(count, before, DRAWS) / count >= now).mean() < CHANCE:
        yield f"{now:.0%} of them are unsure, {before:.0%} were"
    shares = np.array(known.occupancy) / np.sum(known.occupancy)
    drawn = random.multinomial(count, shares, DRAWS) / count
    found = np.bincount(categories, minlength=len(shares)) / count
    moved = np.abs(found - shares).sum() / 2
    if moved > DIFFERENT and (np.abs(drawn - shares).sum(1) / 2 >= moved).mean() < CHANCE:
        most = int(np.abs(found - shares).argmax())
        yield f"category {most} has {found[most]:.0%} of them, {shares[most]:.0%} before"
