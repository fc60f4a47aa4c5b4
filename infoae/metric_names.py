"""The names under which metrics.jsonl, W&B, progress and warnings know a measure, spelled here alone."""

from __future__ import annotations

IMAGES_PER_SECOND = "images_per_second"
DATA_WAIT = "data_wait"
"""Share of the time since the last logged step in which images were drawn and read, and nothing was computed."""
DISCRIMINATOR_ACCURACY = "discriminator_accuracy"

MUTUAL_INFORMATION = "mutual_information"
BALANCE = "balance"
CATEGORIES_UNUSED = "categories_unused"
LEAST_DISTINCT = "least_told_apart"
MOST_DIVIDED = "most_divided"
PSEUDO_LABELLED = "pseudo_labelled"
HEADS_AGREEING = "heads_agreeing"
RECOVERED = "recovered"
DIVERSITY_PIXELS = "diversity_pixels"


def of_loss(name: str) -> str:
    """Return the metric of a loss, in nats, at a logged step."""
    return f"loss/{name}"


def of_evaluation(name: str) -> str:
    """Return the metric of a measure that is taken at the end of each epoch."""
    return f"evaluation/{name}"


ENCODER_ADVERSARIAL = of_loss("encoder_adversarial")
