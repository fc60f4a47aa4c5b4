"""What is wrong with a run, seen without labels, and what to try: during training and in `evaluate`.

The bounds are rules of thumb, from runs on MNIST that went well and badly (docs/lab-notes.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from infoae import metric_names
from infoae.config.methods import methods_of
from infoae.evaluation.trivial import Trivial
from infoae.pseudolabels import distinctness, merging

Floats = NDArray[np.float64]

CLEAN = 0.7  # of a perfect distinction: kinds of one digit are told apart by less, two digits by more
BALANCED = 0.9
AGREEING = 0.6  # of the heads, or of the images: 1.0 and 0.95 in good runs
RECOVERED = 0.9
DIVERSE = 0.4
WINNING, CHANCE = 0.98, 0.55
RIVAL = 0.9  # of the sharpest bend of the curve that auto reads
TRIVIAL = 0.6  # of k-means, which agrees with itself from another seed by 0.60 to 0.71, and with MNIST's digits by 0.51
LAYOUT, SUFFICIENT = 0.4, 0.95  # of a thumbnail's prediction, and beside that of all pixels: digits 0.63 and 0.71 of it
INFORMED = 1.2  # times the nats of k-means; the worst seed by the paper's losses has 1.4 times
FOOLED = 8.0  # nats: the self-critic believes no pair of the encoder's

_SETTING = re.compile(r"\b[a-z_]+(?:\.[a-z_]+)+")
VOTE = (metric_names.HEADS_AGREEING, metric_names.PSEUDO_LABELLED)
WATCHED = (
    (metric_names.DISCRIMINATOR_ACCURACY,),
    (metric_names.ENCODER_ADVERSARIAL,),
    (metric_names.CATEGORIES_UNUSED, metric_names.BALANCE),
    (metric_names.LEAST_DISTINCT,),
    (metric_names.MOST_DIVIDED,),
    (metric_names.RECOVERED,),
    (metric_names.DIVERSITY_PIXELS,),
)
PATIENCE = 4  # ends of epochs in a row: the first epochs are one-sided in good runs, too


def of_categories(joint: Floats, category_of: NDArray[np.int64]) -> Iterator[str]:
    """Yield what is suspicious about categories, merged from over-categories with a joint distribution (M, M)."""
    merged = merging.merged_joint(joint, category_of)
    apart = distinctness.distinctions(merged)
    if alike := int((apart < CLEAN).sum()):
        first, second = np.unravel_index(apart.argmin(), apart.shape)
        told_apart = apart[first, second]
        more = f", and so may {alike - 1} more pairs" if alike > 1 else ""
        yield (
            f"categories {first} and {second} may be one thing (told apart by {told_apart:.0%}){more}: train longer, "
            "or ask for fewer categories"
        )
    for category, told_apart, smaller in distinctness.divided(joint, category_of):
        if told_apart > CLEAN:
            yield (
                f"category {category} may hold two things, {smaller:.0%} of it the second (told apart by "
                f"{told_apart:.0%}): ask for more categories, try --categories auto, or another seed"
            )


def of_measures(measures: Mapping[str, float], method: str) -> Iterator[str]:
    """Yield what is suspicious about `measures` by name: losses in nats, and whatever else there is of evaluation's.

    What is proposed against it are settings that `method` has.
    """
    least, divided = measures.get(metric_names.LEAST_DISTINCT, 1.0), measures.get(metric_names.MOST_DIVIDED, 0.0)
    agreeing, labelled = (measures.get(name, 1.0) for name in VOTE)
    balance, unused = measures.get(metric_names.BALANCE), measures.get(metric_names.CATEGORIES_UNUSED, 0)
    if unused:
        yield (
            f"categories that hardly an image is given: {unused:.0f}; "
            + _remedies(
                method,
                "raise objective.weights.mutual_information or stages.mutual_information_epochs",
                "raise objective.weights.category_information",
                "raise objective.weights.category_adversarial",
                "ask for fewer",
            )
        )
    elif balance is not None and balance < BALANCED:
        yield f"some categories are far larger than others (balance {balance:.2f}): right only if the data are so"
    if least < CLEAN:
        yield (
            f"two categories may be one thing (told apart by {least:.0%}): train longer, or ask for fewer categories"
        )
    if divided > CLEAN:
        yield (
            f"a category may hold two things (told apart by {divided:.0%}): ask for more categories, "
            "try --categories auto, or another seed"
        )
    if min(agreeing, labelled) < AGREEING:
        yield (
            f"the heads agree little: a category is shared by {agreeing:.0%} of them on "
            f"average, and {labelled:.0%} of the images were given one by their vote; "
            + _remedies(method, "raise stages.mutual_information_epochs", "ask for another number of categories")
        )
    recovered = measures.get(metric_names.RECOVERED)
    if recovered is not None and recovered < RECOVERED:
        yield (
            f"only {recovered:.0%} of generated images come back as the category asked for: "
            + _remedies(
                method,
                "train longer",
                "raise objective.weights.latent_matching",
                "raise objective.weights.category_information",
            )
        )
    diversity = measures.get(metric_names.DIVERSITY_PIXELS)
    if diversity is not None and diversity < DIVERSE:
        yield (
            f"generated images of one category are much alike (diversity {diversity:.2f}, of real images 1): "
            + _remedies(
                method, "train longer", "raise objective.weights.latent_matching and objective.weights.reconstruction"
            )
        )
    right = measures.get(metric_names.DISCRIMINATOR_ACCURACY)
    if right is not None and right > WINNING:
        yield (
            f"the discriminator tells {right:.0%} of what it sees apart, so little is learnt from it: "
            + _remedies(method, "lower optim.critic_learning_rate", "set model.critic_norm=spectral")
        )
    if right is not None and right < CHANCE:
        remedy = _remedies(method, "raise optim.critic_learning_rate")
        yield f"the discriminator is at chance ({right:.0%}): {remedy}"
    fooled = measures.get(metric_names.ENCODER_ADVERSARIAL)
    if fooled is not None and fooled > FOOLED:
        yield (
            f"the self-critic believes none of the encoder's pairs (encoder_adversarial {fooled:.1f} nats): "
            + _remedies(method, "lower optim.critic_learning_rate", "set objective.self_critic_fakes=reconstructed")
        )


def _remedies(method: str, *remedies: str) -> str:
    """Return those of the remedies whose settings, by dotted key, a method has."""
    mine = [each for each in remedies if all(method in methods_of(key) for key in _SETTING.findall(each))]
    return ", or ".join(mine)


def of_trivial(found: Trivial, score: float | None) -> Iterator[str]:
    """Yield what is suspicious about categories beside what needs no training.

    Their `score` in nats is compared, too, where it is given: where it says enough, and is what was trained for.
    """
    beside = ((found.pixels, "pixels"), (found.colour, "mean colour and brightness"))
    nearest, of = max(beside, key=lambda each: each[0].agreement)
    remedy = "right only if that is what you look for; of photographs try --config photos, or --features"
    if nearest.agreement > TRIVIAL:
        yield (
            f"the categories are little else than k-means on {of} (agreement {nearest.agreement:.2f}, at most 1): "
            + remedy
        )
    elif found.predicted_by_thumbnail > max(LAYOUT, SUFFICIENT * found.predicted_by_pixels):
        yield (
            "the categories follow where images are light, dark or coloured: 4 x 4 pixels predict them as well as "
            f"all pixels do ({found.predicted_by_thumbnail:.2f} and {found.predicted_by_pixels:.2f}, at most 1): "
            + remedy
        )
    best, of = max(beside, key=lambda each: each[0].mutual_information)
    if score is not None and score < INFORMED * best.mutual_information:
        yield (
            f"these categories say no more than k-means on {of} ({score:.2f} nats against "
            f"{best.mutual_information:.2f}): train longer, or ask for fewer; there may be none to find"
        )


def of_number(kept: Mapping[int, float]) -> Iterator[str]:
    """Yield what is suspicious about a number of categories found from the information kept at each number."""
    found, over = merging.choose_number(kept), max(kept)
    if found > over / 2:
        yield (
            f"{found} categories were found of {over} over-categories, which is too few of these to tell: raise "
            "model.num_over_categories"
        )
    bends = merging.bends(kept)
    rivals = [number for number, bend in bends.items() if number != found and bend > RIVAL * bends[found]]
    if rivals:
        yield (
            f"the number of categories is not certain: {', '.join(map(str, rivals))} would do nearly as well as "
            f"{found} (infoae figures draws the curve): try other seeds, or give the number"
        )


class Watch:
    """Decides during a training which warnings are due: what stays wrong for some epochs, and the vote at once."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._epochs_wrong = Counter[str]()

    def warnings(self, measures: Mapping[str, float]) -> list[str]:
        """Return what is to be said at the end of an epoch with these measures."""
        due = []
        for names in (*WATCHED, VOTE):
            wrong = list(of_measures({name: measures[name] for name in names if name in measures}, self._method))
            self._epochs_wrong[names[0]] = self._epochs_wrong[names[0]] + 1 if wrong else 0
            if self._epochs_wrong[names[0]] == (1 if names == VOTE else PATIENCE):
                due.append(wrong[0])
        return due
