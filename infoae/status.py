"""Where a run is, how fast, when it is done, what went wrong: of the files in its folder, without PyTorch."""

from __future__ import annotations

import datetime as dt
import statistics
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from infoae import locks, metric_names
from infoae.config import Config
from infoae.errors import InfoAEError
from infoae.methods.schedules import schedule_of
from infoae.runs import checkpoint, outcome
from infoae.runs.outcome import Outcome
from infoae.runs.run import ENVIRONMENT, LOCK, METRICS, STATUS, Run
from infoae.runs.storage import Storage

LINES = 20
"""Logged steps that rates are of: few enough to be of now, many enough to be no chance."""

State = Literal["training", "evaluating", "finished", "stopped", "failed", "killed"]
WORDS: dict[State, str] = {
    "training": "is training",
    "evaluating": "is trained, and is evaluated now",
    "finished": "is finished",
    "stopped": "was stopped, and is not trained now",
    "failed": "has failed, and is not trained now",
    "killed": "was killed, and is not trained now",
}


@dataclass(frozen=True)
class Status:
    """What `infoae status` says; None is what is not known."""

    run: str
    where: str
    """The run's folder, or its place in a storage."""
    state: State
    host: str | None
    pid: int | None
    """Of the command that trains it, or did last."""
    silent_seconds: float | None
    """Since training last wrote something."""
    stage: str
    epoch: int
    """The one that is trained, counted from 1."""
    epochs: int
    step: int
    """Steps done, as last logged or saved."""
    steps: int | None
    """Steps in all."""
    saved_step: int | None
    """Of the newest checkpoint."""
    score: float | None
    """Of the best checkpoint, in nats."""
    images_per_second: float | None
    data_wait: float | None
    """Share of the time in which images were read, and nothing was computed."""
    seconds_left: float | None
    """Until the last step; what is done between epochs is not counted, nor that stages differ."""
    losses: dict[str, float]
    """In nats, of the last logged step."""
    workers: int
    nodes: int
    starts: int
    """By commands and restarts."""
    restarts: int
    """Of the last command, after lost workers or machines."""
    lost: str | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        return asdict(self)

    def describe(self) -> list[str]:
        """Return it in words, some lines."""
        by = f" by process {self.pid} on {self.host}" if self.pid and self.state in ("training", "evaluating") else ""
        silent = "" if self.silent_seconds is None else f"; last written {_duration(self.silent_seconds)} ago"
        lines = [f"{self.where} {WORDS[self.state]}{by}{silent}"]
        total = "" if self.steps is None else f" of {self.steps}"
        saved = "no checkpoint yet" if self.saved_step is None else f"checkpoint of step {self.saved_step}"
        score = "" if self.score is None else f", best score {self.score:.3f} nats"
        lines.append(f"epoch {self.epoch} of {self.epochs} ({self.stage}), step {self.step}{total}; {saved}{score}")
        if self.images_per_second is not None:
            rate = f"{self.images_per_second:,.0f} images/s"
            rate += f" by {self.workers} workers on {self.nodes} nodes" if self.workers > 1 else ""
            rate += "" if self.data_wait is None else f", {self.data_wait:.0%} of the time reading images"
            left = self.seconds_left if self.state == "training" else None
            lines.append(rate + ("" if left is None else f"; about {_duration(left)} of steps left"))
        if self.losses:
            lines.append("losses: " + ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items()))
        if self.starts > 1 or self.restarts:
            lines.append(f"started {self.starts} times, {self.restarts} of them after losses in the last command")
        lines += [f"last loss: {self.lost}"] if self.lost else []
        lines += [f"error: {self.error}"] if self.error else []
        return lines


def of_run(run: Run) -> Status:
    """Return where a run in a folder here is. Raises InfoAEError if one of its files is damaged."""
    return _status(run, str(run.path), locks.is_held(run.path / LOCK))


def of_stored(name: str, storage: Storage) -> Status:
    """Return where a run in a storage is, as of its last checkpoint. Raises InfoAEError, also if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / name)
        if not storage.glance(run):
            raise InfoAEError(f"no run {name!r} in {storage.uri}: give the name that it was trained under")
        return _status(run, storage.within(name), None)


def _status(run: Run, where: str, held: bool | None) -> Status:
    config, schedule = run.config(), schedule_of(run.config())
    known, starts = outcome.read(run), run.environments()
    newest, best = checkpoint.newest(run.checkpoints), checkpoint.best(run.checkpoints)
    saved = None if newest is None else checkpoint.read(newest)
    lines = deque((line for line in run.metrics() if metric_names.IMAGES_PER_SECOND in line), LINES)
    last = lines[-1] if lines else {}
    step = max(last.get("step", 0), 0 if saved is None else saved.step)
    steps_per_epoch = round(last["step"] / last["epoch"]) if last else None
    done = step // steps_per_epoch if steps_per_epoch else 0 if saved is None else saved.epoch
    steps = steps_per_epoch * config.train.epochs if steps_per_epoch else None
    epoch = min(done + 1, config.train.epochs)
    return Status(
        run=run.name,
        where=where,
        state=_state(run, config, known, held),
        host=None if known is None else known.host,
        pid=None if known is None else known.pid,
        silent_seconds=_silence(run, newest),
        stage=schedule.stage(epoch - 1).name,
        epoch=epoch,
        epochs=config.train.epochs,
        step=step,
        steps=steps,
        saved_step=None if saved is None else saved.step,
        score=None if best is None else checkpoint.read(best).score,
        images_per_second=_mean(lines, metric_names.IMAGES_PER_SECOND),
        data_wait=_mean(lines, metric_names.DATA_WAIT),
        seconds_left=None if steps is None else _seconds_of(steps - step, lines),
        losses={
            key.removeprefix(metric_names.of_loss("")): value
            for key, value in last.items()
            if key.startswith(metric_names.of_loss(""))
        },
        workers=starts[-1].get("workers", 1) if starts else 1,
        nodes=starts[-1].get("nodes", 1) if starts else 1,
        starts=len(starts),
        restarts=0 if known is None else known.restarts,
        lost=None if known is None else known.lost,
        error=None if known is None else known.error,
    )


def _state(run: Run, config: Config, known: Outcome | None, held: bool | None) -> State:
    """A lock says whether a process is at work; in a storage, only what that process said last."""
    finished = run.is_finished(config)
    if held or (held is None and known is not None and known.state == "training"):
        return "evaluating" if finished else "training"
    if known is not None and known.state == "failed":
        return "failed"
    if finished:
        return "finished"
    return "killed" if known is not None and known.state == "training" else "stopped"


def _silence(run: Run, newest: Path | None) -> float | None:
    files = [run.path / name for name in (METRICS, ENVIRONMENT, STATUS)]
    files += [] if newest is None else [newest / "checkpoint.json"]
    times = [file.stat().st_mtime for file in files if file.exists()]
    return round(max(0.0, time.time() - max(times)), 1) if times else None


def _mean(lines: deque[dict[str, Any]], name: str) -> float | None:
    values = [line[name] for line in lines if name in line]
    return statistics.fmean(values) if values else None


def _seconds_of(steps: int, lines: deque[dict[str, Any]]) -> float | None:
    """Return how long so many steps take, as the last ones did."""
    if not lines:
        return None
    first, last = lines[0], lines[-1]
    if first["step"] == last["step"]:
        first = {"step": 0, "seconds": 0.0}
    seconds: float = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    return round(steps * seconds, 1)


def _duration(seconds: float) -> str:
    return str(dt.timedelta(seconds=round(seconds)))
