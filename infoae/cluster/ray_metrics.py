"""What Prometheus finds at Ray's metrics endpoint, and so Grafana shows (`deploy/ray/grafana.json`). No torch.

Ray adds a node, a session and a worker to the tags. Without Ray everything here does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

_RUN, _RANK, _RESULT = ("run",), ("run", "rank"), ("result",)


@dataclass(frozen=True)
class RayMetric:
    """A gauge, or a counter: one for all of a process, made when it first has a value."""

    name: str
    what: str
    tags: tuple[str, ...]
    counter: bool = False

    @property
    def exported(self) -> str:
        """The name that Prometheus knows."""
        return f"ray_{self.name}" + "_total" * self.counter

    def set(self, value: float, **tags: str) -> None:
        """Give a gauge its value."""
        self._metric.set(value, tags)

    def add(self, value: float, **tags: str) -> None:
        """Count on. Ray refuses to count nothing, so Prometheus has no counter before there is something to count."""
        if value > 0:
            self._metric.inc(value, tags)

    @cached_property
    def _metric(self) -> Any:
        from ray.util import metrics

        return (metrics.Counter if self.counter else metrics.Gauge)(self.name, self.what, self.tags)


STEP = RayMetric("infoae_step", "steps done", _RUN)
STEPS = RayMetric("infoae_steps", "steps that the whole training has", _RUN)
EPOCH = RayMetric("infoae_epoch", "epoch that is trained, counted from 1", _RUN)
SECONDS_LEFT = RayMetric("infoae_seconds_left", "seconds until the last step, at the rate of the last one", _RUN)
IMAGES_PER_SECOND = RayMetric("infoae_images_per_second", "images a second, of all workers together", _RUN)
DATA_WAIT = RayMetric("infoae_data_wait", "share of a worker's time in which it reads images", _RANK)
LOSS = RayMetric("infoae_loss", "each loss of the last logged step, in nats", ("run", "loss"))
MEASURE = RayMetric("infoae_measure", "each measure at the end of the last epoch", ("run", "measure"))
RESTARTS = RayMetric("infoae_restarts", "restarts after lost workers or machines since the command began", _RUN)
ROWS = RayMetric("infoae_rows", "rows that infoae classify --ray has made", _RESULT, counter=True)
ROW_ERRORS = RayMetric("infoae_row_errors", "those of them whose input could not be read", _RESULT, counter=True)

ALL = (
    STEP,
    STEPS,
    EPOCH,
    SECONDS_LEFT,
    IMAGES_PER_SECOND,
    DATA_WAIT,
    LOSS,
    MEASURE,
    RESTARTS,
    ROWS,
    ROW_ERRORS,
)
