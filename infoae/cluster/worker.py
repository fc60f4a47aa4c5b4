"""One of several workers: the same `Trainer` as in a single process, on its share of each batch.

It starts from the run's newest checkpoint, so workers that Ray Train starts again go on where the last ones saved.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.util.placement_group import placement_group_table
from torch import Tensor

from infoae.cluster.beating import beating
from infoae.cluster.observing import Observer, logged_as
from infoae.config import recipes
from infoae.device import resolve_precision
from infoae.distributed import collectives
from infoae.errors import UsageError, machine_errors
from infoae.features import torchvision
from infoae.loading import load_training
from infoae.results import Team
from infoae.runs import checkpoint, environment, images
from infoae.runs.run import Run
from infoae.runs.storage import Storage
from infoae.runs.uploads import Uploads
from infoae.trainer import Metrics, Moment, Reporter, Trainer

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
NEWS_SECONDS = 0.3  # between steps that the command hears of
LEAVING_SECONDS = 10.0  # between checkpoints, once a machine is announced to be taken away


class Channel:
    """An actor between the workers and the command: events one way, the wish to stop the other."""

    def __init__(self) -> None:
        self._events: list[tuple[Any, ...]] = []
        self._stopping = self._leaving = self._yielding = False
        self._at_rest = False

    def put(self, *event: Any) -> None:
        """Leave word of an event."""
        self._events.append(event)

    def drain(self) -> list[tuple[Any, ...]]:
        """Return the events since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Ask the workers to stop after the step they are at."""
        self._stopping = True

    def leave(self, leaving: bool) -> None:
        """Say whether a machine of theirs will be taken away."""
        self._leaving = leaving

    def make_way(self, wanted: bool) -> None:
        """Ask the workers to save and end after the step they are at, for others in another number; or no longer."""
        self._yielding = wanted

    def rest(self, resting: bool) -> None:
        """Say that the workers have ended, and that all is stored; or that they begin."""
        self._at_rest = resting

    def at_rest(self) -> bool:
        """Return whether those that began last have ended by themselves."""
        return self._at_rest

    def wishes(self) -> tuple[bool, bool, bool]:
        """Return whether they should stop, make way for others, and whether a machine will be taken away."""
        return self._stopping, self._yielding, self._leaving


@dataclass(frozen=True)
class Job:
    """What a worker is told."""

    config: str
    """YAML."""
    run: Path
    storage: Storage | None
    channel: Any
    """Handle of a Channel."""


@dataclass(frozen=True)
class Ended:
    """What the main worker says last; see TrainingResult."""

    finished: bool
    step: int
    total_steps: int
    seconds: float
    team: Team


def work(arguments: dict[str, Any]) -> None:
    """Train as one of the workers that Ray Train has started; `arguments` holds the job. Raises InfoAEError."""
    with machine_errors():  # or a full disk would be a lost worker, and tried again
        _work(arguments)


def _work(arguments: dict[str, Any]) -> None:
    job: Job = arguments["job"]
    config = recipes.parse(job.config, "the run's configuration")
    device = ray.train.torch.get_device()
    precision = common_precision(config.train.precision, device)
    rank = ray.train.get_context().get_world_rank()
    with beating(job.channel), _run_folder(job) as run, logged_as(run.name, rank) as log, ExitStack() as stack:
        torchvision.prepare(config.features)  # this machine may not have it yet
        train = load_training(config)
        images.refuse_changed(run, train.images, config.data)  # this worker may have come later
        trainer = Trainer(run, config, train, device, precision)
        trainer.restore(checkpoint.newest(run.checkpoints))
        log.step = trainer.done
        reporters: list[Reporter] = [Observer(log, device)]
        if collectives.is_main():
            team = _team()
            job.channel.rest.remote(False)
            run.write_config(config)  # only now: a checkpoint that cannot be read must leave the run as it was
            run.add_environment(environment.describe(device, precision, config.seed, trainer.done) | asdict(team))
            job.channel.put.remote("started", trainer.done, trainer.total_steps, team)
            uploads = None if job.storage is None else stack.enter_context(Uploads(job.storage, run))
            reporters.insert(0, _Forward(job.channel, uploads))
        wishes = _Wishes(job.channel)
        finished = trainer.fit(reporters, wishes.stop, wishes.save)
        if collectives.is_main() and not wishes.made_way:
            ended = Ended(finished, trainer.done, trainer.total_steps, round(trainer.seconds, 1), team)
            ray.get(job.channel.put.remote("ended", ended))
    if collectives.is_main():  # the storage has it all from here on
        ray.get(job.channel.rest.remote(True))


def common_precision(wanted: str, device: torch.device) -> torch.dtype:
    """Resolve the number format. Raises UsageError, on all ranks, if auto is not the same on each."""
    precision = resolve_precision(wanted, device)
    if not collectives.same_everywhere(PRECISIONS.index(precision), device):
        raise UsageError(
            "the workers' machines differ in the number format that precision auto takes: give --precision fp32, or "
            "the one that all of them have"
        )
    return precision


@contextmanager
def _run_folder(job: Job) -> Iterator[Run]:
    """The run's folder: itself where it is shared, else a copy of what the storage has."""
    if job.storage is None:
        yield Run(job.run)
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / job.run.name)
        job.storage.pull(run)
        yield run


def _team() -> Team:
    placed = placement_group_table(ray.util.get_current_placement_group())
    nodes = len(set(placed["bundles_to_node_id"].values()))
    return Team(ray.train.get_context().get_world_size(), nodes)


class _Forward:
    """Reporter of the main worker: hands everything to the command."""

    def __init__(self, channel: Any, uploads: Uploads | None) -> None:
        self._channel, self._uploads, self._last = channel, uploads, 0.0

    def stepped(self, moment: Moment) -> None:
        if time.monotonic() - self._last > NEWS_SECONDS:
            self._last = time.monotonic()
            self._channel.put.remote("stepped", moment)

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        self._channel.put.remote("stepped", moment)
        self._channel.put.remote("logged", moment, metrics)

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        self._channel.put.remote("evaluated", moment, metrics, samples)

    def saved(self, moment: Moment) -> None:
        if self._uploads is not None:
            self._uploads.push()
        self._channel.put.remote("saved", moment)


class _Wishes:
    """What the command wants, asked on the main worker and at most once a second."""

    def __init__(self, channel: Any) -> None:
        self._channel, self._asked, self._saved = channel, time.monotonic(), -math.inf
        self._stop = self._leaving = False
        self.made_way = False
        """Whether they stopped for others to go on at once."""

    def stop(self) -> bool:
        """Whether to stop after this step."""
        if collectives.is_main() and time.monotonic() - self._asked >= 1:
            self._asked = time.monotonic()
            stopping, yielding, self._leaving = ray.get(self._channel.wishes.remote())
            self.made_way = yielding and not stopping
            self._stop = stopping or yielding
        return self._stop

    def save(self) -> bool:
        """Whether to save after this step: every few seconds from when a machine is said to be taken away."""
        if not self._leaving or time.monotonic() - self._saved < LEAVING_SECONDS:
            return False
        self._saved = time.monotonic()
        return True
