"""Whether a training found anything: pictures of one kind have no categories, and none are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infoae import metric_names


def why_none(evaluation: Mapping[str, Any], metrics: Sequence[Mapping[str, float]]) -> str | None:
    """Return why there are no categories to speak of, None if there are; nothing of it needs a label.

    `evaluation` is the content of a run's evaluation.json, `metrics` are the lines of its metrics.jsonl.
    """
    return None
