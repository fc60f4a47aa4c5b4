"""The vote of several heads on the categories of the training images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoae import metrics
from infoae.category_model import CategoryModel
from infoae.config import MergingCriterion
from infoae.pseudolabels import joint, merging
from infoae.pseudolabels.joint import Inputs

if TYPE_CHECKING:
    from pathlib import Path

    from infoae.data.shards import Shards

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Neighbours = NDArray[np.integer[Any]]

SAME = 2 / 3  # of the larger of two matched categories, that has to be in both for them to be the same
CHUNK = 10_000  # images that are read and encoded at once
HELD_BYTES = 2 * 10**9
"""Of the answers of all, 2 kB an image with ten heads; more of them are mapped from a file on disk."""


@dataclass(frozen=True)
class Votes:
    """What each of several heads says."""

    categories: Ints
    """(H, N), of each image; a head numbers its categories as it likes."""
    mutual_information: Floats
    """(H,) nats between the categories of an image and of its partners."""


def of_heads(
    model: CategoryModel,
    images: Inputs | Shards,
    neighbours: Neighbours | None,
    criteria: Sequence[MergingCriterion] = ("mutual_information",),
    scratch: Path | None = None,
) -> list[Votes]:
    """Return the votes of the heads of `model`, by each of the `criteria` of merging.

    Images (N, C, H, W) or features (N, D), and the indices of the neighbours of each (N, P), or None where its partner
    is its augmented twin. Each head's over-categories are merged (`merging`) by its answers for images and for all
    their partners: kinds of the same thing may have few links, which a part of the pairs could miss. Where answers are
    many, they lie in a file without a name in the folder `scratch`, the system's own if not given.
    """
    chunks = _chunks(len(images))
    answers = _answers(model, images, chunks, scratch)
    nearest = [None if neighbours is None else neighbours[chunk] for chunk in chunks]
    joints = [_joint(model, answers, images, *rows) for rows in zip(chunks, nearest, strict=True)]
    found = []
    for criterion in criteria:
        merged = [merging.merge(each / each.sum(), model.num_categories, criterion) for each in np.sum(joints, 0)]
        one_hot = np.stack([np.eye(model.num_categories)[category_of] for category_of, _ in merged])
        votes = [(answers[chunk].numpy().swapaxes(0, 1) @ one_hot).argmax(2) for chunk in chunks]
        found.append(Votes(np.concatenate(votes, 1), np.array([left for _, left in merged])))
    return found


def of_classifier(model: CategoryModel, images: Inputs | Shards) -> Votes:
    """Return the answers of the one classifier as votes."""
    answers = [model.classify(images[chunk]).argmax(1).numpy() for chunk in _chunks(len(images))]
    return Votes(np.concatenate(answers)[None], np.zeros(1))


def _chunks(count: int) -> list[Ints]:
    return np.array_split(np.arange(count), -(-count // CHUNK))


def _answers(model: CategoryModel, images: Inputs | Shards, chunks: Sequence[Ints], scratch: Path | None) -> Tensor:
    """Return the answers (N, H, M) of all heads."""
    first = model.classify_heads(images[chunks[0]])
    shape = (len(images), *first.shape[1:])
    if first[0].nbytes * len(images) <= HELD_BYTES:
        answers = torch.empty(shape, dtype=first.dtype)
    else:
        with tempfile.TemporaryFile(dir=scratch) as file:  # which is there as long as it is mapped
            answers = torch.from_numpy(np.memmap(file, first.numpy().dtype, "w+", shape=shape))
    answers[chunks[0]] = first
    for chunk in chunks[1:]:
        answers[chunk] = model.classify_heads(images[chunk])
    return answers


def _joint(
    model: CategoryModel,
    answers: Tensor,
    images: Inputs | Shards,
    chunk: Ints,
    neighbours: Neighbours | None,
) -> Floats:
    """Return the heads' joint distributions (H, M, M) of answers for images[chunk] and their partners, unscaled."""
    mine = answers[chunk]
    if neighbours is None:
        return len(chunk) * joint.of_partners(model, mine, images[chunk])
    summed: Floats = np.sum([len(chunk) * joint.of_answers(mine, answers[column]) for column in neighbours.T], 0)
    return summed


def same_categories(votes: Votes, num_categories: int) -> Ints:
    """Return the number (H, K) of each head's categories in one of the heads, -1 for those that it does not have.

    A head numbers its categories as it likes, so they are matched one-to-one. Some heads may have other categories than
    others, such as two digits in one and a third split in two. So the numbers are those of the head that shares most
    with the others, of several the one whose mutual information is greatest.
    """
    heads = votes.categories
    matched = np.array([[_matched(head, other, num_categories) for head in heads] for other in heads])
    shared = (matched >= 0).sum((1, 2))
    chosen = max(range(len(heads)), key=lambda head: (shared[head], votes.mutual_information[head]))
    numbers: Ints = matched[chosen]
    return numbers


def labels_by_vote(votes: Votes, numbers: Ints, agreement: float) -> Ints:
    """Return the label (N,) of an image where the share `agreement` of the heads that have it say so, -1 elsewhere.

    `numbers` (H, K) are from `same_categories`.
    """
    num_categories = numbers.shape[1]
    one_hot = np.vstack([np.eye(num_categories, dtype=np.int64), np.zeros((1, num_categories), np.int64)])
    counts = sum(one_hot[number[head]] for head, number in zip(votes.categories, numbers, strict=True))
    category = counts.argmax(1)
    return np.where(counts.max(1) >= agreement * one_hot[numbers].sum((0, 1))[category], category, -1)


def _matched(vote: Ints, other: Ints, num_categories: int) -> Ints:
    """Return which category of `other` (N,) each of `vote` (N,) is, (K,), -1 for one that it does not have."""
    shared = metrics.confusion_matrix(vote, other, num_categories, num_categories)
    matching = metrics.match_categories(shared)
    numbers = np.array([matching[category] for category in range(num_categories)])
    in_both = shared[np.arange(num_categories), numbers]
    return np.where(in_both >= SAME * np.maximum(shared.sum(1), shared.sum(0)[numbers]), numbers, -1)
