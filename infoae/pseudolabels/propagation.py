"""Label propagation over the neighbour graph: images that are sure of their label decide about the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Neighbours = NDArray[np.integer[Any]]

WALK = 200  # steps
CHUNK = 100_000  # images whose neighbours are looked at at once


def anchors(labels: Ints, neighbours: Neighbours, hops: int) -> Ints:
    """Keep of the labels (N,), -1 for none, those that all images within so many hops have.

    `neighbours` (N, P) are the indices of each image's neighbours. Where that would leave a category fewer than half of
    its images, it keeps those of fewer hops.
    """
    kept, known = labels.copy(), labels >= 0
    count = np.bincount(labels[known], minlength=1)  # of no images, if there are none with a label
    enough = np.ones(len(count), bool)
    for _ in range(hops):
        known = np.concatenate([_agreed(labels, known, neighbours, part) for part in _parts(len(labels))])
        enough &= 2 * np.bincount(labels[known], minlength=len(count)) >= count
        kept[~known & enough[labels]] = -1
    return kept


def propagate(anchored: Ints, neighbours: Neighbours, num_categories: int, agreement: float) -> Ints:
    """Give each image the category in which the share `agreement` of its walks end, -1 if no category has that.

    `anchored` (N,) are the labels of anchors, -1 elsewhere. A walk steps to any of the neighbours (N, P), all alike,
    until it is at an anchor (label propagation, Zhu and Ghahramani 2002, over links of equal weight). Those that do not
    end within WALK steps do not count: few leave a kind of images that lies apart, but those that do say what it is.
    """
    one_hot = np.vstack([np.eye(num_categories), np.zeros(num_categories)]).astype(np.float32)
    ends, unknown = one_hot[anchored], np.flatnonzero(anchored < 0)
    links = neighbours[unknown]
    for _ in range(WALK):
        ends[unknown] = np.concatenate([ends[links[part]].mean(1) for part in _parts(len(unknown))])
    ended = ends.sum(1)
    return np.where(ends.max(1) >= agreement * np.where(ended > 0, ended, np.inf), ends.argmax(1), -1)


def _agreed(labels: Ints, known: NDArray[np.bool_], neighbours: Neighbours, part: slice) -> NDArray[np.bool_]:
    """Return which images of a part are known, and their neighbours too and with the same label."""
    near = neighbours[part]
    agreed: NDArray[np.bool_] = known[part] & (known[near] & (labels[near] == labels[part, None])).all(1)
    return agreed


def _parts(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, max(1, count), CHUNK)]
