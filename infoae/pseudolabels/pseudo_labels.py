"""The pseudo-labels of one training: over-categories merged after each epoch, labels by vote, refreshed later."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoae import metric_names
from infoae.category_model import CategoryModel
from infoae.config import MergingCriterion
from infoae.config import PseudoLabels as Rule
from infoae.distributed import collectives
from infoae.errors import InfoAEError, one_line
from infoae.files import atomic_file, write_json
from infoae.model import InfoAE
from infoae.pseudolabels import distinctness, joint, merging, propagation, vote
from infoae.pseudolabels.joint import Inputs
from infoae.pseudolabels.partners import Partners
from infoae.pseudolabels.vote import Ints, Neighbours, Votes
from infoae.runs.run import CATEGORIES, OLD_PSEUDO_LABELS, PSEUDO_LABELS, Run
from infoae.stages import Schedule

if TYPE_CHECKING:
    from infoae.data.shards import Shards


FAR_FEWER = 2 / 3  # of images without a label, that make one of two ways to merge the better one


class PseudoLabels:
    """Makes the labels of one run's training images, keeps them in its folder, and merges over-categories by them.

    All ranks have one, and the same labels; the main one computes and writes. `version` counts how often labels were
    made; it follows from the epochs done, so that a resumed run has those of then.
    """

    def __init__(self, run: Run, schedule: Schedule, partners: Partners, num_images: int, device: torch.device) -> None:
        self._run, self._schedule, self._partners, self._device = run, schedule, partners, device
        self._num_images = num_images
        self.labels: Ints | None = None
        """(N,), -1 for none; None before the vote."""
        self.version = 0

    def restore(self, epochs_done: int) -> None:
        """Take the labels that the run had after so many epochs. Raises InfoAEError if their file is damaged."""
        self.version, self.labels = self._schedule.num_pseudo_labels(epochs_done), None
        if self.version:
            self.labels = load(self._run, self._num_images, self.version, self._device)

    def end_epoch(
        self, epochs_done: int, trained: Sequence[CategoryModel], inputs: Inputs | Shards, answers: Tensor | None
    ) -> dict[str, float]:
        """Merge the over-categories of all `trained` models anew, and make labels where it is time to.

        The same on all ranks. `inputs` are what encoders see of all images: these or features. `answers` (N, H, M) are
        those of the first model's heads for the first of them, on the main rank. Returns, there, what is seen of the
        categories without a label.
        """
        measures, models = dict[str, float](), tuple(model for model in trained if isinstance(model, InfoAE))
        if not models:
            return measures
        model = models[0]
        if model.num_over_categories > model.num_categories:
            measures |= self._merge(epochs_done, models, inputs, answers)
        if self._schedule.num_pseudo_labels(epochs_done) > self.version:
            self.version = self._schedule.num_pseudo_labels(epochs_done)
            measures |= self._make(model, inputs)
            self._merge(epochs_done, models, inputs, answers)
        return measures

    def of(self, images: Ints, partners: Ints) -> Tensor | None:
        """Return the labels (2, B) of images and partners, by index (B,) each; None before the vote."""
        return None if self.labels is None else torch.from_numpy(self.labels[np.stack([images, partners])])

    def _make(self, model: InfoAE, inputs: Inputs | Shards) -> dict[str, float]:
        """Label all training images: by the vote of the heads, later by the classifier's answers."""
        measures: dict[str, float] = {}
        if collectives.is_main():
            config, pairs = self._schedule.config, self._partners.pairs
            if self.version == 1:
                nearest = None if pairs is None else pairs.nearest[:, : config.neighbours.merging_count]
                votes = vote.of_heads(model, inputs, nearest, criteria_of(config.pseudo_labels), self._run.path)
            else:
                votes = [vote.of_classifier(model, inputs)]
            drawn_from = None if pairs is None else pairs.drawn_from
            every = [labels_of(each, model.num_categories, config.pseudo_labels, drawn_from) for each in votes]
            made, measures = _better(every)
            save(self._run, made, self.version)
        self.labels = load(self._run, self._num_images, self.version, self._device)
        return measures

    def _merge(
        self, epochs_done: int, models: tuple[InfoAE, ...], inputs: Inputs | Shards, answers: Tensor | None
    ) -> dict[str, float]:
        """Merge by the labels, before the vote by the joint distribution of answers for images and their partners."""
        model, measures = models[0], dict[str, float]()
        category_of = torch.zeros(model.num_over_categories, dtype=torch.int64)
        frequency = torch.zeros(model.num_over_categories, dtype=torch.float64)
        if answers is not None:
            over = answers[:, 0].double()
            if self.labels is None:
                pairs = self._partners.pairs
                rows = np.arange(len(over)) if pairs is None else pairs.nearest[: len(over), 0]
                found = joint.of_partners(model, answers, inputs[rows])
                number = self._number(epochs_done, model, found)
                merged = merging.merge(found[0], number, criteria_of(self._schedule.config.pseudo_labels)[0])[0]
                measures = distinctness.of_joint(found[0], merged)
            else:
                merged = categories_of(over.numpy(), self.labels[: len(over)], model.num_categories)
            category_of, frequency = torch.from_numpy(merged), over.mean(0)
        category_of, frequency = (collectives.from_main(each, self._device) for each in (category_of, frequency))
        for each in models:
            each.merge(category_of.to(self._device), frequency.to(self._device))
        return measures

    def _number(self, epochs_done: int, model: InfoAE, found: NDArray[np.float64]) -> int:
        """Return how many categories to merge into; where they are looked for, that ends with the vote.

        `found` (H, M, M) are the joint distributions of the heads: one of them may join what the others tell apart.
        """
        if not self._schedule.finds_number(epochs_done):
            return model.num_categories
        kept = merging.information_kept(*found)
        number = merging.choose_number(kept)
        write_json(self._run.path / CATEGORIES, {"categories": number, "information_kept": kept})
        return number


def criteria_of(rule: Rule) -> tuple[MergingCriterion, ...]:
    """Return the criteria by which heads merge their over-categories, the first also before they vote."""
    return get_args(MergingCriterion) if rule.merging == "auto" else (rule.merging,)


def _better(every: Sequence[tuple[Ints, dict[str, float]]]) -> tuple[Ints, dict[str, float]]:
    """Return of labels and their measures the first, or the second where that leaves far fewer images without one."""
    first, *others = every
    for other in others:
        left, left_by_first = (1 - each[1][metric_names.PSEUDO_LABELLED] for each in (other, first))
        if left < FAR_FEWER * left_by_first:
            return other
    return first


def labels_of(
    votes: Votes, num_categories: int, rule: Rule, neighbours: Neighbours | None = None
) -> tuple[Ints, dict[str, float]]:
    """Return the pseudo-labels (N,) of all training images that follow from votes and neighbours, -1 for none.

    And how well that went: the share of images with a label, and the mean share of the heads that have a category.

    Votes may be wrong about a whole kind of images, whose neighbours are mostly of that kind, too. So with
    `rule.anchor_hops` only images far from any other answer keep their label, and walks over neighbours that end at
    these decide about the rest.
    """
    numbers = vote.same_categories(votes, num_categories)
    labels = vote.labels_by_vote(votes, numbers, rule.agreement)
    if rule.anchor_hops and neighbours is not None:
        labels = propagation.anchors(labels, neighbours, rule.anchor_hops)
        labels = propagation.propagate(labels, neighbours, num_categories, rule.propagation_agreement)
    labelled, agreeing = float((labels >= 0).mean()), float((numbers >= 0).mean())
    return labels, {metric_names.PSEUDO_LABELLED: labelled, metric_names.HEADS_AGREEING: agreeing}


def categories_of(over: NDArray[np.float64], labels: Ints, num_categories: int) -> Ints:
    """Return the category (M,) of each over-category, from answers (N, M) and pseudo-labels (N,), -1 for none.

    Each category gets at least one over-category, or no image could be given it.
    """
    from scipy.optimize import linear_sum_assignment

    known = labels >= 0
    shared = over[known].T @ np.eye(num_categories)[labels[known]]
    category_of: Ints = shared.argmax(1)
    kept, category = linear_sum_assignment(shared, maximize=True)
    category_of[kept] = category
    return category_of


def save(run: Run, labels: Ints, version: int) -> None:
    """Keep labels (N,) in the run's folder, after the `version` - 1 made before them.

    Raises InfoAEError if those are missing or damaged.
    """
    before = _kept(run, len(labels), version - 1)
    content = io.BytesIO()
    np.save(content, np.concatenate([before, labels[None]]))
    with atomic_file(run.path / PSEUDO_LABELS) as file:
        file.write_bytes(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def load(run: Run, count: int, version: int, device: torch.device) -> Ints:
    """Return the labels (count,) of a version, on all ranks. Raises InfoAEError if they are missing or damaged."""
    labels = np.zeros(count, np.int64)
    if collectives.is_main():
        labels = _kept(run, count, version)[-1]
    shared: Ints = collectives.from_main(torch.from_numpy(labels), device).numpy()
    return shared


def _kept(run: Run, count: int, versions: int) -> Ints:
    """Return the first so many versions (versions, count); a file of a run that was interrupted may hold more."""
    if not versions:
        return np.zeros((0, count), np.int64)
    path, old = run.path / PSEUDO_LABELS, run.path / OLD_PSEUDO_LABELS
    path = old if old.exists() and not path.exists() else path
    try:
        stream = io.BytesIO(path.read_bytes())
        kept = np.load(stream, allow_pickle=False)
        digest = stream.read()  # NumPy takes no notice of what follows the array; earlier versions wrote none
        if digest and digest != hashlib.sha256(stream.getbuffer()[: -len(digest)]).digest():
            raise ValueError("its SHA-256 differs")
        kept = np.atleast_2d(kept)
        if kept.dtype.kind != "i" or kept.shape[1:] != (count,) or len(kept) < versions or kept.min() < -1:
            raise ValueError(f"{kept.dtype} {kept.shape} for {versions} times {count} labels")
        return np.asarray(kept[:versions], np.int64)
    except Exception as error:  # whatever NumPy makes of the file
        raise InfoAEError(f"{path} is missing or damaged ({one_line(error)}): train anew") from None
