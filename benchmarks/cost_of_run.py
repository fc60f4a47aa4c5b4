"""What the whole of `infoae train` takes: a formula of measured constants, beside one run. See benchmarks/cost.py.

    seconds = images * seconds to find an image's neighbours + steps * seconds of a step, of each stage
            + epochs * seconds of what ends one, of each stage + the vote + the evaluation at the end

Loading libraries and data, and writing checkpoints, are left out.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cost import CPU, measured
from infoae import data
from infoae.config import Config
from infoae.cpus import available_cpus
from infoae.data import ImageSet
from infoae.data.sampler import steps_an_epoch
from infoae.device import resolve_precision
from infoae.distributed import local_group
from infoae.evaluation.evaluate import evaluate_run
from infoae.memory import num_parameters
from infoae.methods.schedules import schedule_of
from infoae.planning import with_image_shape
from infoae.pseudolabels.neighbour_graph import nearest_neighbours
from infoae.runs import checkpoint, outcome
from infoae.runs.run import Run
from infoae.trainer import Trainer


def refuse(run: Run, config: Config) -> None:
    """Raise SystemExit if the formula says nothing of such a run."""
    if config.stages.representation_epochs or config.features.encoder is not None:
        raise SystemExit("the formula is of runs without learned or given features")
    if len(run.environments()) != 1 or not run.is_finished(config):
        raise SystemExit(f"{run.name} is not finished, or was resumed: give a run that was trained in one go")


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def neighbours_an_image(config: Config, train: ImageSet, count: int) -> float:
    """Return the seconds that the search for neighbours takes for one of the first `count` images."""
    images = train.images[:count]
    return seconds_of(lambda: nearest_neighbours(images, config.neighbours, config.augment)) / len(images)


def processes_of(config: Config) -> int:
    """Return how many processes share a batch where all CPUs are free."""
    train = config.train
    if not local_group.possible(CPU):
        return 1
    most = available_cpus() if train.processes == "auto" else train.processes
    return local_group.size_for(train.batch_size, train.micro_batch_size, most, 4 * num_parameters(config))


def ends_of_epochs(copy: Run, config: Config, train: ImageSet) -> tuple[dict[str, float], float]:
    """Return the seconds of what ends an epoch of each stage, and those of the vote, from the newest checkpoint.

    `copy` is a copy of the run, which is written to.
    """
    trainer = Trainer(copy, config, train, CPU, resolve_precision(config.train.precision, CPU))
    trainer.restore(copy.checkpoint("newest"))
    stages = trainer.schedule.stages

    def end(epoch: int) -> float:
        return seconds_of(lambda: trainer._finish_epoch(epoch, ()))

    end(stages[-1].epochs[-1])  # what is done once in a training
    seconds = {stage.name: end(stage.epochs[0]) for stage in stages}
    if not trainer.pseudo_labels.version:
        return seconds, 0.0
    before = trainer.schedule.epochs_before_vote - 1
    trainer.pseudo_labels.version, trainer.pseudo_labels.labels = 0, None
    return seconds, end(before) - seconds[trainer.schedule.stage(before).name]


def taken(run: Run, ends: list[int]) -> list[float]:
    """Return the seconds of all steps up to each of some steps, as the run's metrics have them."""
    seconds = {line["step"]: line["seconds"] for line in run.metrics()}
    steps = sorted(seconds)
    return [float(np.interp(end, [0, *steps], [0.0, *(seconds[step] for step in steps)])) for end in ends]


def measure(folder: Path, count: int, steps: int) -> dict[str, Any]:
    """Measure the constants for a run's configuration, and return them, their sum and what the run took."""
    run = Run(folder.resolve())
    train, test = (data.load(run.config().data, split) for split in ("train", "test"))
    config = with_image_shape(run.config(), train)
    refuse(run, config)
    if not isinstance(train, ImageSet) or not isinstance(test, ImageSet):
        raise SystemExit("the formula is of images in memory")
    schedule, processes, threads = schedule_of(config), processes_of(config), torch.get_num_threads()
    done = checkpoint.read(run.checkpoint("newest")).epoch
    an_epoch = steps_an_epoch(len(train), config.train.batch_size, config.train.min_steps_per_epoch)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Run(Path(shutil.copytree(run.path, Path(temporary) / run.name)))
        ends, vote = ends_of_epochs(copy, config, train)
        evaluation = seconds_of(lambda: evaluate_run(copy, test, "best", CPU))
    parts: list[dict[str, Any]] = []
    if config.seeks_neighbours_first():
        an_image = neighbours_an_image(config, train, count)
        parts.append({"name": "neighbours", "number": len(train), "of_one": an_image})
    known = taken(run, [min(stage.epochs.stop, done) * an_epoch for stage in schedule.stages])
    for stage, before, after in zip(schedule.stages, [0.0, *known[:-1]], known, strict=True):
        epochs = len([epoch for epoch in stage.epochs if epoch < done])
        one = measured(config, [stage], processes, threads, steps)["seconds"]
        name = f"steps, {stage.name}"
        parts.append({"name": name, "number": epochs * an_epoch, "of_one": one, "run": after - before})
        parts.append({"name": f"ends of epochs, {stage.name}", "number": epochs, "of_one": ends[stage.name]})
    parts += [
        {"name": "vote", "number": 1, "of_one": vote},
        {"name": "evaluation", "number": 1, "of_one": evaluation},
    ]
    for part in parts:
        part["seconds"] = part["number"] * part["of_one"]
    command = outcome.read(run)
    whole = None
    if command is not None:  # to the second
        began, ended = (dt.datetime.fromisoformat(moment) for moment in (command.started, command.changed))
        whole = (ended - began).total_seconds()
    return {
        "images": len(train),
        "processes": processes,
        "neighbours_of": min(count, len(train)),
        "parts": parts,
        "steps": {"formula": sum(part["seconds"] for part in parts if "run" in part), "run": known[-1]},
        "whole": {"formula": sum(part["seconds"] for part in parts), "run": whole},
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of the formula and their sum beside the run."""
    yield f"\ninfoae train on {found['images']:,} images, {found['processes']} processes a batch"
    yield f"{'':<34} {'number':>7} {'ms of one':>10} {'formula s':>10} {'run s':>8}"
    for part in found["parts"]:
        run = f"{part['run']:8.1f}" if "run" in part else ""
        yield f"{part['name']:<34} {part['number']:7,} {1e3 * part['of_one']:10.2f} {part['seconds']:10.1f} {run}"
    for name in ("steps", "whole"):
        known = found[name]["run"]
        beside = "" if known is None else f"{known:8.1f}, formula {found[name]['formula'] / known - 1:+.1%}"
        yield f"{name:<34} {'':>7} {'':>10} {found[name]['formula']:10.1f} {beside}"
