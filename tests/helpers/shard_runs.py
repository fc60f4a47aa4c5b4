"""Trainings on shards of few digits, wherever these lie, and what they came to."""

from __future__ import annotations

import subprocess
from pathlib import Path

from infoae.data.shards import Shards
from infoae.runs.run import Run
from tests.helpers.commands import call
from tests.helpers.settings import SMALL

SHARD_SETTINGS = [part for setting in (*SMALL, "data.limit=null") for part in ("--set", setting)]


def train(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return call("train", "--config", "smoke", *SHARD_SETTINGS, *arguments, cwd=cwd, **environment)


def newest(folder: Path) -> dict[str, bytes]:
    """Return all files of tensors of a run's newest checkpoint."""
    found = {file.name: file.read_bytes() for file in Run(folder).checkpoint("newest").glob("*.safetensors")}
    assert found
    return found


def metrics(folder: Path) -> list[dict[str, float]]:
    """Return all measures of a run that are no times."""
    times = ("seconds", "images_per_second", "data_wait")
    return [{name: value for name, value in line.items() if name not in times} for line in Run(folder).metrics()]


def fresh(shards: Shards) -> Shards:
    """Return the same shards, of which none is open."""
    shards._opened.cache_clear()
    return shards
