"""Which recipe suits pictures of which nobody has said anything: each is tried on a few of them, without a label.

A recipe is a place where neighbours are sought (pixels, or features learnt first) and a kind of augmentation. All are
judged by one measure, whatever they were trained with: how much the answers for a picture that the trial has not seen
and for its twin have in common beyond what a thumbnail of 4 x 4 pixels tells. Twins are moved, cropped and recoloured a
little. Without the thumbnail the measure is fooled: where a picture is light, dark or coloured hardly changes with it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoae import metrics
from infoae.category_model import CategoryModel
from infoae.config import Augment, Config, recipes
from infoae.data import ImageSet
from infoae.errors import Notice
from infoae.evaluation import trivial
from infoae.planning import Plan, with_image_shape
from infoae.pseudolabels import joint
from infoae.reporting.bars import Bar
from infoae.runs.run import Run
from infoae.trainer import Trainer

IMAGES, JUDGED = 5000, 2000
"""Pictures that a trial trains on, and others that it is judged by."""
FEWEST = 500
"""Fewer pictures are too few to try anything on: the first candidate is taken."""
LARGEST = 32
"""Pixels of a side that larger pictures are shrunk to for trials."""
USUAL = 10
"""Categories that are tried where their number is to be found."""
JUDGE = Augment(kind="strokes", crop=0.2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2)
"""How twins differ that recipes are judged by: by as much as leaves a picture of anything what it is."""
CLUSTERS, SHUFFLES = 30, 3

_SHORT: Mapping[str, Any] = {
    "model.width": 16,
    "model.num_heads": 4,
    "objective.weights.pseudo_label": 0.0,
    "stages.pseudo_label_epochs": 0,
    "neighbours.refresh_every": None,
    "neighbours.merging_count": None,
    "pseudo_labels.anchor_hops": 0,
    "pseudo_labels.refresh_every": None,
    "optim.decay_epochs": 0,
    "train.batch_size": 250,
    "train.micro_batch_size": None,
    "train.min_steps_per_epoch": 20,
}


@dataclass(frozen=True)
class Candidate:
    """A recipe, with the kind of augmentation that is set in it, and how long it is tried."""

    recipe: str
    kind: str
    representation_epochs: int
    mutual_information_epochs: int

    @property
    def settings(self) -> list[str]:
        """What `--set` would be given."""
        return [f"augment.kind={self.kind}"]

    def __str__(self) -> str:
        """Return it as it is told."""
        return f"{self.recipe} with augment.kind={self.kind}"


CANDIDATES = (
    Candidate("mnist", "strokes", 0, 20),
    Candidate("mnist", "sound", 0, 20),
    *(Candidate("photos", kind, 10, 10) for kind in ("objects", "textures", "strokes", "sound")),
)


@dataclass(frozen=True)
class Trial:
    """What came of a candidate."""

    candidate: Candidate
    model: CategoryModel
    score: float
    """Nats that the answers for pictures and for their twins have in common beyond a thumbnail; at most log K."""


def chosen(plan: Plan) -> Candidate:
    """Return the candidate of the highest score on some of a plan's training images, and say which and why."""
    first = CANDIDATES[0]
    if len(plan.train) < FEWEST:
        _tell(f"{first}: {len(plan.train)} pictures are too few to try other recipes on")
        return first
    found: list[Trial] = []
    with Bar("trying recipes", "recipes", len(CANDIDATES)) as bar:
        bar.show()
        for trial in trials(plan.train.images, plan.config, plan.device, plan.precision):
            found.append(trial)
            bar.advance(1)
    best, *others = sorted(found, key=lambda trial: trial.score, reverse=True)
    rest = ", ".join(f"{other.candidate} {other.score:.2f}" for other in others)
    _tell(
        f"{best.candidate} suits these pictures best: its answers for {min(JUDGED, len(plan.train)):,} of them and for "
        f"their twins have {best.score:.2f} nats in common beyond what 4 x 4 pixels tell ({rest})"
    )
    return best.candidate


def trials(
    images: NDArray[np.uint8] | Any, config: Config, device: torch.device, precision: torch.dtype
) -> Iterator[Trial]:
    """Try each candidate on some of `images` (N, C, H, W), with the number of categories and the seed of `config`."""
    order = np.random.default_rng(config.seed).permutation(len(images))
    seen, judged = (_small(images[np.sort(rows)]) for rows in (order[:IMAGES], order[IMAGES : IMAGES + JUDGED]))
    judged = judged if len(judged) >= JUDGED // 2 else seen[:JUDGED]  # of few pictures all are seen
    for candidate in CANDIDATES:
        model = _trained(candidate, seen, config, device, precision)
        yield Trial(candidate, model, score(model, judged, config.seed))


def score(model: CategoryModel, images: NDArray[np.uint8], seed: int, judge: Augment = JUDGE) -> float:
    """Return I(A; A' | T) in nats, A and A' being the answers for images (N, C, H, W) and for their twins.

    T is which of CLUSTERS clusters of k-means the image's thumbnail is in. Within each, what as many answers have in
    common by chance is subtracted: that of pairs of different images.
    """
    answers = model.classify(images).numpy().astype(np.float64)
    twins = joint.classify_augmented(model, images, seed, model.classify, judge)
    tiny = trivial.thumbnails(torch.tensor(images).float() / 255)
    cluster_of = trivial.k_means(tiny, tiny[:1], CLUSTERS, seed)[0]
    random, total = np.random.default_rng(seed), 0.0
    for cluster in np.unique(cluster_of):
        first, second = answers[cluster_of == cluster], twins[cluster_of == cluster]
        by_chance = np.mean([_in_common(first, random.permutation(second)) for _ in range(SHUFFLES)])
        total += len(first) / len(images) * (_in_common(first, second) - float(by_chance))
    return total


def _in_common(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return metrics.mutual_information(metrics.joint_distribution(first, second))


def _trained(
    candidate: Candidate, images: NDArray[np.uint8], wanted: Config, device: torch.device, precision: torch.dtype
) -> CategoryModel:
    """Train as long as no image is generated."""
    learnt, first = candidate.representation_epochs, candidate.mutual_information_epochs
    number = USUAL if wanted.model.num_categories == "auto" else wanted.model.num_categories
    settings = dict(_SHORT) | {
        "seed": wanted.seed,
        "model.num_categories": number,
        "model.num_over_categories": 5 * number,
        "stages.representation_epochs": learnt,
        "stages.mutual_information_epochs": first,
        "train.epochs": learnt + first + 1,
    }
    train = ImageSet(images, None)
    config = recipes.replaced(recipes.load(candidate.recipe, candidate.settings), settings, "auto")
    config = with_image_shape(config, train)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Run.create(Path(folder), "trial", "auto", config), config, train, device, precision)
        last = (learnt + first) * trainer.steps_per_epoch
        trainer.fit([], should_stop=lambda: trainer.done == last)
    return trainer.step.evaluated_model()


def _small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink images (N, C, H, W) of more than LARGEST pixels a side to those."""
    if images.shape[-1] <= LARGEST or not len(images):
        return images
    from torchvision.transforms.v2.functional import resize

    parts = (torch.from_numpy(part) for part in np.array_split(images, -(-len(images) // 1000)))
    return np.concatenate([resize(part, [LARGEST, LARGEST], antialias=True).numpy() for part in parts])


def _tell(text: str) -> None:
    warnings.warn(Notice(text), stacklevel=3)
