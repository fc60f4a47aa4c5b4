"""From a plan to a result: who trains it, how often, and which run counts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from infoae import local
from infoae.cluster.connect import Request
from infoae.data.sampler import check_shares
from infoae.errors import UsageError
from infoae.planning import Plan, refuse_stored
from infoae.reporting.wandb import Mode
from infoae.results import TrainingResult
from infoae.runs.run import CONFIG, Run, check_new
from infoae.runs.storage import Storage


@dataclass(frozen=True)
class Executor:
    """Who trains: this process, or the workers of a Ray cluster."""

    request: Request = field(default_factory=Request)
    storage: Storage | None = None
    """Where all nodes reach the run, if not in its own folder."""
    retries: int = 3
    """Restarts after lost workers or nodes."""
    wandb: Mode = "disabled"


def run(plan: Plan, executor: Executor) -> TrainingResult:
    """Train a plan to the end, or until it is stopped. A run that is finished is only evaluated. Raises InfoAEError."""
    done = plan.resumed is not None and plan.resumed.is_finished(plan.config)
    if done or not executor.request.needs_ray:
        return local.run(plan, executor.wandb)
    from infoae.cluster import driver  # Ray takes seconds to import

    return driver.run(plan, executor.wandb, executor.request, executor.storage, executor.retries)


def check(plan: Plan, count: int, executor: Executor) -> None:
    """Raise what `run`, or `run_restarts` of `count`, would before it trains. Makes nothing, asks no cluster."""
    plans = [plan] if count == 1 else restarts(plan, count)
    for one in plans:
        if one.resumed is None:
            check_new(one.runs, one.name)
        if executor.storage is not None:
            refuse_stored(one, executor.storage)
    request = executor.request
    if request.needs_ray:
        check_shares(len(plan.train), plan.config.train, request.max_nodes * (request.workers_per_node or 1))


def run_restarts(plan: Plan, count: int, executor: Executor, say: Callable[[str], object]) -> TrainingResult:
    """Train `count` runs of consecutive seeds; the one of the highest score counts, and is the latest then.

    Returns the result of the run that was stopped, if one was; `say` is told how to go on. Raises InfoAEError.
    """
    results: list[TrainingResult] = []
    for one in restarts(plan, count):
        results.append(run(one, executor))
        if not results[-1].finished:
            group = results[-1].run.removesuffix(f"-{one.config.seed}")
            say(f"run {len(results)} of {count}; to go on, repeat the command with --name {group}")
            return results[-1]
    best = max(results, key=lambda result: result.score)
    Run.open(best.folder).point_latest()
    return replace(best, tried={result.run: result.score for result in results})


def restarts(plan: Plan, count: int) -> list[Plan]:
    """Return `count` plans that differ in their seeds, which follow on the plan's own, and names, NAME-<seed>.

    One whose run is there already goes on with it, so that a repeated command finishes the job. Raises UsageError if
    that is of another configuration, or if scores could not be compared.
    """
    if plan.config.model.num_categories == "auto":
        raise UsageError(
            "--restarts keeps the best score, and scores of different numbers of categories cannot be compared: find "
            "the number with --categories auto, then give it as --categories with --restarts"
        )
    name = plan.name or f"{plan.recipe}-{dt.datetime.now():%Y%m%d-%H%M%S}"
    return [_restart(plan, f"{name}-{seed}", seed) for seed in range(plan.config.seed, plan.config.seed + count)]


def _restart(plan: Plan, name: str, seed: int) -> Plan:
    config = plan.config.model_copy(update={"seed": seed})
    found = Run(plan.runs / name)
    if not (found.path / CONFIG).exists():
        return replace(plan, config=config, name=name)
    stored = Run.open(found.path).config()
    if not stored.stands_for(config):
        raise UsageError(f"{found.path} is of another configuration: give another --name or --seed, or delete it")
    return replace(plan, config=stored, name=None, resumed=Run.open(found.path))
