"""Sweeps of trainings that end in a second."""

from __future__ import annotations

from pathlib import Path

from infoae.cluster.connect import Request
from infoae.tune.record import Metric, Scheduling, Search, Sweep
from infoae.tune.sweep import planned
from tests.helpers.methods import RECIPES, tiny


def make(
    runs: Path,
    text: str | None,
    *overrides: str,
    method: str = "infoae",
    metric: Metric = "mutual_information",
    search: Search = "random",
    scheduler: Scheduling = "none",
    trials: int | None = None,
    size: tuple[int, int] = (1, 1),
) -> tuple[Sweep, Path]:
    """Plan a sweep over the search space `text`, or that of the method if it is None."""
    runs.mkdir(exist_ok=True)
    space = None
    if text is not None:
        space = str(runs / "space.yaml")
        Path(space).write_text(text)
    settings = [*tiny(method), *overrides]
    request = Request(size[0], size[0], size[1])
    return planned(RECIPES[method], settings, space, (search, scheduler, metric), trials, request, runs, None)
