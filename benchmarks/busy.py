"""What remains of the speed beside processes that keep a CPU busy. `python benchmarks/step.py --busy` runs it.

Beside none, one and two of them take turns in every round; a share is that of the speed beside none in the same round.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.neighbours import directions_of
from benchmarks.ways import THREADS, Case, Way
from infoae import data
from infoae.deploy import Classifier
from infoae.deploy.export import export_run
from infoae.pseudolabels import knn
from infoae.pseudolabels.neighbour_graph import CANDIDATES
from infoae.runs.run import Run

COMPETITORS = (0, 1, 2)
BUSY = [sys.executable, "-c", "while True: pass"]
BOX = 1.5
"""Seconds that are measured at once."""
STARTED = 0.2
"""Seconds until a process is busy."""
STEPS = 10**6
"""More than fit into the seconds."""


@contextmanager
def competitors(count: int) -> Iterator[None]:
    """Keep so many other processes busy."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.callback(_end, subprocess.Popen(BUSY))  # those begun are ended even if the next cannot be
        time.sleep(STARTED if count else 0)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def steps_rate(case: Case, way: Way) -> float:
    """Return images a second of steps."""
    times = way.run(lambda: case.seconds(STEPS, BOX), case.step.num_bytes)
    return case.batch / statistics.median(times)


def rate(action: Callable[[], object], count: int, cpus: int) -> float:
    """Return how many a second, where an action is of `count`: of the median of its calls after the first."""
    torch.set_num_threads(cpus)
    action()
    begun, times = time.perf_counter(), list[float]()
    while not times or time.perf_counter() - begun < BOX:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return count / statistics.median(times)


def measure(cases: list[Case], cpus: int, rounds: int, run: Run | None) -> list[dict[str, Any]]:
    """Return what remains of each speed; what is a list has a figure of each round."""
    speeds: dict[tuple[str, str], Callable[[], float]] = {
        (f"{case.recipe}, {case.stage.name}", way.name): partial(steps_rate, case, way)
        for case in cases
        for way in case.ways
    }
    with tempfile.TemporaryDirectory() as folder:
        speeds |= {(what, THREADS): speed for what, speed in _without_steps(cases[-1], cpus, run, Path(folder)).items()}
        rates: dict[tuple[str, str], list[list[float]]] = {key: [[] for _ in COMPETITORS] for key in speeds}
        for _ in range(rounds):
            for place, count in enumerate(COMPETITORS):
                with competitors(count):
                    for key, speed in speeds.items():
                        rates[key][place].append(speed())
    return [
        {
            "what": what,
            "way": way,
            "per_second": [statistics.median(each) for each in measured],
            "shares": [[one / quiet for one, quiet in zip(each, measured[0], strict=True)] for each in measured[1:]],
        }
        for (what, way), measured in rates.items()
    ]


def _without_steps(case: Case, cpus: int, run: Run | None, folder: Path) -> dict[str, Callable[[], float]]:
    """Return what is measured beside steps: with a case's model and test images, and with a run's bundle."""
    images = np.asarray(data.load(case.step.config.data, "test").images)
    model, directions = case.step.evaluated_model(), directions_of(images)
    actions: dict[str, Callable[[], object]] = {
        f"{case.recipe}, evaluation": lambda: model.classify(images),
        "neighbour search": lambda: list(knn.closest(directions, CANDIDATES)),
    }
    if run is not None:
        classifier = Classifier(export_run(run, folder / "bundle").path)
        actions["`Classifier`"] = lambda: classifier.classify(images)
    return {what: partial(rate, action, len(images), cpus) for what, action in actions.items()}


def lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the shares as a table for people."""
    told = [f"{'what remains beside':<40}{'way':<12}{'alone':>9}/s" + "".join(f"{n:>8} busy" for n in COMPETITORS[1:])]
    for row in found:
        shares = "".join(f"{statistics.median(each):13.2f}" for each in row["shares"])
        told.append(f"{row['what']:<40}{row['way']:<12}{row['per_second'][0]:9.0f}  {shares}")
    return told
