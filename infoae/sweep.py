"""Sweeps of the λs with Ray Tune: each trial a run folder, the score the label-free one that chooses checkpoints.

A sweep is resumed from sweep.json and the run folders, not with Tuner.restore, which would unpickle what lies in the
folder, and start a trial that was under way from its beginning. Here such a trial goes on from its newest checkpoint
exactly, also on another cluster, and what the others reported is told to search and scheduler anew.

A trial of several workers holds no CPU itself: Ray Train takes those of its workers all at once, so that trials
cannot block each other by holding some; how many run at once is limited to what the cluster holds.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import shutil
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from torch import Tensor

from infoae import checkpoint, cluster, environment, launch
from infoae import config as configuration
from infoae import space as searching
from infoae.cluster import Layout, Request
from infoae.errors import InfoAEError, UsageError
from infoae.launch import Plan
from infoae.progress import SweepProgress
from infoae.run import Run, new_folder
from infoae.space import Values
from infoae.sweep_record import Epoch, Metric, Scheduling, Search, Sweep, Trial, epochs, save
from infoae.tracking import Mode, wandb_reporter
from infoae.trainer import Metrics, Moment, Reporter, Trainer

DEFAULT_TRIALS = 20
RETRIES = 2  # of a trial whose worker or node was lost
REDUCTION = 3  # ASHA lets a third of the trials pass epochs 1, 3, 9, …
STOP_SECONDS = 60.0  # for the workers of a stopped trial to save


@dataclasses.dataclass(frozen=True)
class Task:
    """What all trials are told."""

    sweep: Sweep
    folder: Path
    layout: Layout
    wandb: Mode


def planned(
    source: str,
    overrides: Sequence[str],
    space: str,
    how: tuple[Search, Scheduling, Metric],
    trials: int | None,
    size: tuple[int, int],
    runs: Path,
    name: str | None,
) -> tuple[Sweep, Path]:
    """Check a new sweep and make its folder; `size` is nodes and workers per node of a trial.

    Raises InfoAEError before anything is written if something is wrong.
    """
    search, scheduler, metric = how
    nodes, workers_per_node = size
    config = configuration.load(source, overrides)
    if config.data.root is not None:  # trials run in another folder
        config = configuration.replaced(config, {"data.root": str(config.data.root.resolve())}, source)
    launch.checked(config, runs, Path(source).stem, None, None)
    found = searching.load(space, config)
    if search == "grid":
        points = sum(1 for _ in searching.grid(found))
        if trials not in (None, points):
            raise UsageError(
                f"this grid has {points} trials and tries all: leave out --trials, or change the space's points"
            )
        trials = points
    recipe = Path(source).stem
    sweep = Sweep(
        name=name or "",
        recipe=recipe,
        config=config,
        space=found,
        search=search,
        scheduler=scheduler,
        metric=metric,
        num_trials=trials or DEFAULT_TRIALS,
        nodes=nodes,
        workers_per_node=workers_per_node,
    )
    if search == "optuna":
        _optuna(sweep)
    folder = new_folder(runs, name, f"tune-{recipe}")
    return sweep.model_copy(update={"name": folder.name}), folder


def extended(sweep: Sweep, trials: int | None) -> Sweep:
    """Return the sweep with so many trials in all, if given. Raises UsageError if that is fewer, or a grid."""
    if trials is None or trials == sweep.num_trials:
        return sweep
    if sweep.search == "grid" or trials < sweep.num_trials:
        raise UsageError(
            f"sweep {sweep.name} has {sweep.num_trials} trials; --trials can ask for more, but not of a grid"
        )
    return sweep.model_copy(update={"num_trials": trials})


def run(sweep: Sweep, folder: Path, request: Request, wandb: Mode) -> bool:
    """Run the trials that are left, writing sweep.json whenever one gets on. Returns whether all have ended.

    Raises InfoAEError at once if the cluster is too small, and at the end if no trial succeeded.
    """
    save(sweep, folder)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # metrics are in the run folders
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours
    progress = SweepProgress(sweep.num_trials)
    scratch = Path(tempfile.mkdtemp(prefix=".tune-", dir=folder))  # Tune's own state, on the shared storage it wants
    try:
        with progress, cluster.connected(request, folder / "ray.log"), _terminated_as_interrupted():
            layout, at_once = _layout(request, sweep)
            cluster.check_nodes(folder)
            done = [trial for trial in sweep.trials if trial.status != "unfinished"]
            workers = f"{layout.max_workers} workers of " if layout.max_workers > 1 else ""
            each = "a GPU" if layout.use_gpu else f"{layout.cpus_per_worker} CPU{'s' * (layout.cpus_per_worker > 1)}"
            progress.say(
                f"sweep {folder}: {sweep.num_trials - len(done)} of {sweep.num_trials} trials to run, "
                f"{at_once} at once, {workers}{each} each"
            )
            _tuner(Task(sweep, folder, layout, wandb), at_once, scratch, _Following(sweep, folder, progress)).fit()
    except KeyboardInterrupt:
        return False
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        save(sweep, folder)
    failed = [trial for trial in sweep.trials if trial.status == "failed"]
    if failed and len(failed) == len(sweep.trials):
        raise InfoAEError(f"all {len(failed)} trials failed, the first with: {failed[0].message}")
    return all(trial.status != "unfinished" for trial in sweep.trials)


def _tuner(task: Task, at_once: int, scratch: Path, following: tune.Callback) -> tune.Tuner:
    layout = task.layout
    # Any resource but a CPU: Tune refuses a trial that asks for nothing.
    wanted = layout.resources_per_worker if layout.max_workers == 1 else {"memory": 1.0}
    trainable = tune.with_resources(tune.with_parameters(Training, task=task), tune.PlacementGroupFactory([wanted]))
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=Numbered(task.sweep),
            scheduler=scheduler(task.sweep),
            num_samples=task.sweep.num_trials - sum(t.status != "unfinished" for t in task.sweep.trials),
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # checkpoints are in the run folders
            callbacks=[following],
            verbose=0,
        ),
    )


def _layout(request: Request, sweep: Sweep) -> tuple[Layout, int]:
    """Return how the workers of a trial fill the cluster, and how many trials fit at once.

    As many trials as there is room for, then as many CPUs for each worker as are left.
    """
    layout = cluster.layout(request, sweep.config.train.device)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]

    def fitting(cpus: int) -> int:
        free = (min(n.get("CPU", 0) // cpus, n.get("GPU", 0) if layout.use_gpu else n.get("CPU", 0)) for n in nodes)
        return int(sum(free)) // layout.max_workers

    at_once = max(1, min(sweep.num_trials, fitting(1)))
    cpus = next((cpus for cpus in range(layout.cpus_per_worker, 1, -1) if fitting(cpus) >= at_once), 1)
    return dataclasses.replace(layout, cpus_per_worker=cpus), at_once


def scheduler(sweep: Sweep) -> TrialScheduler:
    """Return the scheduler, told what trials have reported before."""
    if sweep.scheduler == "none":
        return FIFOScheduler()
    asha = ASHAScheduler(
        time_attr="epoch", metric="score", mode="max", max_t=sweep.config.train.epochs, reduction_factor=REDUCTION
    )
    for trial in sweep.trials:
        if trial.status != "unfinished":
            known: Any = SimpleNamespace(trial_id=trial.run)
            asha.on_trial_add(None, known)  # type: ignore[arg-type]  # the controller is not used
            for epoch in trial.epochs:
                asha.on_trial_result(None, known, epoch.model_dump())  # type: ignore[arg-type]
    return asha


class Numbered(Searcher):  # type: ignore[misc]
    """Numbers the trials and decides their values: unfinished trials first, then new ones.

    The first trial has the values that the recipe has, if they are in the space: what the others are to beat.
    """

    def __init__(self, sweep: Sweep) -> None:
        super().__init__(metric="score", mode="max")
        self._sweep = sweep
        self._waiting = [trial for trial in sweep.trials if trial.status == "unfinished"]
        self._given: dict[str, Trial] = {}
        self._asked: set[str] = set()
        self._optuna = _optuna(sweep) if sweep.search == "optuna" else None
        self._grid = list(searching.grid(sweep.space)) if sweep.search == "grid" else None

    def suggest(self, trial_id: str) -> Any:
        if self._waiting:
            trial = self._waiting.pop(0)
        elif len(self._sweep.trials) < self._sweep.num_trials:
            number = len(self._sweep.trials)
            values = self._values(number, trial_id)
            trial = Trial(number=number, run=f"{self._sweep.name}-{number:03d}", values=values)
            self._sweep.trials.append(trial)
        else:
            return Searcher.FINISHED
        self._given[trial_id] = trial
        return {"number": trial.number, "values": trial.values}

    def _values(self, number: int, trial_id: str) -> Values:
        sweep = self._sweep
        if self._grid is not None:
            return self._grid[number]
        current = searching.current(sweep.config, sweep.space) if number == 0 else None
        if current is not None:
            return current
        if self._optuna is None:
            return searching.draw(sweep.space, sweep.config.seed, number)
        self._asked.add(trial_id)
        suggested: Values = self._optuna.suggest(trial_id)
        return suggested

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if self._optuna is None:
            return
        if trial_id in self._asked:
            self._optuna.on_trial_complete(trial_id, result, error)
        elif result is not None:
            self._optuna.add_evaluated_point(self._given[trial_id].values, result["score"])

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()  # sweep.json is what a sweep is resumed from

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError


def _optuna(sweep: Sweep) -> Any:
    """Return Tune's searcher on Optuna's TPE, told of the trials that have ended. Raises UsageError without Optuna."""
    try:
        import optuna
    except ImportError:
        raise UsageError("--search optuna needs Optuna: pip install 'infoae[optuna]'") from None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ended = [trial for trial in sweep.trials if trial.status != "unfinished"]
    found = OptunaSearch(
        OptunaSearch.convert_search_space({name: dimension.domain() for name, dimension in sweep.space.items()}),
        metric="score",
        mode="max",
        seed=sweep.config.seed + len(sweep.trials),  # a resumed search must not draw its first values again
    )
    for trial in ended:
        found.add_evaluated_point(trial.values, trial.score or 0.0)
    return found


class Training(tune.Trainable):  # type: ignore[misc]
    """A trial as Tune sees it: a step is an epoch. Its state is its run folder, so it can be started again anywhere."""

    def setup(self, config: dict[str, Any], task: Task) -> None:
        self._task = task
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self.cleanup()
        self._number: int = new_config["number"]
        self._values: Values = new_config["values"]
        self._epochs: list[Epoch] = []
        self._training: Iterator[None] | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Report the next epoch, training it unless an earlier start of this trial did.

        An error ends the trial, not the sweep, and is not tried again: it would come again. Its score is the lowest.
        """
        try:
            return self._next()
        except Exception as error:
            if not isinstance(error, InfoAEError):
                traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            message = lines[0] if isinstance(error, InfoAEError) else f"{type(error).__name__}: {lines[0]}"
            return {"number": self._number, "failed": message, "epoch": 0, "score": 0.0, "done": True}

    def cleanup(self) -> None:
        """Stop training, if it is still going on."""
        training = getattr(self, "_training", None)
        if training is not None:
            training.close()

    def _next(self) -> dict[str, Any]:
        sweep = self._task.sweep
        trial = Trial(number=self._number, run=f"{sweep.name}-{self._number:03d}", values=self._values)
        path = self._task.folder / trial.run
        if self._training is None:
            plan = launch.checked(sweep.config_of(trial), path.parent, sweep.recipe, None, None)
            run = Run(path) if path.exists() else Run.create(path.parent, path.name, sweep.recipe, plan.config)
            run.write_config(plan.config)  # also where the command was killed before it was written
            saved = checkpoint.newest(run.checkpoints)
            run.forget_metrics_after(0 if saved is None else checkpoint.read(saved).step)
            self._training = _training(plan, run, self._task)
        while len(known := epochs(Run(path), sweep.metric)) <= len(self._epochs):
            next(self._training)
        epoch = known[len(self._epochs)]
        self._epochs.append(epoch)
        return epoch.model_dump() | {"number": self._number, "done": epoch.epoch == sweep.config.train.epochs}


def _training(plan: Plan, run: Run, task: Task) -> Iterator[None]:
    """Train on from the run's newest checkpoint; yields whenever one is written."""
    train = _alone if task.layout.max_workers == 1 else _together
    with wandb_reporter(task.wandb, run, plan.config, task.sweep.name) as reporters:
        yield from train(plan, run, task.layout, reporters)
    raise InfoAEError(f"{run.name} ended before its last epoch")


def _alone(plan: Plan, run: Run, layout: Layout, reporters: Sequence[Reporter]) -> Iterator[None]:
    if plan.device.type == "cpu":
        torch.set_num_threads(layout.cpus_per_worker)
    trainer = Trainer(run, plan.config, plan.train, plan.test, plan.device, plan.precision)
    trainer.restore(checkpoint.newest(run.checkpoints))
    run.add_environment(environment.describe(plan.device, plan.precision, plan.config.seed, trainer.done))
    while trainer.done < trainer.total_steps:
        trainer.fit(reporters, lambda: trainer.done % trainer.steps_per_epoch == 0)
        yield


def _together(plan: Plan, run: Run, layout: Layout, reporters: Sequence[Reporter]) -> Iterator[None]:
    """By Ray Train's workers, which go on while Tune decides; ends them when it is closed."""
    from infoae import workers

    going_on: queue.SimpleQueue[bool] = queue.SimpleQueue()
    stop = threading.Event()

    def train() -> Any:
        told = [*reporters, _OnSaved(going_on)]
        return workers._train(plan, run, layout, None, RETRIES, told, logging.getLogger(__name__).info, stop.is_set)

    training = workers._in_thread(train)
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


class _Following(tune.Callback):  # type: ignore[misc]
    """Runs beside Tune's controller: keeps sweep.json and the progress true."""

    def __init__(self, sweep: Sweep, folder: Path, progress: SweepProgress) -> None:
        self._sweep, self._folder, self._progress = sweep, folder, progress

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a pickle of all it is given; nobody reads it

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:  # noqa: ARG002
        known = self._sweep.trials[result["number"]]
        if "failed" in result:
            known.status, known.message = "failed", result["failed"]
        else:
            del known.epochs[result["epoch"] - 1 :]  # of an earlier start
            known.epochs.append(Epoch(**{name: result[name] for name in Epoch.model_fields}))
        save(self._sweep, self._folder)
        self._progress.reported(self._sweep, known)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        known = self._sweep.trials[trial.config["number"]]
        if known.status != "failed":
            known.status = "finished" if len(known.epochs) == self._sweep.config.train.epochs else "stopped"
        save(self._sweep, self._folder)
        self._progress.ended(self._sweep, known)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        known = self._sweep.trials[trial.config["number"]]
        error = trial.get_pickled_error() or trial.get_error()
        lost = isinstance(error, ray.exceptions.RayActorError)
        what = "its worker was lost" if lost else f"{type(error).__name__}"
        known.status, known.message = "failed", f"{what}, {RETRIES + 1} times; see ray.log"
        save(self._sweep, self._folder)
        self._progress.ended(self._sweep, known)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
