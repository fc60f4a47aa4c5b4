"""What is wrong with a run, seen without labels, and what to try: during training and in `evaluate`.

The bounds are rules of thumb, from runs on MNIST that went well and badly (docs/lab-notes.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from infoae.pseudolabels import merging

Floats = NDArray[np.float64]

CLEAN = 0.7  # of a perfect distinction: kinds of one digit are told apart by less, two digits by more
PART = 0.25  # of a category: what is smaller is an odd style, not a second thing
BALANCED = 0.9
AGREEING = 0.6  # of the heads, or of the images: 1.0 and 0.95 in good runs
RECOVERED = 0.9
DIVERSE = 0.4
WINNING, CHANCE = 0.98, 0.55
RIVAL = 0.9  # of the sharpest bend of the curve that auto reads
FOOLED = 8.0  # nats: the self-critic believes no pair of the encoder's


def distinctions(joint: Floats) -> Floats:
    """Return how cleanly each two categories are told apart, 0 to 1, from the joint distribution (K, K) for pairs.

    It is the information that merging them loses, over what telling them apart without error would be worth; 1 also
    where it loses more, because other categories go with only one of them. At [i, j] with i < j; 1 elsewhere.
    """
    p = joint.sum(1)
    answered = p > 0
    p = np.where(answered, p, 1.0)  # one that is never answered is mixed up with none
    i, j = np.indices(joint.shape)
    both = p[i] + p[j]
    perfect = both * np.log(both) - (p * np.log(p))[i] - (p * np.log(p))[j]
    pairs = (i < j) & answered[i] & answered[j]
    found: Floats = np.where(pairs, np.minimum(merging.merging_losses(joint) / perfect, 1.0), 1.0)
    return found


def of_joint(joint: Floats, category_of: NDArray[np.int64]) -> dict[str, float]:
    """Return how cleanly the two most alike categories and the halves of the most divided are told apart, 0 to 1."""
    merged = merging.merged_joint(joint, category_of)
    split = [told_apart for _, told_apart, _ in _divided(joint, category_of)]
    return {"least_told_apart": float(distinctions(merged).min()), "most_divided": max(split, default=0.0)}


def of_categories(joint: Floats, category_of: NDArray[np.int64]) -> Iterator[str]:
    """Yield what is suspicious about categories, merged from over-categories with a joint distribution (M, M)."""
    merged = merging.merged_joint(joint, category_of)
    apart = distinctions(merged)
    if alike := int((apart < CLEAN).sum()):
        first, second = np.unravel_index(apart.argmin(), apart.shape)
        told_apart = apart[first, second]
        more = f", and so may {alike - 1} more pairs" if alike > 1 else ""
        yield (
            f"categories {first} and {second} may be one thing (told apart by {told_apart:.0%}){more}: train longer, "
            "or ask for fewer categories"
        )
    for category, told_apart, smaller in _divided(joint, category_of):
        if told_apart > CLEAN:
            yield (
                f"category {category} may hold two things, {smaller:.0%} of it the second (told apart by "
                f"{told_apart:.0%}): ask for more categories, try --categories auto, or another seed"
            )


def of_measures(measures: Mapping[str, float]) -> Iterator[str]:
    """Yield what is suspicious about `measures` by name: losses in nats, and whatever else there is of evaluation's."""
    balance, unused = measures.get("balance"), measures.get("categories_unused", 0)
    if unused:
        yield (
            f"categories that hardly an image is given: {unused:.0f}; raise objective.weights.information or "
            "information.epochs, or ask for fewer"
        )
    elif balance is not None and balance < BALANCED:
        yield f"some categories are far larger than others (balance {balance:.2f}): right only if the data are so"
    if measures.get("least_told_apart", 1.0) < CLEAN:
        yield (
            f"two categories may be one thing (told apart by {measures['least_told_apart']:.0%}): train longer, or ask "
            "for fewer categories"
        )
    if measures.get("most_divided", 0.0) > CLEAN:
        yield (
            f"a category may hold two things (told apart by {measures['most_divided']:.0%}): ask for more categories, "
            "try --categories auto, or another seed"
        )
    if measures.get("heads_agreeing", 1.0) < AGREEING or measures.get("labelled", 1.0) < AGREEING:
        yield (
            f"the heads agree little: a category is shared by {measures.get('heads_agreeing', 1.0):.0%} of them on "
            f"average, and {measures.get('labelled', 1.0):.0%} of the images were given one by their vote; raise "
            "information.epochs, or ask for another number of categories"
        )
    recovered = measures.get("recovered")
    if recovered is not None and recovered < RECOVERED:
        yield (
            f"only {recovered:.0%} of generated images come back as the category asked for: train longer, or raise "
            "objective.weights.latent_matching"
        )
    diversity = measures.get("diversity_pixels")
    if diversity is not None and diversity < DIVERSE:
        yield (
            f"generated images of one category are much alike (diversity {diversity:.2f}, of real images 1): train "
            "longer, or raise objective.weights.latent_matching and reconstruction"
        )
    right = measures.get("discriminator_accuracy")
    if right is not None and right > WINNING:
        yield (
            f"the discriminator tells {right:.0%} of images apart, so the decoder learns little from it: lower "
            "optim.critic_learning_rate, or set model.critic_norm=spectral"
        )
    if right is not None and right < CHANCE:
        yield f"the discriminator is at chance ({right:.0%}): raise optim.critic_learning_rate"
    fooled = measures.get("loss/encoder_adversarial")
    if fooled is not None and fooled > FOOLED:
        yield (
            f"the self-critic believes none of the encoder's pairs (encoder_adversarial {fooled:.1f} nats): lower "
            "optim.critic_learning_rate, or set objective.self_critic_fakes=reconstructed"
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


def _divided(joint: Floats, category_of: NDArray[np.int64]) -> Iterator[tuple[int, float, float]]:
    """Yield categories of two sizeable parts, how cleanly these are told apart, and how much of it the smaller is."""
    for category in range(int(category_of.max()) + 1):
        parts = _halves(joint, category_of, category)
        if parts is not None:
            smaller = float(parts.sum(1)[:2].min() / parts.sum(1)[:2].sum())
            if smaller >= PART:
                yield category, float(distinctions(parts)[0, 1]), smaller


def _halves(joint: Floats, category_of: NDArray[np.int64], category: int) -> Floats | None:
    """Merge the over-categories of one category down to two: joint distribution (3, 3) of these and all others."""
    inside = np.flatnonzero((category_of == category) & (joint.sum(1) > 0))
    if len(inside) < 2:
        return None
    within = joint[np.ix_(inside, inside)]
    halves = np.full(len(joint), 2)
    halves[inside] = merging.merge(within / within.sum(), 2)[0]
    return merging.merged_joint(joint, halves) if (halves == 2).any() else None
