"""What several heads agree on: labels of images that no one gave, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoae import clustering, distributed, evaluate, metrics
from infoae.errors import InfoAEError
from infoae.files import atomic_file
from infoae.model import InfoAE
from infoae.run import Run

if TYPE_CHECKING:
    from infoae.data.shards import Shards

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FILE = "consensus.npy"
SAME = 0.5  # of the larger of two matched categories, that has to be in both for them to be the same
PART = 10_000  # images whose answers are held at once


def of_heads(model: InfoAE, images: NDArray[np.uint8] | Shards, nearest: NDArray[np.integer[Any]]) -> Ints:
    """Return the category (N,) that the heads of `model` give an image, -1 where they differ.

    Images (N, C, H, W); `nearest` (N,) are their partners. Each head's over-categories are merged by the information
    between its answers for the first images and for their augmented partners.
    """
    answers = model.classify_heads(images[:PART])
    joints = evaluate.joints_of_pairs(model, answers, images[nearest[:PART]])
    merged = [clustering.merge(joint, model.num_categories) for joint in joints]
    one_hot = np.stack([np.eye(model.num_categories)[category_of] for category_of, _ in merged])
    votes = []
    for start in range(0, len(images), PART):
        answers = model.classify_heads(images[start : start + PART])
        votes.append((answers.numpy().swapaxes(0, 1) @ one_hot).argmax(2))
    return unanimous(np.concatenate(votes, 1), [left for _, left in merged], model.num_categories)


def unanimous(votes: Ints, information: Sequence[float], num_categories: int) -> Ints:
    """Return the category (N,) on which all of `votes` (H, N) agree, -1 where they do not.

    A head numbers its categories as it likes, so they are first matched one-to-one. Some may have other categories than
    others, such as two digits in one and a third split in two; if all had a say, no image of these would be agreed on.
    So those vote that have the same categories as the one to which this applies for most, of several the one whose
    `information` (H,) is greatest; the numbers are its.
    """
    matched = [[_matched(vote, other, num_categories) for vote in votes] for other in votes]
    same = [sum(numbers is not None for numbers in row) for row in matched]
    chosen = max(range(len(votes)), key=lambda head: (same[head], information[head]))
    agreed = votes[chosen].copy()
    for vote, numbers in zip(votes, matched[chosen], strict=True):
        if numbers is not None:
            agreed[numbers[vote] != votes[chosen]] = -1
    return np.asarray(agreed, np.int64)


def _matched(vote: Ints, other: Ints, num_categories: int) -> Ints | None:
    """Return which category of `other` (N,) each of `vote` (N,) is, None if they are not the same."""
    shared = metrics.confusion_matrix(vote, other, num_categories, num_categories)
    matching = metrics.match_categories(shared)
    numbers = np.array([matching[category] for category in range(num_categories)])
    in_both = shared[np.arange(num_categories), numbers]
    return numbers if (in_both >= SAME * np.maximum(shared.sum(1), shared.sum(0)[numbers])).all() else None


def categories_of(over: Floats, agreed: Ints, num_categories: int) -> Ints:
    """Return the category (M,) of each over-category, from answers (N, M) and what was agreed on (N,), -1 for nothing.

    Each category gets at least one over-category, or no image could be given it.
    """
    from scipy.optimize import linear_sum_assignment

    known = agreed >= 0
    shared = over[known].T @ np.eye(num_categories)[agreed[known]]
    category_of: Ints = shared.argmax(1)
    kept, category = linear_sum_assignment(shared, maximize=True)
    category_of[kept] = category
    return category_of


def save(run: Run, agreed: Ints) -> None:
    """Keep what was agreed on in the run's folder."""
    with atomic_file(run.path / FILE) as file, file.open("wb") as stream:
        np.save(stream, agreed)


def load(run: Run, count: int, device: torch.device) -> Ints:
    """Return what was agreed on (count,), on all ranks. Raises InfoAEError if it is missing or damaged."""
    path, agreed = run.path / FILE, np.zeros(count, np.int64)
    if distributed.is_main():
        try:
            agreed = np.asarray(np.load(path, allow_pickle=False), np.int64).reshape(count)
        except (ValueError, OSError, EOFError) as error:
            raise InfoAEError(f"{path} is missing or damaged ({error}): train anew") from None
    shared: Ints = distributed.from_main(torch.from_numpy(agreed), device).numpy()
    return shared
