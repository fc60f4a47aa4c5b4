"""Sweeps of the λs with Ray Tune: each trial a run folder, the score the label-free one that chooses checkpoints.

A sweep is resumed from sweep.json and the run folders, not with Tuner.restore, which would unpickle what lies in the
folder, and start a trial that was under way from its beginning. Here such a trial goes on from its newest checkpoint
exactly, also on another cluster, and what the others reported is told to search and scheduler anew.

A trial of several workers holds no CPU itself: Ray Train takes those of its workers all at once, so that trials
cannot block each other by holding some; how many run at once is limited to what the cluster holds.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from infoae.cluster import connect, placement
from infoae.cluster.connect import Request
from infoae.cluster.placement import Layout
from infoae.config import recipes
from infoae.errors import InfoAEError, MachineError, UsageError
from infoae.files import scratch_folder
from infoae.limits import MAX_RUNS
from infoae.loading import load_training
from infoae.methods.registry import method_of
from infoae.planning import checked, with_decoding
from infoae.pseudolabels import pairs
from infoae.reporting.bars import Bar
from infoae.reporting.training import SweepProgress
from infoae.reporting.wandb import Mode
from infoae.runs.run import Run, new_folder
from infoae.tune import space as searching
from infoae.tune.record import Epoch, Metric, Scheduling, Search, Sweep, save
from infoae.tune.search import Numbered, make_scheduler, optuna_search
from infoae.tune.trial import RETRIES, Task, Training

DEFAULT_TRIALS = 20


def planned(
    source: str,
    overrides: Sequence[str],
    space: str | None,
    how: tuple[Search, Scheduling, Metric],
    trials: int | None,
    request: Request,
    runs: Path,
    name: str | None,
) -> tuple[Sweep, Path]:
    """Check a new sweep and make its folder; `request` is what each trial asks for.

    `space` is that of the method if not given. Raises InfoAEError before anything is written if something is wrong.
    """
    search, scheduler, metric = how
    config = with_decoding(recipes.load(source, overrides))
    config = config.model_copy(update={"data": config.data.absolute(), "features": config.features.absolute()})
    if config.train.patience is not None:
        raise UsageError("train.patience: in a sweep the scheduler stops trials, not they themselves: set it to null")
    if config.model.num_categories == "auto":
        raise UsageError(f"model.num_categories: auto cannot be swept: {searching.FIXED['model.num_categories']}")
    here = "auto" if request.needs_ray else None  # the cluster has the device asked for, or will say not
    plan = checked(config, runs, Path(source).stem, None, None, here)
    reason = method_of(config).build(plan.config).no_generator if metric == "recovered" else None
    if reason is not None:
        raise UsageError(f"--metric recovered: {reason}; take mutual_information")
    found = searching.load(space or searching.default(config), config)
    if search == "grid":
        points = math.prod(len(dimension.grid()) for dimension in found.values())
        if trials not in (None, points):
            raise UsageError(
                f"this grid has {points} trials and tries all: leave out --trials, or change the space's points"
            )
        trials = points
    if trials is not None and trials > MAX_RUNS:
        raise UsageError(f"{trials:,} trials: a sweep has at most {MAX_RUNS}")
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
        nodes=request.max_nodes,
        workers_per_node=request.workers_per_node or 1,
    )
    if search == "optuna":
        optuna_search(sweep)

    def fill(folder: Path, called: str) -> None:
        sweep.name = called
        save(sweep, folder)

    return sweep, new_folder(runs, name, f"tune-{recipe}", fill)


def moved(sweep: Sweep, to: Path | None) -> Sweep:
    """Return the sweep with its data where it lies now, if that is given."""
    found = sweep.config.data.moved(to)
    return sweep.model_copy(update={"config": sweep.config.model_copy(update={"data": found})})


def extended(sweep: Sweep, trials: int | None) -> Sweep:
    """Return the sweep with so many trials in all, if given. Raises UsageError if that is fewer, or a grid."""
    if trials is None or trials == sweep.num_trials:
        return sweep
    if trials > MAX_RUNS:
        raise UsageError(f"--trials {trials}: a sweep has at most {MAX_RUNS}")
    if sweep.search == "grid" or trials < sweep.num_trials:
        raise UsageError(
            f"sweep {sweep.name} has {sweep.num_trials} trials; --trials can ask for more, but not of a grid"
        )
    return sweep.model_copy(update={"num_trials": trials})


def run(sweep: Sweep, folder: Path, request: Request, wandb: Mode) -> bool:
    """Run the trials that are left, writing sweep.json whenever one gets on. Returns whether all have ended.

    Raises InfoAEError at once if the cluster is too small or another command runs the sweep, and at the end if no
    trial succeeded.
    """
    with Run(folder).locked():
        save(sweep, folder)
        if sweep.num_left:
            _run_left(sweep, folder, request, wandb)
    failed = [trial for trial in sweep.trials if trial.status == "failed"]
    if failed and len(failed) == sweep.num_trials:
        raise InfoAEError(f"all {len(failed)} trials failed, the first with: {failed[0].message}")
    return not sweep.num_left


def _run_left(sweep: Sweep, folder: Path, request: Request, wandb: Mode) -> None:
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # metrics are in the run folders
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours
    log = folder / "ray.log"
    try:
        with (
            scratch_folder(folder / "tune") as scratch,  # Tune's own state, on the shared storage it wants
            connect.connected(request, log),
        ):
            with connect.quiet(log):
                layout, at_once = _layout(request, sweep)
                placement.check_nodes(folder)
            _find_neighbours(sweep, Run(scratch))
            workers = f"{layout.max_workers} workers of " if layout.max_workers > 1 else ""
            each = "a GPU" if layout.use_gpu else f"{layout.cpus_per_worker} CPU{'s' * (layout.cpus_per_worker > 1)}"
            task = Task(sweep, folder, layout, wandb)
            with SweepProgress(sweep.num_trials) as progress, connect.quiet(log):
                progress.say(
                    f"sweep {folder}: {sweep.num_left} of {sweep.num_trials} trials to run, "
                    f"{at_once} at once, {workers}{each} each"
                )
                following = _Following(sweep, folder, progress)
                _tuner(task, at_once, scratch, following).fit()
        if following.refused is not None:
            raise MachineError(f"{following.refused}; go on with: infoae tune --resume {sweep.name}")
    except KeyboardInterrupt:
        pass
    finally:
        save(sweep, folder)


def _find_neighbours(sweep: Sweep, beside: Run) -> None:
    """Find the neighbours that all trials share, for them to take: those that start at once would each search."""
    config = sweep.config
    varied = {
        part for dimension in sweep.space.values() for key in dimension.keys for part in (key, key.partition(".")[0])
    }
    if not config.seeks_neighbours_first() or varied & {"neighbours", "objective.pairs", "augment"}:
        return
    found = load_training(config)
    with Bar("nearest neighbours", "images", len(found)) as bar:
        bar.show()
        pairs.find(beside, found.images, config.neighbours, config.augment, bar.advance, bar.say, found.features)


def _tuner(task: Task, at_once: int, scratch: Path, following: _Following) -> tune.Tuner:
    layout = task.layout
    # Any resource but a CPU: Tune refuses a trial that asks for nothing.
    wanted = layout.resources_per_worker if layout.max_workers == 1 else {"memory": 1.0}
    trainable = tune.with_resources(tune.with_parameters(Training, task=task), tune.PlacementGroupFactory([wanted]))
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=Numbered(task.sweep, task.folder),
            scheduler=make_scheduler(task.sweep),
            num_samples=task.sweep.num_left,
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
            stop=following,
            verbose=0,
        ),
    )


def _layout(request: Request, sweep: Sweep) -> tuple[Layout, int]:
    """Return how the workers of a trial fill the cluster, and how many trials fit at once.

    As many trials as there is room for, then as many CPUs for each worker as are left.
    """
    layout = placement.layout(request, sweep.config.train.device)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]

    def fitting(cpus: int) -> int:
        free = (min(n.get("CPU", 0) // cpus, n.get("GPU", 0) if layout.use_gpu else n.get("CPU", 0)) for n in nodes)
        return int(sum(free)) // layout.max_workers

    at_once = max(1, min(sweep.num_left, fitting(1)))
    cpus = next((cpus for cpus in range(layout.cpus_per_worker, 1, -1) if fitting(cpus) >= at_once), 1)
    return dataclasses.replace(layout, cpus_per_worker=cpus), at_once


class _Following(tune.Callback, tune.Stopper):
    """Runs beside Tune's controller: keeps sweep.json and the progress true.

    Ends all trials once a machine `refused` one what every trial asks for, as space on a full disk.
    """

    def __init__(self, sweep: Sweep, folder: Path, progress: SweepProgress) -> None:
        self._sweep, self._folder, self._progress = sweep, folder, progress
        self.refused: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        return self.refused is not None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a pickle of all it is given; nobody reads it

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:  # noqa: ARG002
        known = self._sweep.trials[result["number"]]
        if "failed" in result:
            known.status, known.message = "failed", result["failed"]
        elif "lost" in result or "refused" in result:
            known.message = result.get("lost") or result["refused"]
            self.refused = result.get("refused")
        else:
            known.message = None
            del known.epochs[result["epoch"] - 1 :]  # of an earlier start
            known.epochs.append(Epoch(**{name: result[name] for name in Epoch.model_fields}))
        save(self._sweep, self._folder)
        self._progress.reported(self._sweep, known)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        known = self._sweep.trials[trial.config["number"]]
        if known.message is None:
            known.status = "finished" if len(known.epochs) == self._sweep.config.train.epochs else "stopped"
        save(self._sweep, self._folder)
        self._progress.ended(self._sweep, known)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        known = self._sweep.trials[trial.config["number"]]
        error = trial.get_pickled_error() or trial.get_error()
        lost = isinstance(error, ray.exceptions.RayActorError)
        what = "its worker was lost" if lost else f"{type(error).__name__}"
        known.message = f"{what}, {RETRIES + 1} times; see ray.log"
        if not lost:
            known.status = "failed"
        save(self._sweep, self._folder)
        self._progress.ended(self._sweep, known)
