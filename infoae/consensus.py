"""What several heads agree on: labels of images that no one gave, to train on."""

from __future__ import annotations

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
TOLERANCE = 0.05  # nats: a head that keeps so much less information than the best one has mixed something up
PART = 10_000  # images whose answers are held at once


def of_heads(model: InfoAE, images: NDArray[np.uint8] | Shards, nearest: NDArray[np.integer[Any]]) -> Ints:
    """Return the category (N,) that all good heads of `model` give an image, -1 where they differ.

    Images (N, C, H, W); `nearest` (N,) are their partners. Each head's over-categories are merged by the information
    between its answers for the first images and for their augmented partners. Heads that keep much less than the best
    one do not vote.
    """
    answers = model.classify_heads(images[:PART])
    joints = evaluate.joints_of_pairs(model, answers, images[nearest[:PART]])
    merged = [clustering.merge(joint, model.num_categories) for joint in joints]
    most = max(left for _, left in merged)
    good = [head for head, (_, left) in enumerate(merged) if left > most - TOLERANCE]
    one_hot = np.stack([np.eye(model.num_categories)[merged[head][0]] for head in good])
    votes = []
    for start in range(0, len(images), PART):
        answers = model.classify_heads(images[start : start + PART])
        votes.append((answers.numpy().swapaxes(0, 1)[good] @ one_hot).argmax(2))
    best = good.index(int(np.argmax([left for _, left in merged])))
    return unanimous(np.concatenate(votes, 1), best, model.num_categories)


def unanimous(votes: Ints, best: int, num_categories: int) -> Ints:
    """Return the category (N,) on which all of `votes` (H, N) agree, -1 where they do not.

    A head numbers its categories as it likes, so they are first matched one-to-one to those of the `best` head.
    """
    agreed = votes[best].copy()
    for vote in votes:
        matching = metrics.match_categories(metrics.confusion_matrix(vote, votes[best], num_categories, num_categories))
        matched = np.array([matching[category] for category in range(num_categories)])
        agreed[matched[vote] != votes[best]] = -1
    return np.asarray(agreed, np.int64)


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
