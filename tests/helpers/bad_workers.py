"""What workers of a Ray cluster do in place of `worker.work` to be slow or stuck."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from infoae.cluster.worker import work
from infoae.distributed import collectives, doing
from infoae.evaluation import evaluate
from infoae.step import Step

SLOW_SECONDS = 25.0


def deadlocked_once(arguments: dict[str, Any]) -> None:
    """Let rank 1 wait for something other than all do, after some steps and at the first start alone."""
    mark: Path = arguments["job"].run / "deadlocked"
    add, calls = collectives.sum_over_ranks, 0

    def wait_for_nothing(value: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 40 and dist.get_rank() == 1 and not mark.exists():
            mark.touch()
            with doing.waiting("what is never sent"):
                dist.recv(torch.zeros(1), src=0, tag=99)
        return add(value)

    with mock.patch.object(collectives, "sum_over_ranks", wait_for_nothing):
        work(arguments)


def slow(arguments: dict[str, Any]) -> None:
    """Take SLOW_SECONDS for an evaluation, and as much for a rank's part of its first step and of another."""
    measure, take = evaluate.label_free, Step._take_gradients
    evaluated = False

    def measure_slowly(*given: Any, **named: Any) -> Any:
        nonlocal evaluated
        time.sleep(0 if evaluated else SLOW_SECONDS)
        evaluated = True
        return measure(*given, **named)

    def take_slowly(self: Step, *given: Any) -> dict[str, Tensor]:
        steps.append(None)
        if dist.get_rank() == 1 and len(steps) in (1, 10):
            time.sleep(SLOW_SECONDS)
        return take(self, *given)

    steps: list[None] = []
    with (
        mock.patch.object(evaluate, "label_free", measure_slowly),
        mock.patch.object(Step, "_take_gradients", take_slowly),
    ):
        work(arguments)
