"""How good a model is: the paper's protocol where there are labels, and what can be said where there are none."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoae import metric_names, metrics
from infoae.category_model import CategoryModel
from infoae.config import Augment, Neighbours
from infoae.config.methods import methods_of
from infoae.data import ImageSet
from infoae.device import on_free_cpus
from infoae.evaluation import frechet, health, structure, trivial
from infoae.evaluation.trivial import Trivial
from infoae.files import write_json
from infoae.methods.registry import model_of
from infoae.model import InfoAE
from infoae.pseudolabels import joint, neighbour_graph
from infoae.pseudolabels.joint import Inputs
from infoae.runs import checkpoint as checkpoints
from infoae.runs.run import EVALUATION, Run

Ints = NDArray[np.int64]

SCORE_IMAGES = 10_000  # of the training images, for the score: enough to fix it to about 0.01 nats
SAMPLES_PER_CATEGORY = 100
BALANCE_METRICS = (metric_names.DISCRIMINATOR_ACCURACY, metric_names.ENCODER_ADVERSARIAL)
LOGGED_STEPS = 10  # the last: a single step says little
IMAGES_PER_PAIR = 10  # of categories: with fewer, most of the information between two answers is chance
ENOUGH_IMAGES = 1000  # to say which categories are suspicious


@dataclass(frozen=True)
class LabelFree:
    """What the answers say without any label."""

    mutual_information: float
    """Nats between the answers for an image and for its augmented twin, on features for its nearest neighbour; at most
    log K. The score of a run."""
    balance: float
    """Entropy of how often each category is answered, over log K; 1 is even."""
    confidence: float
    """Mean probability of the answered category."""
    categories_used: int
    """Categories answered for at least a tenth of an even share."""


@dataclass(frozen=True)
class Generated:
    """What the generator draws, compared with real images; no label is used."""

    recovered: float
    """Part of generated images in which encoder and classifier find the category that was asked for."""
    diversity_pixels: float
    """Mean pairwise distance of images of one category, generated over real; 1 is as varied as real ones."""
    diversity_latent: float
    """The same in the encoder's latent."""


@dataclass(frozen=True)
class Labelled:
    """The answers against the classes; labels serve this alone."""

    accuracy: float
    """Of the images, categories matched to classes one-to-one (Hungarian; paper section 4)."""
    many_to_one: float
    """Of the images, each category standing for the class of most of its images; 1 where each image is a category."""
    nmi: float
    """Normalised mutual information."""
    ari: float
    """Adjusted Rand index."""
    matching: dict[int, int]
    """Category -> class."""
    purity: list[float]
    """Per category, the part of its images that are of its commonest class."""
    confusion: list[list[int]]
    """Images by category (row) and class (column)."""


@dataclass(frozen=True)
class Evaluation:
    """All measures of one model on one set of images."""

    num_images: int
    num_parameters: int
    """Of all networks that were trained, the critics' among them."""
    category_sizes: list[int]
    label_free: LabelFree
    trivial: Trivial
    """The same answers beside clusterings that need no training."""
    generated: Generated
    labelled: Labelled | None
    frechet_distance: float | None
    """Of generated from as many real images of the same categories, in the features of `frechet`; None of too few."""
    warnings: list[str]
    """What looks wrong, seen without labels, and what to try."""

    def to_dict(self) -> dict[str, Any]:
        """Return the measures as JSON values: the labelled ones at the top, NaN as null."""
        content = asdict(self)
        content |= content.pop("labelled") or {}
        content["categories_used"] = self.label_free.categories_used
        generated = {key: None if np.isnan(value) else value for key, value in content["generated"].items()}
        return content | {"generated": generated}


@dataclass(frozen=True)
class RunEvaluation:
    """All measures of one checkpoint of a run."""

    measures: Evaluation
    run: str
    checkpoint: str
    """Name of its folder."""
    checkpoint_step: int
    score: float | None
    """Mutual information in nats on training images, which chose the best checkpoint."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of evaluation.json."""
        own = {name: getattr(self, name) for name in ("run", "checkpoint", "checkpoint_step", "score")}
        return self.measures.to_dict() | own


@on_free_cpus()
def evaluate_run(run: Run, test: ImageSet, which: str, device: torch.device) -> RunEvaluation:
    """Evaluate the "best" or "newest" checkpoint of a run on `test`, and write evaluation.json. Raises InfoAEError."""
    path = run.checkpoint(which)
    saved, measures = checkpoints.read(path), evaluate(model_of(run, which).to(device), test)
    warnings = [*measures.warnings, *health.of_measures(_adversarial_balance(run), run.config().method)]
    if kept := run.information_kept():
        warnings += health.of_number(kept)
    of_images = measures.label_free
    if why := structure.why_none(of_images.categories_used, of_images.mutual_information, run.metrics()):
        warnings.insert(0, f"there may be no structure in these images: {why}")
    found = RunEvaluation(replace(measures, warnings=warnings), run.name, path.name, saved.step, saved.score)
    write_json(run.path / EVALUATION, found.to_dict())
    return found


def _adversarial_balance(run: Run) -> dict[str, float]:
    """Return the mean over the last logged steps of what tells whether one side has won."""
    logged = deque((line for line in run.metrics() if metric_names.DISCRIMINATOR_ACCURACY in line), LOGGED_STEPS)
    values = {name: [line[name] for line in logged if name in line] for name in BALANCE_METRICS}
    return {name: fmean(found) for name, found in values.items() if found}


def evaluate(model: CategoryModel, data: ImageSet, seed: int = 0) -> Evaluation:
    """Measure `model` on the images of `data`, and on its labels if it has any."""
    probabilities = model.classify(data.inputs).numpy().astype(np.float64)
    categories = probabilities.argmax(1)
    sizes = np.bincount(categories, minlength=model.num_categories)
    answered = label_free(model, data.inputs, partners_of(data.inputs), seed, probabilities)
    first = slice(SCORE_IMAGES)
    beside = trivial.compared(data.images[first], categories[first], model.num_categories, seed)
    drawn = generated(model, data.images, categories, seed)
    measures = (
        asdict(answered)
        | asdict(drawn)
        | {metric_names.CATEGORIES_UNUSED: model.num_categories - answered.categories_used}
    )
    return Evaluation(
        num_images=len(data),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        category_sizes=sizes.tolist(),
        label_free=answered,
        trivial=beside,
        generated=drawn,
        labelled=None if data.labels is None else labelled(categories, data.labels, model.num_categories),
        frechet_distance=_frechet_distance(model, data.images, categories, seed),
        warnings=[
            *health.of_measures(measures, model.method),
            *_suspicious_categories(model, data.inputs[first], seed),
            *_beside_trivial(model, answered, beside, len(data)),
        ],
    )


def _beside_trivial(model: CategoryModel, answered: LabelFree, beside: Trivial, count: int) -> Iterator[str]:
    """Yield what is suspicious about the answers for `count` images beside what needs no training."""
    if count < ENOUGH_IMAGES:
        return
    enough = min(count, SCORE_IMAGES) >= IMAGES_PER_PAIR * model.num_categories**2
    trained_for = model.method in methods_of("objective.weights.mutual_information")
    yield from health.of_trivial(beside, answered.mutual_information if enough and trained_for else None)


def _suspicious_categories(model: CategoryModel, images: Inputs, seed: int) -> Iterator[str]:
    """Yield what the answers for images and their nearest neighbours say against the categories."""
    if len(images) < ENOUGH_IMAGES:
        return
    if isinstance(model, InfoAE) and model.projector is not None:  # pixels say little about what it was trained on
        images = model.represent(images).numpy()
    nearest: NDArray[Any] | None = partners_of(images)
    if nearest is None:
        nearest = neighbour_graph.nearest_neighbours(images, Neighbours(count=1), Augment())[:, 0]  # type: ignore[arg-type]
    found = joint.of_partners(model, model.classify_heads(images), images[nearest], seed)[0]
    yield from health.of_categories(found, model.category_of.cpu().numpy())


def partners_of(inputs: Inputs) -> Ints | None:
    """Return the nearest of other features for each of features (N, D): (N,); None of images, which have twins."""
    if inputs.ndim != 2:
        return None
    if len(inputs) < 2:
        return np.zeros(len(inputs), np.int64)
    found = neighbour_graph.nearest_by_features(np.asarray(inputs, np.float32), Neighbours(count=1))[:, 0]
    return found.astype(np.int64)


def label_free(
    model: CategoryModel,
    images: Inputs,
    partners: Ints | None = None,
    seed: int = 0,
    probabilities: NDArray[np.float64] | None = None,
) -> LabelFree:
    """Measure the answers for `images` (N, C, H, W) and for one augmented twin of each.

    Of features (N, D) they are those for each and for the one of index `partners` (N,).
    """
    if probabilities is None:
        probabilities = model.classify(images).numpy().astype(np.float64)
    twin = joint.classify_augmented(model, images if partners is None else images[partners], seed, model.classify)
    frequencies = np.bincount(probabilities.argmax(1), minlength=model.num_categories) / len(images)
    return LabelFree(
        mutual_information=metrics.mutual_information(metrics.joint_distribution(probabilities, twin)),
        balance=metrics.entropy(frequencies) / float(np.log(model.num_categories)),
        confidence=float(probabilities.max(1).mean()),
        categories_used=int((frequencies >= 0.1 / model.num_categories).sum()),
    )


def labelled(categories: NDArray[np.int64], labels: NDArray[np.int64], num_categories: int) -> Labelled:
    """Measure categories (N,) against classes (N,)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    confusion = metrics.confusion_matrix(categories, labels, num_categories, int(labels.max()) + 1)
    matching = metrics.match_categories(confusion)
    return Labelled(
        accuracy=metrics.accuracy(confusion, matching),
        many_to_one=metrics.many_to_one(confusion),
        nmi=float(normalized_mutual_info_score(labels, categories)),
        ari=float(adjusted_rand_score(labels, categories)),
        matching=matching,
        purity=metrics.purity(confusion).tolist(),
        confusion=confusion.tolist(),
    )


def generated(
    model: CategoryModel, images: NDArray[np.uint8], categories: NDArray[np.int64], seed: int = 0
) -> Generated:
    """Draw samples of every category and compare them with real images given it; NaN where none can be drawn."""
    if model.no_generator is not None:
        return Generated(float("nan"), float("nan"), float("nan"))
    asked = torch.arange(model.num_categories).repeat_interleave(SAMPLES_PER_CATEGORY)
    samples = model.draw_images(asked, seed)
    recovered = float("nan")
    if model.encodes_images:
        recovered = (model.classify(samples).argmax(1) == asked).float().mean().item()
    ratios = []
    for category in range(model.num_categories):
        real = model.to_input(images[categories == category][:SAMPLES_PER_CATEGORY])
        if len(real) < 2:
            continue  # nothing real to compare with
        drawn = samples[asked == category]
        pairs = [(drawn, real)] + ([(model.encode(drawn), model.encode(real))] if model.encodes_images else [])
        ratios.append([_distance(fake) / max(_distance(true), 1e-12) for fake, true in pairs])
    pixels, latent = [*(np.mean(ratios, axis=0) if ratios else []), float("nan"), float("nan")][:2]
    return Generated(recovered, float(pixels), float(latent))


def _frechet_distance(
    model: CategoryModel, images: NDArray[np.uint8], categories: NDArray[np.int64], seed: int
) -> float | None:
    samples = model.draw_images(torch.from_numpy(categories), seed)
    found = frechet.distance(frechet.features(samples), frechet.features(model.to_input(images)))
    return None if np.isnan(found) else found


def _distance(values: torch.Tensor) -> float:
    return metrics.mean_pairwise_distance(values.flatten(1).numpy().astype(np.float64))
