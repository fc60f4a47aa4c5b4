"""What one of several workers shows of itself on Ray: its metrics, Ray Train's reports, and lines in Ray's logs."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import ray.train
import torch
from torch import Tensor

from infoae import metric_names
from infoae.cluster import ray_metrics
from infoae.distributed import collectives
from infoae.errors import one_line
from infoae.reporting.training import TrainingProgress
from infoae.trainer import Metrics, Moment

REPORT_SECONDS = TrainingProgress.LINE_SECONDS
"""Between reports: each is waited for by all workers, and by Ray Train, which looks for them every few seconds."""


class WorkerLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of a worker, whose lines begin with its run, rank and step."""

    def __init__(self, run: str, rank: int) -> None:
        super().__init__(logging.getLogger("infoae"))
        self.run, self.rank, self.step = run, rank, 0

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put before a line whose it is."""
        return f"run {self.run} rank {self.rank} step {self.step}: {msg}", kwargs


@contextmanager
def logged_as(run: str, rank: int) -> Iterator[WorkerLog]:
    """Log as a worker of a run, also the warnings meanwhile, and the error that ends it."""
    log = WorkerLog(run, rank)
    with warnings.catch_warnings():
        # Only where they go: what is shown, and how often, stays as it is.
        warnings.showwarning = lambda message, *_: log.warning("%s", message)
        try:
            yield log
        except Exception as error:
            log.error("%s: %s", type(error).__name__, one_line(error))
            raise


class Observer:
    """Reporter of every worker: gauges at each logged step, a report and a line every REPORT_SECONDS."""

    def __init__(self, log: WorkerLog, device: torch.device) -> None:
        self._log, self._device = log, device
        self._last = -math.inf  # the first at once

    def stepped(self, moment: Moment) -> None:
        """Let the next lines name this step."""
        self._log.step = moment.step

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        """Set the gauges; all workers report together, when the main one finds that it is time."""
        run = self._log.run
        ray_metrics.DATA_WAIT.set(metrics[metric_names.DATA_WAIT], run=run, rank=str(self._log.rank))
        if collectives.is_main():
            _set_gauges(run, moment, metrics)
        due = collectives.is_main() and time.monotonic() - self._last >= REPORT_SECONDS
        if not collectives.any_rank(due, self._device):
            return
        self._last = time.monotonic()
        values = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._log.info("of %d, epoch %d of %d: %s", moment.total_steps, moment.epoch, moment.total_epochs, values)
        ray.train.report({"step": moment.step, "epoch": moment.epoch} | metrics)

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:  # noqa: ARG002
        """Set the gauges of the measures."""
        for name, value in metrics.items():
            measure = name.removeprefix(metric_names.of_evaluation(""))
            ray_metrics.MEASURE.set(value, run=self._log.run, measure=measure)

    def saved(self, moment: Moment) -> None:  # noqa: ARG002
        """Log it."""
        self._log.info("checkpoint saved")


def _set_gauges(run: str, moment: Moment, metrics: Metrics) -> None:
    ray_metrics.STEP.set(moment.step, run=run)
    ray_metrics.STEPS.set(moment.total_steps, run=run)
    ray_metrics.EPOCH.set(moment.epoch, run=run)
    ray_metrics.IMAGES_PER_SECOND.set(moment.images_per_second, run=run)
    ray_metrics.SECONDS_LEFT.set(moment.images_left / moment.images_per_second, run=run)
    for name, value in metrics.items():
        if name.startswith(metric_names.of_loss("")):
            ray_metrics.LOSS.set(value, run=run, loss=name.removeprefix(metric_names.of_loss("")))
