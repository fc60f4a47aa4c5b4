"""What a worker says of itself while it works: a thread tells the command every few seconds what it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import ray.util

from infoae.distributed import doing

SECONDS = 2.0
"""Between two beats."""


@dataclass(frozen=True)
class Worker:
    """Who a worker is."""

    team: str
    """The same for all workers that were started together, and for no others."""
    rank: int
    node: str
    """Ray's id of its node."""
    address: str
    """Of that node."""
    actor: Any
    """Its handle, to end it by."""

    def __str__(self) -> str:
        return f"worker {self.rank} on {self.address}"


@dataclass(frozen=True)
class Beat:
    """What a worker does, as `doing` says it."""

    worker: Worker
    what: str
    waits: bool
    patience: float
    seconds: float
    """How long it has done so."""


@contextmanager
def beating(channel: Any) -> Iterator[None]:
    """Tell the command within, by the Channel, what this worker does, and at the end that it has left."""
    context = ray.get_runtime_context()
    worker = Worker(
        team=context.get_placement_group_id() or "",
        rank=ray.train.get_context().get_world_rank(),
        node=context.get_node_id(),
        address=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
        actor=context.current_actor,
    )
    ended = threading.Event()

    def beat() -> None:
        while True:
            now = doing.now()
            channel.put.remote("beat", Beat(worker, now.what, now.waits, now.patience, now.seconds))
            if ended.wait(SECONDS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        channel.put.remote("left", worker)
