"""How training goes, for people: a live bar on a terminal, plain lines in a log. Everything goes to stderr."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from infoae import metric_names
from infoae.errors import counted
from infoae.evaluation.health import Watch
from infoae.reporting.bars import Bar
from infoae.results import Team
from infoae.trainer import Metrics, Moment

if TYPE_CHECKING:
    from infoae.tune.record import Sweep, Trial

SHOWN = {
    "reconstruction": metric_names.of_loss("reconstruction"),
    "contrastive": metric_names.of_loss("contrastive"),
    "mutual information": metric_names.of_loss("mutual_information"),
    "classification": metric_names.of_loss("classification_encoded"),
    "generator": metric_names.of_loss("generator"),
    "category information": metric_names.of_loss("category_information"),
    "category adversarial": metric_names.of_loss("category_adversarial"),
    "discriminator accuracy": metric_names.DISCRIMINATOR_ACCURACY,
}


class TrainingProgress(Bar):
    """Reporter for stderr, of a training by `method`."""

    LINE_SECONDS: ClassVar[float] = 15.0

    def __init__(self, method: str = "infoae") -> None:
        super().__init__("train", "steps")
        self._losses, self._measures, self._watch = "", Metrics(), Watch(method)
        self._last_line = -math.inf  # the first at once
        self._rate = 0.0
        self._workers, self._team = 1, ""
        self._processes = 1

    def staffed(self, team: Team, restarts: int) -> None:
        """Show from now on who trains."""
        self._workers, self._team = team.workers, f"{team}, {counted(restarts, 'restart')}" if restarts else str(team)

    def stepped(self, moment: Moment) -> None:
        """Move the bar on."""
        # A moving average: single steps vary too much to read.
        self._rate = moment.images_per_second if not self._rate else 0.9 * self._rate + 0.1 * moment.images_per_second
        self.label = f"epoch {moment.epoch}/{moment.total_epochs}"
        if moment.processes != self._processes:
            self._processes = moment.processes
            self.say(f"processes that share each batch from now on: {moment.processes}")
        self.done, self.total = moment.step, moment.total_steps
        self.show(self._rates(), self._losses)

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        """Keep losses for the bar and the warnings; without a terminal, print a line every few seconds."""
        self._losses = " ".join(f"{name} {metrics[key]:.3f}" for name, key in SHOWN.items() if key in metrics)
        self._measures = metrics
        if self.line_is_due() or (moment.step == moment.total_steps and not self.is_live):
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


class SweepProgress(Bar):
    """The trials of a sweep on stderr."""

    LINE_SECONDS: ClassVar[float] = 15.0

    def __init__(self, num_trials: int) -> None:
        super().__init__("sweep", "trials", num_trials)
        self._ended = 0
        self.show()

    def reported(self, sweep: Sweep, trial: Trial) -> None:
        """Show that a trial has ended an epoch."""
        self._show(sweep)
        if trial.epochs and self.line_is_due():
            self.say(f"{trial.run} epoch {len(trial.epochs)}/{sweep.config.train.epochs}: score {trial.score:.4g}")

    def ended(self, sweep: Sweep, trial: Trial) -> None:
        """Say that a trial has finished, was stopped, failed, or was lost."""
        self._ended += 1
        done, best = self._show(sweep)
        self._last_line = time.monotonic()
        outcome = f"{trial.status}: {trial.message}"
        if trial.message is None:
            outcome = f"{trial.status} after epoch {len(trial.epochs)}, score {trial.score:.4g}"
        left = (time.monotonic() - self._started) / self._ended * (sweep.num_trials - done)
        eta = f", about {left:,.0f} s left" if left and not self.is_live else ""
        self.say(f"{trial.run} {outcome}; {done}/{sweep.num_trials} trials, {best}{eta}")

    def _show(self, sweep: Sweep) -> tuple[int, str]:
        done = sum(trial.status != "unfinished" for trial in sweep.trials)
        found = sweep.best()
        best = "no score yet" if found is None else f"best {found.score:.4g} ({found.run})"
        self.done = done
        self.show(note=best)
        return done, best
