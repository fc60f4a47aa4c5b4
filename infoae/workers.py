"""Training by several workers on a Ray cluster: what each worker does, and how the command follows them.

Each worker runs the same `Trainer` as a single process does, on its share of each batch. A lost worker or node makes
Ray Train start all workers again; they go on from the run's newest checkpoint. An error of ours is not retried.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.util.placement_group import placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from infoae import checkpoint, cluster, data, distributed, environment, launch
from infoae import config as configuration
from infoae.cluster import Layout, Request
from infoae.device import resolve_precision
from infoae.errors import InfoAEError, UsageError
from infoae.launch import Plan
from infoae.progress import TrainingProgress
from infoae.run import Run
from infoae.storage import Storage
from infoae.tracking import Mode, wandb_reporter
from infoae.trainer import Metrics, Moment, Reporter, Trainer, batches

POLL_SECONDS = 0.3
WAIT_SECONDS = 600.0  # for lost nodes to be replaced


class Channel:
    """An actor between the workers and the command: events one way, the wish to stop the other."""

    def __init__(self) -> None:
        self._events: list[tuple[Any, ...]] = []
        self._stopping = False

    def put(self, *event: Any) -> None:
        self._events.append(event)

    def drain(self) -> list[tuple[Any, ...]]:
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping


@dataclass(frozen=True)
class Job:
    """What a worker is told."""

    config: str
    """YAML."""
    run: Path
    storage: Storage | None
    channel: Any


def run(plan: Plan, wandb: Mode, request: Request, storage: Storage | None, retries: int) -> dict[str, Any]:
    """Train as launch.run does, by the workers of `request`, restarting lost ones up to `retries` times.

    Raises InfoAEError at once if the cluster is too small, and with the workers' own message if training failed.
    """
    plan.runs.mkdir(parents=True, exist_ok=True)
    with TrainingProgress() as progress, cluster.connected(request, plan.runs / "ray.log"):
        layout = cluster.layout(request, plan.config.train.device)
        cluster.check_nodes(None if storage else plan.runs.resolve())
        smallest = min(len(part) for part in batches(0, 0, len(plan.train), plan.config.train.batch_size))
        if smallest < layout.max_workers:
            raise UsageError(f"a batch of {smallest} images cannot be shared by {layout.max_workers} workers")
        trained = launch.start(plan)
        progress.say(_describe(plan, trained, layout))
        with (
            wandb_reporter(wandb, trained, plan.config) as reporters,
            launch.stop_on_signal(progress.say) as stop_wanted,
        ):
            result = _train(plan, trained, layout, storage, retries, [progress, *reporters], progress.say, stop_wanted)
        if storage is not None:
            storage.pull(trained)
    return result | (launch.evaluate_run(trained, plan.test, "best", plan.device) if result["finished"] else {})


def _describe(plan: Plan, run: Run, layout: Layout) -> str:
    batch = plan.config.train.batch_size
    workers = " to ".join(str(n) for n in sorted({layout.min_workers, layout.max_workers}))
    rate, critic_rate = plan.config.learning_rates()
    return (
        f"training {run.path} on {len(plan.train)} images: {workers} workers, {layout.workers_per_node} a node, "
        f"{'a GPU' if layout.use_gpu else f'{layout.cpus_per_worker} CPUs'} each; batch {batch} in all; "
        f"learning rates {rate:g} and {critic_rate:g} (scaling: {plan.config.optim.learning_rate_scaling})"
    )


def _train(
    plan: Plan,
    trained: Run,
    layout: Layout,
    storage: Storage | None,
    retries: int,
    reporters: Sequence[Reporter],
    say: Callable[[str], None],
    stop_wanted: Callable[[], bool],
) -> dict[str, Any]:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    channel: Any = ray.remote(num_cpus=0)(Channel).options(scheduling_strategy=here).remote()
    if storage is not None:
        storage.push(trained)
    fit = fitting(trained, plan.config, layout, storage, retries, channel)
    state = _Following(reporters, say, retries)
    training = _in_thread(fit)
    told = False
    while not training.done():
        wait_for([training], POLL_SECONDS)
        state.hear(ray.get(channel.drain.remote()))
        if stop_wanted() and not told:
            channel.stop.remote()
            told = True
        state.check_waiting(trained)
    try:
        training.result()
    except ray.train.ControllerError as error:
        failure = error.controller_failure
        if isinstance(failure, InfoAEError):
            raise failure from None
        raise InfoAEError(f"Ray Train: {_first_line(failure)}; see {plan.runs / 'ray.log'}") from None
    except ray.train.WorkerGroupError as error:
        raise InfoAEError(
            f"gave up after {retries} restarts: {_explain(error.worker_failures)}; "
            f"see {plan.runs / 'ray.log'}, go on with: infoae train --resume {trained.name}"
        ) from None
    state.hear(ray.get(channel.drain.remote()))
    named = {"run": trained.name, "folder": str(trained.path)}
    return named | {"restarts": state.restarts} | state.ended


def fitting(
    trained: Run, config: configuration.Config, layout: Layout, storage: Storage | None, retries: int, channel: Any
) -> Callable[[], Any]:
    """Return the function that trains on the cluster, to the end or until an error."""
    job = Job(configuration.dump(_absolute(config)), trained.path, storage, channel)
    least, most = layout.min_workers, layout.max_workers
    trainer = ray.train.torch.TorchTrainer(
        work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=most if least == most else (least, most),  # type: ignore[arg-type]  # typed as of V1
            use_gpu=layout.use_gpu,
            resources_per_worker=layout.resources_per_worker,
            placement_strategy="SPREAD",
        ),
        run_config=RunConfig(
            name=f"{trained.name}-{dt.datetime.now():%Y%m%d-%H%M%S-%f}",  # a name used before would train nothing
            storage_path=str(trained.path / "ray") if storage is None else f"{storage.uri}/ray",
            failure_config=FailureConfig(max_failures=retries),
            callbacks=[_OnLoss(channel)],  # type: ignore[list-item]  # typed as of V1
        ),
    )
    fit: Callable[[], Any] = trainer.fit
    return fit


def _absolute(config: configuration.Config) -> configuration.Config:
    """Workers run in another folder."""
    if config.data.root is None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"root": config.data.root.resolve()})})


class _OnLoss(UserCallback):
    """Runs beside Ray Train's controller: ends the run on an error of ours, tells of any other."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        for error in worker_exceptions.values():
            if isinstance(error, InfoAEError):
                raise error  # an exception of a callback is not retried
        self._channel.put.remote("lost", _explain(worker_exceptions))


@dataclass
class _Following:
    """What the command knows of its workers."""

    reporters: Sequence[Reporter]
    say: Callable[[str], None]
    retries: int
    restarts: int = 0
    ended: dict[str, Any] = field(default_factory=dict)
    waiting_since: float = field(default_factory=time.monotonic)
    running: bool = False

    def hear(self, events: list[tuple[Any, ...]]) -> None:
        for kind, *values in events:
            if kind == "lost":
                self.restarts += self.restarts < self.retries
                self.running, self.waiting_since = False, time.monotonic()
                self.say(f"{values[0]}; restart {self.restarts} of at most {self.retries}")
            elif kind == "started":
                self.running = True
                self.say(values[0])
            elif kind == "ended":
                self.ended = values[0]
            else:
                for reporter in self.reporters:
                    getattr(reporter, kind)(*values)

    def check_waiting(self, run: Run) -> None:
        if not self.running and time.monotonic() - self.waiting_since > WAIT_SECONDS:
            raise InfoAEError(
                f"no workers for {WAIT_SECONDS:.0f} s: the cluster has lost too many nodes; "
                f"add some and go on with: infoae train --resume {run.name}"
            )


class _Forward:
    """Reporter of the main worker: hands everything to the command."""

    def __init__(self, job: Job, run: Run) -> None:
        self._job, self._run, self._last = job, run, 0.0

    def stepped(self, moment: Moment) -> None:
        if time.monotonic() - self._last > POLL_SECONDS:
            self._last = time.monotonic()
            self._job.channel.put.remote("stepped", moment)

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        self._job.channel.put.remote("stepped", moment)
        self._job.channel.put.remote("logged", moment, metrics)

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        self._job.channel.put.remote("evaluated", moment, metrics, samples)

    def saved(self, moment: Moment) -> None:
        if self._job.storage is not None:
            self._job.storage.push(self._run)
        self._job.channel.put.remote("saved", moment)


def work(arguments: dict[str, Any]) -> None:
    """Train as one of the workers that Ray Train has started."""
    job: Job = arguments["job"]
    config = configuration.parse(job.config, "the run's configuration")
    device = ray.train.torch.get_device()
    precision = resolve_precision(config.train.precision, device)
    with _run_folder(job) as run:
        train, test = data.load(config.data, "train"), data.load(config.data, "test")
        trainer = Trainer(run, config, train, test, device, precision)
        trainer.restore(checkpoint.newest(run.checkpoints))
        workers = ray.train.get_context().get_world_size()
        if distributed.is_main():
            placed = placement_group_table(ray.util.get_current_placement_group())
            nodes = len(set(placed["bundles_to_node_id"].values()))
            entry = environment.describe(device, precision, config.seed, trainer.done)
            run.add_environment(entry | {"workers": workers, "nodes": nodes})
            where = f"{workers} workers on {nodes} node{'s' * (nodes > 1)}"
            text = f"{where} train from step {trainer.done} of {trainer.total_steps}"
            job.channel.put.remote("started", text)
        finished = trainer.fit([_Forward(job, run)], _stop_asked(job.channel))
        if distributed.is_main():
            ended = {"finished": finished, "step": trainer.done, "seconds": round(trainer.seconds, 1)}
            ray.get(job.channel.put.remote("ended", ended | {"workers": workers, "nodes": nodes}))


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


def _stop_asked(channel: Any) -> Callable[[], bool]:
    """Ask, on the main worker and at most once a second, whether the command wants to stop."""
    last = time.monotonic()

    def asked() -> bool:
        nonlocal last
        if not distributed.is_main() or time.monotonic() - last < 1:
            return False
        last = time.monotonic()
        return bool(ray.get(channel.stopping.remote()))

    return asked


def _in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Run in a thread that does not keep the process alive: the main one hears signals and shows progress."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def _explain(failures: dict[int, Exception]) -> str:
    """What happened, in one line: a worker that is gone says more than those that then missed it."""
    gone = [str(rank) for rank, error in sorted(failures.items()) if type(error).__module__.startswith("ray.")]
    if gone:
        return f"worker {', '.join(gone)} was lost"
    rank, error = min(failures.items())
    return f"worker {rank}: {type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
