"""Which recipe suits pictures of which nobody has said anything: each is tried on a few of them, without a label.

A recipe is a place where neighbours are sought (pixels, or features learnt first) and a kind of augmentation. All are
judged by one measure, whatever they were trained with: the mutual information between the answers for pictures that the
trial has not seen and for their twins under one fixed augmentation, which moves, crops and recolours a little. So
categories of nothing but colour, or of where things lie, come out low.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from infoae.planning import with_image_shape
from infoae.pseudolabels import joint
from infoae.runs.run import Run
from infoae.trainer import Trainer

IMAGES, JUDGED = 5000, 2000
"""Pictures that a trial trains on, and others that it is judged by."""
JUDGE = Augment(kind="strokes", crop=0.2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2)
"""How twins differ that recipes are judged by: by as much as leaves a picture of anything what it is."""

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
    """A recipe, with the kind of augmentation that is set in it."""

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
    """Nats between the answers for pictures and for their twins; at most log K."""


def trials(images: NDArray[np.uint8], config: Config, device: torch.device, precision: torch.dtype) -> Iterator[Trial]:
    """Try each candidate on some of `images` (N, C, H, W), with the number of categories and the seed of `config`."""
    order = np.random.default_rng(config.seed).permutation(len(images))
    seen, judged = images[np.sort(order[:IMAGES])], images[np.sort(order[IMAGES : IMAGES + JUDGED])]
    judged = judged if len(judged) >= JUDGED // 2 else seen[:JUDGED]  # of few pictures all are seen
    for candidate in CANDIDATES:
        model = _trained(candidate, seen, config, device, precision)
        yield Trial(candidate, model, score(model, judged, config.seed))


def score(model: CategoryModel, images: NDArray[np.uint8], seed: int, judge: Augment = JUDGE) -> float:
    """Return the mutual information in nats between the answers for images (N, C, H, W) and for their twins."""
    answers = model.classify(images).numpy().astype(np.float64)
    twins = joint.classify_augmented(model, images, seed, model.classify, judge)
    return metrics.mutual_information(metrics.joint_distribution(answers, twins))


def _trained(
    candidate: Candidate, images: NDArray[np.uint8], wanted: Config, device: torch.device, precision: torch.dtype
) -> CategoryModel:
    """Train as long as no image is generated."""
    learnt, first = candidate.representation_epochs, candidate.mutual_information_epochs
    settings = dict(_SHORT) | {
        "seed": wanted.seed,
        "model.num_categories": wanted.model.num_categories,
        "stages.representation_epochs": learnt,
        "stages.mutual_information_epochs": first,
        "train.epochs": learnt + first + 1,
    }
    config = recipes.replaced(recipes.load(candidate.recipe, candidate.settings), settings, "auto")
    train = ImageSet(images, None)
    config = with_image_shape(config, train)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder), "trial", "auto", config)
        trainer = Trainer(run, config, train, device, precision)
        last = (learnt + first) * trainer.steps_per_epoch
        trainer.fit([], should_stop=lambda: trainer.done == last)
    return trainer.step.evaluated_model()


def best(tried: Sequence[Trial]) -> Trial:
    """Return the trial of the highest score."""
    return max(tried, key=lambda trial: trial.score)
