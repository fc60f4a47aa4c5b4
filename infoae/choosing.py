"""Which recipe suits pictures of which nobody has said anything: each is tried on a few of them, without a label.

A recipe is a place where neighbours are sought and a kind of augmentation. Heads that began with other weights and find
the same have found something; so recipes are judged by the mutual information between the categories of two heads. No
twin is in it, which would take the side of the recipe that is trained with twins like it.

Where a picture is light, dark or coloured is found by all heads, too. So a recipe does not count whose categories a
thumbnail of 4 x 4 pixels tells as well as all pixels do, unless that is so of all.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.category_model import CategoryModel
from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.errors import Notice
from infoae.evaluation import trivial
from infoae.model import InfoAE
from infoae.planning import Plan, with_image_shape
from infoae.pseudolabels import vote
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
    *(Candidate("mnist", kind, 0, 20) for kind in ("strokes", "sound")),
    *(Candidate("photos", kind, 10, 10) for kind in ("objects", "textures", "strokes", "sound")),
)


@dataclass(frozen=True)
class Trial:
    """What came of a candidate."""

    candidate: Candidate
    model: CategoryModel
    score: float
    """Nats between the categories of two heads, mean over pairs of heads; at most log K."""
    told_by_thumbnail: bool
    """Whether 4 x 4 pixels tell the categories as well as all pixels do."""

    def __str__(self) -> str:
        """Return it as it is told."""
        return f"{self.candidate}: {self.score:.2f} nats{', by a thumbnail as well' if self.told_by_thumbnail else ''}"


def chosen(plan: Plan) -> Candidate:
    """Return the candidate that suits a plan's training images, by trials on some of them, and say which and why."""
    first = CANDIDATES[0]
    if len(plan.train) < FEWEST:
        _tell(f"{first}: {len(plan.train)} pictures are too few to try other recipes on")
        return first
    found: list[Trial] = []
    with Bar("trying recipes", "recipes", len(CANDIDATES)) as bar:
        bar.show()
        try:
            for trial in trials(plan.train.images, plan.config, plan.device, plan.precision):
                found.append(trial)
                bar.advance(1)
        except KeyboardInterrupt:
            bar.say("stopped while recipes were tried: no run was begun; --config RECIPE takes one at once")
            raise
    best = best_of(found)
    _tell(f"{best.candidate} suits these pictures best ({', '.join(map(str, found))})")
    return best.candidate


def best_of(found: Sequence[Trial]) -> Trial:
    """Return the trial of the highest score, of those whose categories no thumbnail tells if there are any."""
    return max(found, key=lambda trial: (not trial.told_by_thumbnail, trial.score))


def trials(
    images: NDArray[np.uint8] | Shards, config: Config, device: torch.device, precision: torch.dtype
) -> Iterator[Trial]:
    """Try each candidate on some of `images` (N, C, H, W), with the number of categories and the seed of `config`."""
    order = np.random.default_rng(config.seed).permutation(len(images))
    seen, judged = (_small(images[np.sort(rows)]) for rows in (order[:IMAGES], order[IMAGES : IMAGES + JUDGED]))
    judged = judged if len(judged) >= JUDGED // 2 else seen[:JUDGED]  # of few pictures all are seen
    for candidate in CANDIDATES:
        model, heads = _trained(candidate, seen, config, device, precision)
        beside = trivial.compared(judged, model.classify(judged).argmax(1).numpy(), model.num_categories, config.seed)
        told = beside.predicted_by_thumbnail >= beside.predicted_by_pixels
        yield Trial(candidate, model, score(heads), told)


def score(heads: NDArray[np.int64]) -> float:
    """Return the mutual information in nats between the categories of two heads (H, N), mean over pairs of heads."""
    from sklearn.metrics import mutual_info_score

    return float(np.mean([mutual_info_score(*pair) for pair in combinations(heads, 2)]))


def _trained(
    candidate: Candidate, images: NDArray[np.uint8], wanted: Config, device: torch.device, precision: torch.dtype
) -> tuple[CategoryModel, NDArray[np.int64]]:
    """Train as long as no image is generated; return the model, and its heads' categories (H, N) of the images."""
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
    model, pairs = trainer.step.evaluated_model(), trainer.partners.pairs
    assert isinstance(model, InfoAE)
    assert pairs is not None
    return model, vote.of_heads(model, images, pairs.nearest)[0].categories


def _small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink images (N, C, H, W) of more than LARGEST pixels a side to those."""
    if images.shape[-1] <= LARGEST or not len(images):
        return images
    from torchvision.transforms.v2.functional import resize

    parts = (torch.from_numpy(part) for part in np.array_split(images, -(-len(images) // 1000)))
    return np.concatenate([resize(part, [LARGEST, LARGEST], antialias=True).numpy() for part in parts])


def _tell(text: str) -> None:
    warnings.warn(Notice(text), stacklevel=3)
