"""Neighbour graphs and joint distributions of which the right answer is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ring(count: int) -> NDArray[np.int64]:
    """Partners of images in a ring: the one before and the one after."""
    return np.stack([np.roll(np.arange(count), shift) for shift in (1, -1)], 1)


def kinds(num_things: int, num_kinds: int, mixed: float) -> np.ndarray:
    """Joint distribution of answers of `num_kinds` for each of `num_things`, kinds of a thing mixed up that often."""
    size = num_things * num_kinds
    same_thing = np.kron(np.eye(num_things), np.ones((num_kinds, num_kinds)) / num_kinds)
    joint = (1 - mixed) * np.eye(size) + mixed * same_thing
    return np.asarray(0.97 * joint / size + 0.03 / size**2)
