"""Trainings on the simulated cluster of the fixture `ray_cluster`, and what becomes of their processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infoae import planning
from infoae.planning import Plan
from infoae.runs.run import Run
from tests.helpers.settings import TINY


def plan(runs: Path, name: str, *overrides: str) -> Plan:
    return planning.planned("smoke", [*TINY, "train.epochs=4", *overrides], runs, name)


def metric_steps(run: Run) -> list[int]:
    return [line["step"] for line in run.metrics() if "loss/reconstruction" in line]


def train_workers(node: Any) -> list[int]:
    """Process ids of the training workers that a node of the simulated cluster has started."""
    return workers(node, "TrainWorker")


def workers(node: Any, does: str) -> list[int]:
    """Process ids of a node's workers whose title says what they do."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and does.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def after(run: Path, step: int, act: Callable[[], None]) -> threading.Thread:
    """Act once the run has logged `step`."""

    def wait() -> None:
        while not run.is_dir() or max(metric_steps(Run(run)), default=0) < step:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


RAY_ONLY = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings(  # Ray's own: what it deprecates and uses, a socket it looks for a port with
        "ignore::DeprecationWarning:ray",
        "ignore:.*unclosed <socket.socket.*:ResourceWarning",
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
    ),
]
"""Marks of a module of such tests."""
