"""What a command that is killed does otherwise than for users: small parts, and in this process what is left to Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def cache_here() -> None:
    os.environ["INFOAE_CACHE"] = "cache"


def small_parts() -> None:
    from infoae.deploy import sinks

    sinks.PART_ROWS, sinks.PART_SECONDS = 8, float("inf")


def actors_here() -> None:
    """Let the shards of `classify --ray` be done by this process, which is the one that is killed."""
    from infoae.deploy import ray_batch

    def pipeline(work: Any, todo: list[dict[str, Any]], resumed: int) -> Generator[dict[str, Any]]:  # noqa: ARG001
        actor = ray_batch._ShardClassifier(work)
        for item in todo:
            yield json.loads(actor({name: [value] for name, value in item.items()})["done"][0])

    ray_batch.SHARD_ROWS = 8
    ray_batch._pipeline = pipeline


def trials_here() -> None:
    """Let a sweep's trials be trained by this process, one after the other."""
    from infoae.cluster import connect, placement
    from infoae.cluster.placement import Layout
    from infoae.tune import sweep as sweeping
    from infoae.tune.search import Numbered
    from infoae.tune.trial import Training

    class Sequential:
        def __init__(self, task: Any, at_once: int, scratch: Path, following: Any) -> None:
            self.task, self.following = task, following

        def fit(self) -> None:
            searcher = Numbered(self.task.sweep, self.task.folder)
            while (given := searcher.suggest(str(len(searcher._given)))) != Numbered.FINISHED:
                trial = SimpleNamespace(config=given)
                training = Training.__new__(Training)
                training.setup(given, self.task)
                done = False
                while not done:
                    result = training.step()
                    self.following.on_trial_result(0, [], trial, result)
                    done = result["done"]
                self.following.on_trial_complete(0, [], trial)
                training.cleanup()

    connect.connected = lambda *_: nullcontext()  # type: ignore[assignment]
    placement.check_nodes = lambda *_: None
    sweeping._layout = lambda *_: (Layout(1, 1, 1, 1, False), 1)
    sweeping._tuner = Sequential  # type: ignore[assignment]
