"""What a sweep leaves behind: sweep.json, best.yaml, and the figure of the score over each λ.

runs/<sweep>/  sweep.json  best.yaml  scores.png  ray.log  <sweep>-000/ <sweep>-001/ … (a run folder for each trial)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer, model_validator

from infoae import metric_names, metrics
from infoae.config import Config, recipes, renamed
from infoae.errors import InfoAEError, one_line
from infoae.files import atomic_file, write_json
from infoae.runs.run import Run
from infoae.tune import space as searching
from infoae.tune.space import Space, Values

Status = Literal["unfinished", "finished", "stopped", "failed"]
Search = Literal["random", "grid", "optuna"]
Scheduling = Literal["asha", "none"]
Metric = Literal["mutual_information", "recovered"]

SCORE = metric_names.of_evaluation(metric_names.MUTUAL_INFORMATION)


class Epoch(BaseModel):
    """What a trial had reached at the end of an epoch."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epoch: int
    score: float
    """The sweep's metric at the trial's best checkpoint so far; no label is used."""


class Trial(BaseModel):
    """One trial of a sweep."""

    model_config = ConfigDict(extra="forbid")

    number: int
    run: str
    """Name of its run folder."""
    values: Values
    status: Status = "unfinished"
    message: str | None = None
    """Why it failed; of an unfinished one, what it was lost by."""
    epochs: list[Epoch] = []

    @property
    def score(self) -> float | None:
        """The score of the last epoch, None before the first has ended."""
        return self.epochs[-1].score if self.epochs else None


class Sweep(BaseModel):
    """A sweep, as sweep.json keeps it: what was asked for, and how each trial went."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    name: str
    recipe: str
    config: Config
    """What the trials have in common."""
    space: Space
    search: Search
    scheduler: Scheduling
    metric: Metric
    num_trials: int
    nodes: int = 1
    """Of each trial."""
    workers_per_node: int = 1
    trials: list[Trial] = []

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if [trial.number for trial in self.trials] != list(range(len(self.trials))) or len(
            self.trials
        ) > self.num_trials:
            raise ValueError(f"trials are numbered from 0, at most {self.num_trials}")
        for trial in self.trials:
            if [epoch.epoch for epoch in trial.epochs] != list(range(1, len(trial.epochs) + 1)):
                raise ValueError(f"epochs of trial {trial.number} are numbered from 1")
            if trial.values.keys() != self.space.keys():
                raise ValueError(f"trial {trial.number} has other values than the space")
        return self

    @field_serializer("config")
    def _settings(self, config: Config) -> dict[str, Any]:
        return config.settings()  # those of other methods would be refused when it is read

    @property
    def num_left(self) -> int:
        """Trials that have not ended, those not begun among them."""
        return self.num_trials - sum(trial.status != "unfinished" for trial in self.trials)

    def ranked(self) -> list[Trial]:
        """Return all trials, the highest score first, the failed and unscored last."""
        return sorted(self.trials, key=lambda t: (t.status == "failed", t.score is None, -(t.score or 0.0), t.number))

    def best(self) -> Trial | None:
        """Return the trial of the highest score that did not fail, if there is one."""
        return next((trial for trial in self.ranked() if trial.status != "failed" and trial.score is not None), None)

    def config_of(self, trial: Trial) -> Config:
        """Return the complete configuration of a trial. Raises UsageError if its values do not go together."""
        return searching.configured(self.config, self.space, trial.values)

    def result(self, folder: Path) -> dict[str, Any]:
        """Return what --json prints."""
        best = self.best()
        return {
            "sweep": self.name,
            "folder": str(folder),
            "finished": not self.num_left,
            "metric": self.metric,
            "best": None if best is None else best.run,
            "trials": [
                trial.model_dump(mode="json", exclude={"epochs"}) | {"score": trial.score, "epochs": len(trial.epochs)}
                for trial in self.ranked()
            ],
        }


def save(sweep: Sweep, folder: Path) -> None:
    """Write sweep.json, atomically."""
    write_json(folder / "sweep.json", sweep.model_dump(mode="json"))


def load(name: str, runs: Path) -> tuple[Sweep, Path]:
    """Find a sweep by folder or by name under `runs`. Raises InfoAEError if there is none, or it is damaged."""
    for folder in (Path(name), runs / name):
        if (folder / "sweep.json").is_file():
            break
    else:
        raise InfoAEError(f"no sweep {name!r}, neither that folder nor in {runs}: ls {runs} shows what there is")
    try:
        content = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        renamed.rename(content["config"])
        for dimension in content["space"].values():
            dimension["keys"] = [renamed.current_key(key) for key in dimension["keys"]]
        sweep = Sweep.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InfoAEError(f"{folder / 'sweep.json'} is damaged or of another infoae: {where} {first['msg']}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InfoAEError(f"{folder / 'sweep.json'} is damaged or of another infoae: {one_line(error)}") from None
    return sweep, folder.resolve()


def epochs(run: Run, metric: Metric, first_scored: int) -> list[Epoch]:
    """Read from a run's metrics what it had reached at the end of each epoch.

    That is its best checkpoint by the score (`metrics.choose`), which evaluate and export would use. Epochs before
    `first_scored`, counted from 0, have no such checkpoint: their score is 0.
    """
    found: list[Epoch] = []
    scored: list[dict[str, Any]] = []
    for line in run.metrics():
        if SCORE not in line:
            continue
        if len(found) >= first_scored:
            scored.append(line)
        best = scored[metrics.choose([each[SCORE] for each in scored])] if scored else {}
        found.append(Epoch(epoch=len(found) + 1, score=best.get(metric_names.of_evaluation(metric), 0.0)))
    return found


def write_best(sweep: Sweep, best: Trial, folder: Path) -> Path:
    """Write best.yaml, the complete recipe of the best trial. Returns its path."""
    path = folder / "best.yaml"
    title = f"# {best.run}, the best of {len(sweep.trials)} trials of {sweep.recipe}: {sweep.metric} {best.score:.4g}\n"
    with atomic_file(path) as file:
        file.write_text(title + recipes.dump(sweep.config_of(best)), encoding="utf-8")
    return path


def write_figure(sweep: Sweep, best: Trial, folder: Path) -> Path:
    """Draw the score over each λ, the best marked, as scores.png. Returns its path."""
    names = list(sweep.space)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * rows + 0.4), layout="constrained")
    scored = [trial for trial in sweep.trials if trial.status != "failed" and trial.score is not None]
    for index, name in enumerate(names):
        dimension = sweep.space[name]
        axes = figure.add_subplot(rows, columns, index + 1, xlabel=name)
        if index % columns == 0:
            axes.set_ylabel(f"{sweep.metric.replace('_', ' ')}{' (nats)' * (sweep.metric == 'mutual_information')}")
        place: Any = (lambda value: value) if dimension.choices is None else dimension.choices.index
        for status, marker, colour in (("finished", "o", "C0"), ("stopped", "x", "0.5"), ("unfinished", "+", "0.5")):
            points = [(place(t.values[name]), t.score) for t in scored if t.status == status]
            if points:
                axes.scatter(*zip(*points, strict=True), marker=marker, color=colour, label=status)
        axes.scatter(
            [place(best.values[name])],
            [best.score or 0.0],
            s=160,
            facecolors="none",
            edgecolors="C3",
            linewidths=2,
            label="best",
        )
        if dimension.choices is not None:
            axes.set_xticks(range(len(dimension.choices)), [str(choice) for choice in dimension.choices])
            axes.margins(x=0.2)
        elif dimension.distribution == "loguniform":
            ticks = np.geomspace(*dimension.bounds, 5)
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
            axes.minorticks_off()
        if index == 0:
            axes.legend(fontsize="small")
    figure.suptitle(f"{sweep.name}: {len(scored)} trials, best {best.run} with {best.score:.4g}")
    path = folder / "scores.png"
    with atomic_file(path) as file:
        figure.savefig(file, dpi=120, format="png")
    return path
