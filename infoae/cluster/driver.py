"""Several workers on a Ray cluster, as the command sees them: start them, follow them, say what became of them.

A lost worker or node, or a storage out of reach, makes Ray Train start all workers again; they go on from the run's
newest checkpoint. Any other error of ours is not retried. `worker` is what each of them does.
"""

from __future__ import annotations

import datetime as dt
import shlex
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from infoae import memory
from infoae.cluster import connect, placement, ray_metrics, searching
from infoae.cluster.connect import Request
from infoae.cluster.following import Following, explain, failure
from infoae.cluster.network import NodeNetwork
from infoae.cluster.placement import Layout
from infoae.cluster.worker import Channel, Job, work
from infoae.config import Config, recipes
from infoae.data.sampler import check_shares
from infoae.errors import InfoAEError, UnavailableError, counted
from infoae.evaluation.evaluate import evaluate_run
from infoae.planning import Plan, describe_batch, find_neighbours, refuse_stored, started
from infoae.pseudolabels.search_on_disk import here
from infoae.reporting.training import TrainingProgress
from infoae.reporting.wandb import Mode, wandb_reporter
from infoae.results import TrainingResult
from infoae.runs import outcome
from infoae.runs.run import STATUS, Run
from infoae.runs.storage import Storage
from infoae.signals import stop_on_signal

POLL_SECONDS = 0.3
LONGEST_WAIT = 6 * 3600  # for one worker's evaluation or search; what is stuck is found by `watching`
RESIZE_SECONDS = 120.0  # for the last step, its checkpoint and the storage; the controller does nothing meanwhile
STARTS = 10  # that fail for want of nodes within WAIT_SECONDS: Ray Train gives each a minute


def run(plan: Plan, wandb: Mode, request: Request, storage: Storage | None, retries: int) -> TrainingResult:
    """Train as local.run does, by the workers of `request`, restarting lost ones up to `retries` times.

    Raises InfoAEError at once if the cluster is too small or the storage has another run of that name, and with the
    workers' own message if training failed.
    """
    if storage is not None:
        refuse_stored(plan, storage)
        if plan.resumed is not None:  # it goes on from what the storage has, which follows its folder from then on
            storage.fetch(plan.resumed)
    plan.runs.mkdir(parents=True, exist_ok=True)
    log = plan.runs / "ray.log"
    with connect.connected(request, log):
        with connect.quiet(log):
            layout = placement.layout(request, plan.config.train.device)
            placement.check_nodes(None if storage else plan.runs.resolve())
        check_shares(len(plan.train), plan.config.train, layout.max_workers)
        with started(plan, storage) as trained:
            go_on = _go_on(trained.name, plan.runs, request, storage)
            # Not by a worker: lost, it would begin anew. Of a storage the nodes see no folder.
            find_neighbours(trained, plan, go_on, searching.on_nodes(log) if storage is None else here)
            with TrainingProgress(plan.config.method) as progress, connect.quiet(log):
                progress.say(_describe(plan, trained, layout))
                taken = memory.of_training(plan.config, plan.precision, layout.min_workers)
                progress.say(f"each worker: {taken.describe()}")
                with (
                    wandb_reporter(wandb, trained, plan.config) as reporters,
                    stop_on_signal(progress.say) as stop_wanted,
                ):
                    following = Following(go_on, retries, progress, [progress, *reporters])
                    try:
                        result = train(plan, trained, layout, storage, following, stop_wanted)
                    except InfoAEError:
                        with suppress(InfoAEError):  # what ended the training says more
                            _fetch(storage, trained)
                        raise
                _fetch(storage, trained)
    if not result.finished:
        return replace(result, go_on=go_on)
    return replace(result, evaluation=evaluate_run(trained, plan.test, "best", plan.device))


def _fetch(storage: Storage | None, trained: Run) -> None:
    if storage is not None:
        storage.pull(trained)


def _go_on(name: str, runs: Path, request: Request, storage: Storage | None) -> str:
    """Return the command that goes on with a run in the same place."""
    command = ["infoae", "train", "--resume", name, *request.options()]
    if storage is not None:
        command += ["--storage", storage.uri]
    if runs != Path("runs"):
        command += ["--runs", str(runs)]
    return shlex.join(command)


def _describe(plan: Plan, run: Run, layout: Layout) -> str:
    counts = sorted({layout.min_workers, layout.max_workers})
    workers = " to ".join(str(count) for count in counts)
    images = " to ".join(str(round(plan.config.train.batch_size / count)) for count in counts)
    return (
        f"training {run.path} on {len(plan.train)} images: {workers} workers, {layout.workers_per_node} a node, "
        f"{'a GPU' if layout.use_gpu else counted(layout.cpus_per_worker, 'CPU')} each, "
        f"about {images} images of a batch; {describe_batch(plan.config)}"
    )


def train(
    plan: Plan,
    trained: Run,
    layout: Layout,
    storage: Storage | None,
    following: Following,
    stop_wanted: Callable[[], bool],
) -> TrainingResult:
    """Train `trained` by the workers of `layout`, to the end or until `stop_wanted`; nothing is evaluated.

    Raises InfoAEError as `run` does.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    channel: Any = ray.remote(num_cpus=0)(Channel).options(scheduling_strategy=here).remote()
    if storage is not None:
        storage.push(trained)
        storage.push_file(trained, STATUS)

    def restarted(restarts: int, lost: str) -> None:
        ray_metrics.RESTARTS.set(restarts, run=trained.name)
        outcome.restarted(trained, storage, restarts, lost)

    ray_metrics.RESTARTS.set(0, run=trained.name)
    following.restarted = restarted
    training = in_thread(fitting(trained, plan.config, layout, storage, following.retries, channel))
    told = leaving = False
    while not training.done():
        wait_for([training], POLL_SECONDS)
        following.hear(ray.get(channel.drain.remote()))
        if stop_wanted() and not told:
            channel.stop.remote()
            told = True
        if following.check_nodes() != leaving:
            leaving = not leaving
            channel.leave.remote(leaving)
        following.check_workers()
        following.check_waiting()
    try:
        training.result()
    except ray.train.TrainingFailedError as error:
        raise failure(error, following, plan.runs / "ray.log") from None
    following.hear(ray.get(channel.drain.remote()))
    ended = following.ended
    assert ended is not None, "the main worker tells of its end before it ends"
    return TrainingResult(
        run=trained.name,
        folder=str(trained.path),
        finished=ended.finished,
        step=ended.step,
        total_steps=ended.total_steps,
        seconds=ended.seconds,
        team=ended.team,
        restarts=following.restarts,
    )


def fitting(
    trained: Run, config: Config, layout: Layout, storage: Storage | None, retries: int, channel: Any
) -> Callable[[], Any]:
    """Return the function that trains on the cluster, to the end or until an error."""
    job = Job(recipes.dump(config), trained.path, storage, channel)
    least, most = layout.min_workers, layout.max_workers
    trainer = ray.train.torch.TorchTrainer(
        work,
        torch_config=NodeNetwork(timeout_s=LONGEST_WAIT),
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=most if least == most else (least, most),  # type: ignore[arg-type]  # typed as of V1
            use_gpu=layout.use_gpu,
            resources_per_worker=layout.resources_per_worker,
            placement_strategy="SPREAD",
        ),
        run_config=RunConfig(
            name=f"{trained.name}-{dt.datetime.now():%Y%m%d-%H%M%S-%f}",  # a name used before would train nothing
            storage_path=str(trained.path / "ray") if storage is None else storage.within("ray"),
            failure_config=_budget(retries),
            callbacks=[_OnLoss(channel), _OnResize(channel)],  # type: ignore[list-item]  # typed as of V1
        ),
    )
    fit: Callable[[], Any] = trainer.fit
    return fit


def _budget(retries: int) -> FailureConfig:
    # Ray that is too old for the last counts machines taken away among the failures.
    given = {"max_failures": retries, "controller_failure_limit": STARTS * (retries + 1)}
    given |= {"max_preemption_failures": retries} if hasattr(FailureConfig, "max_preemption_failures") else {}
    return FailureConfig(**given)  # type: ignore[arg-type]  # typed as of V1


class _OnLoss(UserCallback):
    """Runs beside Ray Train's controller: ends the run on an error that would come again, tells of any other."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        for error in worker_exceptions.values():
            if isinstance(error, InfoAEError) and not isinstance(error, UnavailableError):
                raise error  # an exception of a callback is not retried
        self._channel.put.remote("lost", explain(worker_exceptions))


class _OnResize(ControllerCallback):
    """Runs beside Ray Train's controller: has running workers save before it starts them anew in another number."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:  # noqa: ARG002
        if type(current_state).__name__ != "ResizingState":  # by name: the class is Ray's own, and may move
            return
        ray.get(self._channel.make_way.remote(True))
        end = time.monotonic() + RESIZE_SECONDS
        while not ray.get(self._channel.at_rest.remote()) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        ray.get(self._channel.make_way.remote(False))


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Run in a thread that does not keep the process alive: the main one hears signals and shows progress."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future
