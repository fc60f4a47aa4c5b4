"""What several heads agree on: labels of images that no one gave, to train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoae import metrics
from infoae.config import Information, MergingCriterion
from infoae.distributed import collectives
from infoae.errors import InfoAEError
from infoae.evaluation import evaluate
from infoae.files import atomic_file
from infoae.model import InfoAE
from infoae.pseudolabels import merging
from infoae.runs.run import Run

if TYPE_CHECKING:
    from infoae.data.shards import Shards

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FILE = "consensus.npy"
SAME = 2 / 3  # of the larger of two matched categories, that has to be in both for them to be the same
WALK = 200  # steps
PART = 10_000  # images that are read and encoded at once; the answers of all are held, 2 kB an image with ten heads


@dataclass(frozen=True)
class Votes:
    """What each of several heads says."""

    categories: Ints
    """(H, N), of each image; a head numbers its categories as it likes."""
    information: Floats
    """(H,) nats between the categories of an image and of its partners."""


def of_heads(
    model: InfoAE,
    images: NDArray[np.uint8] | Shards,
    partners: NDArray[np.integer[Any]] | None,
    criterion: MergingCriterion = "information",
) -> Votes:
    """Return the votes of the heads of `model`.

    Images (N, C, H, W), and the indices of the partners of each (N, P), or None where its partner is its augmented
    twin. Each head's over-categories are merged (see `clustering`) by its answers for images and for all their
    partners: kinds of the same thing may have few links, which a part of the pairs could miss.
    """
    parts = np.array_split(np.arange(len(images)), -(-len(images) // PART))
    answers = torch.cat([model.classify_heads(images[part]) for part in parts])
    joints = [_joint(model, answers, images, part, None if partners is None else partners[part]) for part in parts]
    merged = [merging.merge(each / each.sum(), model.num_categories, criterion) for each in np.sum(joints, 0)]
    one_hot = np.stack([np.eye(model.num_categories)[category_of] for category_of, _ in merged])
    votes = [(answers[part].numpy().swapaxes(0, 1) @ one_hot).argmax(2) for part in parts]
    return Votes(np.concatenate(votes, 1), np.array([left for _, left in merged]))


def of_classifier(model: InfoAE, images: NDArray[np.uint8] | Shards) -> Votes:
    """Return the answers of the one classifier as votes."""
    parts = np.array_split(np.arange(len(images)), -(-len(images) // PART))
    return Votes(np.concatenate([model.classify(images[part]).argmax(1).numpy() for part in parts])[None], np.zeros(1))


def settle(
    votes: Votes, num_categories: int, rule: Information, partners: NDArray[np.integer[Any]] | None = None
) -> tuple[Ints, dict[str, float]]:
    """Return the categories (N,) of all training images that follow from votes and neighbours, -1 for none.

    And how well that went: `labelled`, the share of images with a category, and `heads_agreeing`, the mean share of
    the heads that have a category.

    Votes may be wrong about a whole kind of images, whose neighbours are mostly of that kind, too. So with
    `rule.certain_links` only images far from any other answer keep their category, and walks over neighbours that end
    at these decide about the rest.
    """
    numbers = same_categories(votes, num_categories)
    agreed = agreed_by(votes, numbers, rule.agreement)
    if rule.certain_links and partners is not None:
        agreed = certain(agreed, partners, rule.certain_links)
        agreed = propagate(agreed, partners, num_categories, rule.agreement_walks)
    return agreed, {"labelled": float((agreed >= 0).mean()), "heads_agreeing": float((numbers >= 0).mean())}


def _joint(
    model: InfoAE,
    answers: torch.Tensor,
    images: NDArray[np.uint8] | Shards,
    part: Ints,
    partners: NDArray[np.integer[Any]] | None,
) -> Floats:
    """Return the heads' joint distributions (H, M, M) of answers for images[part] and for their partners, unscaled."""
    mine = answers[part]
    if partners is None:
        return len(part) * evaluate.joints_of_pairs(model, mine, images[part])
    joint: Floats = np.sum([len(part) * evaluate.joints(mine, answers[column]) for column in partners.T], 0)
    return joint


def same_categories(votes: Votes, num_categories: int) -> Ints:
    """Return the number (H, K) of each head's categories in one of the heads, -1 for those that it does not have.

    A head numbers its categories as it likes, so they are matched one-to-one. Some heads may have other categories than
    others, such as two digits in one and a third split in two. So the numbers are those of the head that shares most
    with the others, of several the one whose `information` is greatest.
    """
    heads = votes.categories
    matched = np.array([[_matched(head, other, num_categories) for head in heads] for other in heads])
    shared = (matched >= 0).sum((1, 2))
    chosen = max(range(len(heads)), key=lambda head: (shared[head], votes.information[head]))
    numbers: Ints = matched[chosen]
    return numbers


def agreed_by(votes: Votes, numbers: Ints, agreement: float) -> Ints:
    """Return the category (N,) of an image where the share `agreement` of the heads that have it say so, -1 elsewhere.

    `numbers` (H, K) are from `same_categories`.
    """
    num_categories = numbers.shape[1]
    one_hot = np.vstack([np.eye(num_categories, dtype=np.int64), np.zeros((1, num_categories), np.int64)])
    counts = sum(one_hot[number[head]] for head, number in zip(votes.categories, numbers, strict=True))
    category = counts.argmax(1)
    return np.where(counts.max(1) >= agreement * one_hot[numbers].sum((0, 1))[category], category, -1)


def certain(agreed: Ints, partners: NDArray[np.integer[Any]], links: int) -> Ints:
    """Keep of the categories (N,), -1 for none, those that all images within so many links to partners (N, P) have.

    Where that would leave a category fewer than half of its images, it keeps those of fewer links.
    """
    kept, known = agreed.copy(), agreed >= 0
    count = np.bincount(agreed[known], minlength=1)  # of no images, if there are none with a category
    enough = np.ones(len(count), bool)
    for _ in range(links):
        known = known & (known[partners] & (agreed[partners] == agreed[:, None])).all(1)
        enough &= 2 * np.bincount(agreed[known], minlength=len(count)) >= count
        kept[~known & enough[agreed]] = -1
    return kept


def propagate(certain: Ints, partners: NDArray[np.integer[Any]], num_categories: int, agreement: float) -> Ints:
    """Give each image the category in which the share `agreement` of its walks end, -1 if no category has that.

    A walk steps to any of the partners (N, P), all alike, until it is at an image with a category (label propagation,
    Zhu and Ghahramani 2002, over links of equal weight). Those that do not end within WALK steps do not count: few
    leave a kind of images that lies apart, but those that do say what it is.
    """
    one_hot = np.vstack([np.eye(num_categories), np.zeros(num_categories)]).astype(np.float32)
    ends, unknown = one_hot[certain], np.flatnonzero(certain < 0)
    links = partners[unknown]
    for _ in range(WALK):
        ends[unknown] = ends[links].mean(1)
    ended = ends.sum(1)
    return np.where(ends.max(1) >= agreement * np.where(ended > 0, ended, np.inf), ends.argmax(1), -1)


def _matched(vote: Ints, other: Ints, num_categories: int) -> Ints:
    """Return which category of `other` (N,) each of `vote` (N,) is, (K,), -1 for one that it does not have."""
    shared = metrics.confusion_matrix(vote, other, num_categories, num_categories)
    matching = metrics.match_categories(shared)
    numbers = np.array([matching[category] for category in range(num_categories)])
    in_both = shared[np.arange(num_categories), numbers]
    return np.where(in_both >= SAME * np.maximum(shared.sum(1), shared.sum(0)[numbers]), numbers, -1)


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


def save(run: Run, agreed: Ints, settlement: int) -> None:
    """Keep what was settled (N,) in the run's folder, after the `settlement` - 1 before it.

    Raises InfoAEError if those are missing or damaged.
    """
    before = _kept(run, len(agreed), settlement - 1)
    with atomic_file(run.path / FILE) as file, file.open("wb") as stream:
        np.save(stream, np.concatenate([before, agreed[None]]))


def load(run: Run, count: int, settlement: int, device: torch.device) -> Ints:
    """Return what was settled (count,), on all ranks. Raises InfoAEError if it is missing or damaged."""
    agreed = np.zeros(count, np.int64)
    if collectives.is_main():
        agreed = _kept(run, count, settlement)[-1]
    shared: Ints = collectives.from_main(torch.from_numpy(agreed), device).numpy()
    return shared


def _kept(run: Run, count: int, settlements: int) -> Ints:
    """Return the first so many settlements (settlements, count); a file of a run that was interrupted may hold more."""
    path = run.path / FILE
    if not settlements:
        return np.zeros((0, count), np.int64)
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.int64).reshape(-1, count)[:settlements, :].copy()
    except (ValueError, OSError, EOFError) as error:
        raise InfoAEError(f"{path} is missing or damaged ({error}): train anew") from None
