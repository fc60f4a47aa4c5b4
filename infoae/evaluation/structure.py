"""Whether there is anything to find in pictures: those of one kind, and noise, have no categories.

The bounds are rules of thumb. After short trainings of recipe mnist on 1,350 pictures (docs/lab-notes.md), the heads
shared all categories of ten digits, and 57 and 62 % of those of ones and of fours alone; the least distinct two were
told apart by 0.54, and by 0.19. Noise had 0.01 nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from infoae import metric_names
from infoae.metric_names import of_evaluation

INFORMED = 0.1
"""Nats between the answers for a picture and for its twin that categories have at least."""
AGREEING, DISTINCT = 0.7, 0.25
"""Share of the heads that have a category, on average, and how well the least distinct two are told apart: below both,
each head has drawn its lines elsewhere through what is one. One alone may also be low for photographs of many things.
"""


def why_none(used: int, nats: float, metrics: Iterable[Mapping[str, float]]) -> str | None:
    """Return why there are no categories to speak of, None if there are; nothing of it needs a label.

    `used` categories are given to images, and the answers for images and for twins share `nats`; `metrics` are the
    lines of the run's metrics.jsonl.
    """
    if used < 2:
        return "nearly all pictures have the same answer"
    if nats < INFORMED:
        return f"the answer for a picture says next to nothing of that for its augmented twin ({nats:.2f} nats)"
    names = [of_evaluation(name) for name in (metric_names.HEADS_AGREEING, metric_names.LEAST_DISTINCT)]
    votes = [line for line in metrics if all(name in line for name in names)]
    if votes:
        agreeing, distinct = (votes[0][name] for name in names)
        if agreeing < AGREEING and distinct < DISTINCT:
            return (
                f"a category is shared by {agreeing:.0%} of the heads on average, and two of them are told apart by "
                f"only {distinct:.0%}"
            )
    return None
