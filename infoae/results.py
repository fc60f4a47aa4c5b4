"""What comes out of a training, for whoever started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoae.errors import counted
from infoae.evaluation.evaluate import RunEvaluation
from infoae.runs.run import Run


@dataclass(frozen=True)
class Team:
    """How many workers train, on how many nodes."""

    workers: int
    nodes: int

    def __str__(self) -> str:
        return f"{counted(self.workers, 'worker')} on {counted(self.nodes, 'node')}"


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended, and what its best checkpoint is worth."""

    run: str
    folder: str
    finished: bool
    """Whether all epochs are done, or it stopped early by train.patience; otherwise it was stopped and saved."""
    step: int
    total_steps: int
    seconds: float
    """Spent in training steps, over all starts."""
    evaluation: RunEvaluation | None = None
    """Of the best checkpoint, once finished."""
    go_on: str | None = None
    """The command that goes on, of a training that was stopped."""
    team: Team | None = None
    """Of several workers, those that trained last."""
    restarts: int | None = None
    """How often lost workers were replaced."""
    tried: Mapping[str, float | None] | None = None
    """Score of each run by name, where this one is the best of several."""

    @property
    def score(self) -> float:
        """The score of the best checkpoint, in nats; minus infinity where there is none."""
        score = None if self.evaluation is None else self.evaluation.score
        return float("-inf") if score is None else score

    def to_dict(self) -> dict[str, Any]:
        """Return what --json prints: JSON values, the measures beside the rest, without what there is not."""
        content: dict[str, Any] = {
            "run": self.run,
            "folder": self.folder,
            "finished": self.finished,
            "step": self.step,
            "total_steps": self.total_steps,
            "seconds": self.seconds,
        }
        if self.team is not None:
            content |= {"workers": self.team.workers, "nodes": self.team.nodes}
        given = {"restarts": self.restarts, "go_on": self.go_on, "tried": self.tried}
        content |= {name: value for name, value in given.items() if value is not None}
        return content | (self.evaluation.to_dict() if self.evaluation is not None else {})

    def describe(self) -> list[str]:
        """Return it in words, some lines."""
        run = Run(Path(self.folder))
        if self.evaluation is None:
            go_on = self.go_on or run.command("train", "--resume")
            return [f"stopped and saved after step {self.step}; go on with: {go_on}"]
        measured = self.evaluation.measures
        label_free, trivial, labelled = measured.label_free, measured.trivial, measured.labelled
        lines = [
            f"run {self.folder}: {self.seconds:.0f} s of training, best checkpoint {self.evaluation.checkpoint}",
            f"label-free: mutual information {label_free.mutual_information:.3f} nats, "
            f"{label_free.categories_used} categories used, balance {label_free.balance:.3f}",
            f"k-means without training: {trivial.pixels.mutual_information:.3f} nats on pixels, "
            f"{trivial.colour.mutual_information:.3f} on colour and brightness; agreement with these (at most 1) "
            f"{trivial.pixels.agreement:.2f} and {trivial.colour.agreement:.2f}",
        ]
        if self.step < self.total_steps:
            lines.append(f"stopped early, after step {self.step} of {self.total_steps}: the score had stopped rising")
        if self.restarts:
            lines.append(f"workers were lost and training restarted {counted(self.restarts, 'time')}")
        if labelled is not None:
            lines.append(f"test accuracy {labelled.accuracy:.2%}, NMI {labelled.nmi:.3f}, ARI {labelled.ari:.3f}")
        if self.tried is not None:
            scores = ", ".join(f"{run} {score:.3f}" for run, score in self.tried.items())
            lines.append(f"the best of {len(self.tried)} by its score: {scores}")
        lines += [f"warning: {warning}" for warning in measured.warnings]
        lines.append(f"look at it: {run.command('evaluate')}; {run.command('figures')}")
        return lines
