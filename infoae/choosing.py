"""Which recipe suits pictures of which nobody has said anything: each is tried on a few of them, without a label.

A recipe is a place where neighbours are sought and a kind of augmentation. Those that seek in pixels come first. If a
thumbnail of 4 x 4 pixels tells the categories of the best of them as well as all pixels do, there is nothing in pixels
but where a picture is light, dark or coloured; then those that learn features first are tried.

Within either, all are judged by one measure, whatever they were trained with: the mutual information between the
answers for pictures that the trial has not seen and for their twins, which one fixed augmentation moves, crops and
recolours.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from infoae.data.shards import Shards

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


IN_PIXELS = (Candidate("mnist", "strokes", 0, 20), Candidate("mnist", "sound", 0, 20))
LEARNED = tuple(Candidate("photos", kind, 10, 10) for kind in ("objects", "textures", "strokes", "sound"))


@dataclass(frozen=True)
class Trial:
    """What came of a candidate."""

    candidate: Candidate
    model: CategoryModel
    score: float
    """Nats between the answers for pictures and for their twins; at most log K."""
    told_by_thumbnail: bool
    """Whether 4 x 4 pixels tell the categories as well as all pixels do."""


def chosen(plan: Plan) -> Candidate:
    """Return the candidate that suits a plan's training images, by trials on some of them, and say which and why."""
    first = IN_PIXELS[0]
    if len(plan.train) < FEWEST:
        _tell(f"{first}: {len(plan.train)} pictures are too few to try other recipes on")
        return first
    with Bar("trying recipes", "recipes", len(IN_PIXELS)) as bar:
        bar.show()
        try:
            best, told = _best(plan, IN_PIXELS, bar)
            if best.told_by_thumbnail:
                bar.say("what pixels tell apart, a thumbnail tells as well: trying recipes that learn features first")
                bar.total = len(IN_PIXELS) + len(LEARNED)
                best, told = _best(plan, LEARNED, bar)
        except KeyboardInterrupt:
            bar.say("stopped while recipes were tried: no run was begun; --config RECIPE takes one at once")
            raise
    _tell(f"{best.candidate} suits these pictures best ({told})")
    return best.candidate


def _best(plan: Plan, candidates: Sequence[Candidate], bar: Bar) -> tuple[Trial, str]:
    """Try candidates; return the trial of the highest score, and all scores in words."""
    found: list[Trial] = []
    for trial in trials(candidates, plan.train.images, plan.config, plan.device, plan.precision):
        found.append(trial)
        bar.advance(1)
    found.sort(key=lambda trial: trial.score, reverse=True)
    return found[0], ", ".join(f"{trial.candidate}: {trial.score:.2f} nats" for trial in found)


def trials(
    candidates: Sequence[Candidate],
    images: NDArray[np.uint8] | Shards,
    config: Config,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Trial]:
    """Try each candidate on some of `images` (N, C, H, W), with the number of categories and the seed of `config`."""
    order = np.random.default_rng(config.seed).permutation(len(images))
    seen, judged = (_small(images[np.sort(rows)]) for rows in (order[:IMAGES], order[IMAGES : IMAGES + JUDGED]))
    judged = judged if len(judged) >= JUDGED // 2 else seen[:JUDGED]  # of few pictures all are seen
    for candidate in candidates:
        model = _trained(candidate, seen, config, device, precision)
        answers = model.classify(judged).numpy().astype(np.float64)
        beside = trivial.compared(judged, answers.argmax(1), model.num_categories, config.seed)
        told = beside.predicted_by_thumbnail >= beside.predicted_by_pixels
        yield Trial(candidate, model, score(model, judged, answers, config.seed), told)


def score(model: CategoryModel, images: NDArray[np.uint8], answers: NDArray[np.float64], seed: int) -> float:
    """Return the mutual information in nats between `answers` (N, K) for images (N, C, H, W) and those for twins."""
    twins = joint.classify_augmented(model, images, seed, model.classify, JUDGE)
    return metrics.mutual_information(metrics.joint_distribution(answers, twins))


def _trained(
    candidate: Candidate, images: NDArray[np.uint8], wanted: Config, device: torch.device, precision: torch.dtype
) -> CategoryModel:
    """Train as long as no image is generated."""
    learnt, first = candidate.representation_epochs, candidate.mutual_information_epochs
    number = USUAL if wanted.model.num_categories == "auto" else wanted.model.num_categories
    settings = dict(_SHORT) | {
        "seed": wanted.seed,
        "model.num_categories": number,
        "model.num_over_categories": max(number, min(5 * number, recipes.MOST_OVER_CATEGORIES)),
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
