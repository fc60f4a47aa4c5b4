"""One trial of a sweep: trained in its own process, or by the workers that Ray Train starts for it."""

from __future__ import annotations

import dataclasses
import queue
import threading
import traceback
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from ray import tune
from torch import Tensor

from infoae.cluster.placement import Layout
from infoae.errors import InfoAEError, MachineError, UnavailableError, machine_errors, one_line
from infoae.methods.schedules import schedule_of
from infoae.planning import Plan, checked
from infoae.pseudolabels import pairs
from infoae.reporting.training import TrainingProgress
from infoae.reporting.wandb import Mode, wandb_reporter
from infoae.runs import checkpoint, environment, images
from infoae.runs.run import CONFIG, Run
from infoae.trainer import Metrics, Moment, Reporter, Trainer
from infoae.tune.record import Epoch, Sweep, Trial, epochs
from infoae.tune.space import Values

RETRIES = 2  # of a trial whose worker or node was lost
STOP_SECONDS = 60.0  # for the workers of a stopped trial to save


@dataclasses.dataclass(frozen=True)
class Task:
    """What all trials are told."""

    sweep: Sweep
    folder: Path
    layout: Layout
    wandb: Mode


class Training(tune.Trainable):
    """A trial as Tune sees it: a step is an epoch. Its state is its run folder, so it can be started again anywhere."""

    def setup(self, config: dict[str, Any], task: Task) -> None:  # type: ignore[override]  # with_parameters adds it
        """Begin the first trial in this process."""
        self._task, self._lock = task, ExitStack()
        self._training: Generator[None, None, None] | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self.cleanup()
        self._number: int = new_config["number"]
        self._values: Values = new_config["values"]
        self._epochs: list[Epoch] = []
        self._training = None
        return True

    def step(self) -> dict[str, Any]:
        """Report the next epoch, training it unless an earlier start of this trial did.

        An error ends the trial, not the sweep, and is not tried again: it would come again. Its score is the lowest.
        Only where machines were lost, or refused what every trial asks for, may a resumed sweep go on with the trial.
        """
        try:
            with machine_errors():
                return self._next()
        except Exception as error:
            if not isinstance(error, InfoAEError):
                traceback.print_exc()
            ours = isinstance(error, InfoAEError)
            message = str(error) if ours else f"{type(error).__name__}: {one_line(error, first=True)}"
            kinds = {MachineError: "refused", UnavailableError: "lost"}
            outcome = next((name for kind, name in kinds.items() if isinstance(error, kind)), "failed")
            return {"number": self._number, outcome: message, "epoch": 0, "score": 0.0, "done": True}

    def cleanup(self) -> None:
        """Stop training, if it is still going on."""
        if self._training is not None:
            self._training.close()
        self._lock.close()

    def _next(self) -> dict[str, Any]:
        sweep = self._task.sweep
        trial = Trial(number=self._number, run=f"{sweep.name}-{self._number:03d}", values=self._values)
        path = self._task.folder / trial.run
        if self._training is None:
            here = "auto" if self._task.layout.max_workers > 1 else None  # its workers have the GPUs
            plan = checked(sweep.config_of(trial), path.parent, sweep.recipe, None, None, here)
            run = (
                Run(path) if (path / CONFIG).exists() else Run.create(path.parent, path.name, sweep.recipe, plan.config)
            )
            self._lock.enter_context(run.locked())
            images.keep(run, images.identify(plan.train.images), plan.config.data)
            run.write_config(plan.config)
            saved = checkpoint.newest(run.checkpoints)
            run.forget_metrics_after(0 if saved is None else checkpoint.read(saved).step)
            self._training = _training(plan, run, self._task)
        first_scored = schedule_of(sweep.config_of(trial)).first_scored_epoch
        while len(known := epochs(Run(path), sweep.metric, first_scored)) <= len(self._epochs):
            next(self._training)
        epoch = known[len(self._epochs)]
        self._epochs.append(epoch)
        return epoch.model_dump() | {"number": self._number, "done": epoch.epoch == sweep.config.train.epochs}


def _training(plan: Plan, run: Run, task: Task) -> Generator[None, None, None]:
    """Train on from the run's newest checkpoint; yields whenever one is written."""
    train = _alone if task.layout.max_workers == 1 else _together
    with wandb_reporter(task.wandb, run, plan.config, task.sweep.name) as reporters:
        yield from train(plan, run, task.layout, reporters)
    raise InfoAEError(f"{run.name} ended before its last epoch")


def _alone(plan: Plan, run: Run, layout: Layout, reporters: Sequence[Reporter]) -> Iterator[None]:
    if plan.device.type == "cpu":
        torch.set_num_threads(layout.cpus_per_worker)
    trainer = Trainer(run, plan.config, plan.train, plan.device, plan.precision)
    trainer.restore(checkpoint.newest(run.checkpoints))
    run.add_environment(environment.describe(plan.device, plan.precision, plan.config.seed, trainer.done))
    while trainer.done < trainer.total_steps:
        trainer.fit(reporters, lambda: trainer.done % trainer.steps_per_epoch == 0)
        yield


def _together(plan: Plan, run: Run, layout: Layout, reporters: Sequence[Reporter]) -> Iterator[None]:
    """By Ray Train's workers, which go on while Tune decides; ends them when it is closed."""
    from infoae.cluster import driver
    from infoae.cluster.following import Following

    going_on: queue.SimpleQueue[bool] = queue.SimpleQueue()
    stop = threading.Event()
    if plan.config.seeks_neighbours_first():  # not by a worker: lost, it would begin anew
        pairs.find(run, plan.train.images, plan.config.neighbours, plan.config.augment)

    def train() -> Any:
        go_on = Run(run.path.parent).command("tune", "--resume")
        following = Following(go_on, RETRIES, TrainingProgress(plan.config.method), [*reporters, _OnSaved(going_on)])
        return driver.train(plan, run, layout, None, following, stop.is_set)

    training = driver.in_thread(train)
    training.add_done_callback(lambda _: going_on.put(False))
    try:
        while going_on.get():
            yield
        training.result()
    finally:
        stop.set()
        wait([training], STOP_SECONDS)


class _OnSaved:
    """Reporter that passes on each checkpoint."""

    def __init__(self, going_on: queue.SimpleQueue[bool]) -> None:
        self._going_on = going_on

    def stepped(self, moment: Moment) -> None:
        pass

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        pass

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        pass

    def saved(self, moment: Moment) -> None:  # noqa: ARG002
        self._going_on.put(True)
