"""Sweeps of trainings that end in a second."""

from __future__ import annotations

from pathlib import Path

from infoae.cluster.connect import Request
from infoae.tune.record import Scheduling, Search, Sweep
from infoae.tune.sweep import planned
from tests.helpers.settings import TINY


def make(
    runs: Path,
    text: str,
    *overrides: str,
    search: Search = "random",
    scheduler: Scheduling = "none",
    trials: int | None = None,
    size: tuple[int, int] = (1, 1),
) -> tuple[Sweep, Path]:
    runs.mkdir(exist_ok=True)
    (runs / "space.yaml").write_text(text)
    how = (search, scheduler, "mutual_information")
    settings = [*TINY, *overrides]
    request = Request(size[0], size[0], size[1])
    return planned("smoke", settings, str(runs / "space.yaml"), how, trials, request, runs, None)  # type: ignore[arg-type]
