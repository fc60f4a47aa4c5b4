"""How training goes, for people: a live bar on a terminal, plain lines in a log. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from infoae import metric_names
from infoae.evaluation.health import Watch
from infoae.results import Team, counted
from infoae.trainer import Metrics, Moment

if TYPE_CHECKING:
    from infoae.tune.record import Sweep, Trial

PLAIN_SECONDS = 15.0  # between lines in a log
SHOWN = {
    "reconstruction": metric_names.of_loss("reconstruction"),
    "mutual information": metric_names.of_loss("mutual_information"),
    "classification": metric_names.of_loss("classification_encoded"),
    "discriminator accuracy": metric_names.DISCRIMINATOR_ACCURACY,
}


class _Bar:
    """A live bar on stderr, used as a context manager so that it is always taken down; none where it is no terminal."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._console = Console(file=sys.stderr)  # this stderr, whatever it is redirected to later
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)


class TrainingProgress(_Bar):
    """Reporter for stderr."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._task: TaskID | None = None
        self._losses, self._measures, self._watch = "", Metrics(), Watch()
        self._last_line = 0.0
        self._rate = 0.0
        self._workers, self._team = 1, ""

    def staffed(self, team: Team, restarts: int) -> None:
        """Show from now on who trains."""
        self._workers, self._team = team.workers, f"{team}, {counted(restarts, 'restart')}" if restarts else str(team)

    def stepped(self, moment: Moment) -> None:
        """Move the bar on."""
        # A moving average: single steps vary too much to read.
        self._rate = moment.images_per_second if not self._rate else 0.9 * self._rate + 0.1 * moment.images_per_second
        fields: dict[str, Any] = {
            "epoch": f"{moment.epoch}/{moment.total_epochs}",
            "rate": self._rates(),
            "status": self._losses,
        }
        if self._task is None:
            self._task = self._bar.add_task("train", total=moment.total_steps, **fields)
        self._bar.update(self._task, completed=moment.step, **fields)

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        """Keep losses for the bar and the warnings; without a terminal, print a line every few seconds."""
        self._losses = " ".join(f"{name} {metrics[key]:.3f}" for name, key in SHOWN.items() if key in metrics)
        self._measures = metrics
        now = time.monotonic()
        if self._bar.disable and (now - self._last_line >= PLAIN_SECONDS or moment.step == moment.total_steps):
            self._last_line = now
            self.say(
                f"epoch {moment.epoch}/{moment.total_epochs} step {moment.step}/{moment.total_steps} "
                f"{self._rates()}, {moment.images_left / self._rate:,.0f} s left: {self._losses}"
            )

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:  # noqa: ARG002
        """Print the measures of the epoch, and what looks wrong."""
        values = {key.removeprefix(metric_names.of_evaluation("")): value for key, value in metrics.items()}
        line = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in values.items())
        self.say(f"epoch {moment.epoch}/{moment.total_epochs} done: {line}")
        for warning in self._watch.warnings(self._measures | values):
            self.say(f"warning: {warning}")

    def saved(self, moment: Moment) -> None:
        """Say nothing: a checkpoint is no news."""

    def _rates(self) -> str:
        each = f" ({self._rate / self._workers:,.0f} a worker; {self._team})" if self._team else ""
        return f"{self._rate:,.0f} images/s{each}"


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"


class SweepProgress(_Bar):
    """The trials of a sweep on stderr."""

    def __init__(self, num_trials: int) -> None:
        super().__init__(
            TextColumn("trials"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}"),
        )
        self._task = self._bar.add_task("trials", total=num_trials, best="")
        self._started = self._last_line = time.monotonic()
        self._ended = 0

    def reported(self, sweep: Sweep, trial: Trial) -> None:
        """A trial has ended an epoch."""
        self._show(sweep)
        if self._bar.disable and trial.epochs and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{trial.run} epoch {len(trial.epochs)}/{sweep.config.train.epochs}: score {trial.score:.4g}")

    def ended(self, sweep: Sweep, trial: Trial) -> None:
        """A trial has finished, was stopped, failed, or was lost."""
        self._ended += 1
        done, best = self._show(sweep)
        self._last_line = time.monotonic()
        outcome = f"{trial.status}: {trial.message}"
        if trial.message is None:
            outcome = f"{trial.status} after epoch {len(trial.epochs)}, score {trial.score:.4g}"
        left = (time.monotonic() - self._started) / self._ended * (sweep.num_trials - done)
        eta = f", about {left:,.0f} s left" if self._bar.disable and left else ""
        self.say(f"{trial.run} {outcome}; {done}/{sweep.num_trials} trials, {best}{eta}")

    def _show(self, sweep: Sweep) -> tuple[int, str]:
        done = sum(trial.status != "unfinished" for trial in sweep.trials)
        found = sweep.best()
        best = "no score yet" if found is None else f"best {found.score:.4g} ({found.run})"
        self._bar.update(self._task, completed=done, best=best)
        return done, best
