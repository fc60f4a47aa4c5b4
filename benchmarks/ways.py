"""A stage of a recipe that takes training steps on the CPU, and the ways to spread a step over it.

What `benchmarks/step.py`, `benchmarks/busy.py` and `benchmarks/phases.py` have in common.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from infoae import data
from infoae.config import recipes
from infoae.data.sampler import batches
from infoae.device import resolve_precision
from infoae.distributed import collectives, local_group
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.planning import with_image_shape
from infoae.stages import Stage
from infoae.step import Step

T = TypeVar("T")

CPU = torch.device("cpu")
ONE, PROCESSES, THREADS = "one thread", "processes", "threads"


@dataclass(frozen=True)
class Way:
    """So many processes that share a batch, each of so many OpenMP threads."""

    name: str
    processes: int
    threads: int

    def run(self, work: Callable[[], T], room: int = 0) -> T:
        """Return what `work` returns in this process, while the others compute it too."""
        torch.set_num_threads(self.processes * self.threads)
        return local_group.run(self.processes, work, room)


@dataclass(frozen=True)
class Case:
    """A stage of a recipe, with a model of its own, and images to take steps with."""

    recipe: str
    stage: Stage
    step: Step
    batches: Sequence[torch.Tensor]
    """Whole batches of uint8 images (B, C, H, W); steps take them in turn."""
    ways: tuple[Way, ...]

    @property
    def batch(self) -> int:
        """Images of a step."""
        return len(self.batches[0])

    def take(self, index: int) -> None:
        """Take a step as the trainer does, this process with its share of the batch."""
        images = self.batches[index % len(self.batches)]
        share = collectives.share(len(images))
        self.step(images[share.slice], index, self.stage, share.total)

    def seconds(self, most: int, box: float = math.inf) -> list[float]:
        """Return the seconds of each of some steps: `most`, or as many as begin within `box` seconds, at least one.

        All processes of a group call it, and take equally many. As in training, they agree after each step whether it
        was the last. A step before the first fills caches, and does not count.
        """
        self.take(0)
        collectives.any_rank(False, CPU)
        begun, times = time.perf_counter(), list[float]()
        stops = False
        while not stops:
            started = time.perf_counter()
            self.take(len(times) + 1)
            last = len(times) + 1 == most or time.perf_counter() - begun >= box
            stops = collectives.any_rank(last, CPU)
            times.append(time.perf_counter() - started)
        return times


def cases_of(recipe: str, settings: Sequence[str], cpus: int) -> Iterator[Case]:
    """Yield the first and the last stage of a recipe, to be computed on so many CPUs.

    Images are compared with themselves, augmented, and no pseudo-labels are given.
    """
    run = recipes.load(recipe, settings)
    train = data.load(run.data, "train")
    run, sizes = with_image_shape(run, train), run.train
    order = batches(run.seed, 0, len(train.images), sizes.batch_size)[:8]
    drawn = [torch.from_numpy(train.images[indices]) for indices in order]
    processes = local_group.size_for(sizes.batch_size, sizes.micro_batch_size, cpus)
    ways = (Way(ONE, 1, 1), Way(PROCESSES, processes, 1), Way(THREADS, 1, cpus))
    stages = schedule_of(run).stages
    for stage in dict.fromkeys((stages[0], stages[-1])):
        torch.manual_seed(0)
        step = Step(method_of(run).build(run), run, CPU, resolve_precision(run.train.precision, CPU))
        yield Case(recipe, stage, step, drawn, ways)
