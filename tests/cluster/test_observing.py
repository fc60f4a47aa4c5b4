"""What a worker shows of itself, without Ray: what is set and reported, how often, and how its lines are named."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import pytest
import ray.train
import torch

from infoae.cluster.observing import Observer, WorkerLog, logged_as
from infoae.cluster.ray_metrics import ALL, RayMetric
from infoae.distributed import collectives
from infoae.errors import InfoAEError, Notice
from infoae.trainer import Moment

METRICS = {"loss/reconstruction": 1.5, "loss/discriminator": -0.25, "data_wait": 0.125, "images_per_second": 400.0}


def moment(step: int) -> Moment:
    return Moment(step, 100, 2, 5, 1000, 400.0)


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(
        RayMetric, "set", lambda self, value, **tags: found.update({"/".join((self.name, *tags.values())): value})
    )
    return found


def test_lines_warnings_and_errors_name_run_rank_and_step(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infoae")
    shown = warnings.showwarning

    def work() -> None:
        with logged_as("mnist-4", 3) as log:
            warnings.simplefilter("always")
            log.info("%d images", 7)
            log.step = 12
            warnings.warn(Notice("100% full"), stacklevel=1)
            raise InfoAEError("no disk")

    with pytest.raises(InfoAEError):
        work()
    assert caplog.messages == [
        "run mnist-4 rank 3 step 0: 7 images",
        "run mnist-4 rank 3 step 12: 100% full",
        "run mnist-4 rank 3 step 12: InfoAEError: no disk",
    ]
    assert warnings.showwarning is shown


def test_gauges_are_of_each_logged_step_and_reports_are_rare(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "infoae")
    reports: list[dict[str, Any]] = []
    now = 1000.0
    monkeypatch.setattr(ray.train, "report", reports.append)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    log = WorkerLog("mnist-4", 0)
    observer = Observer(log, torch.device("cpu"))
    for step in range(1, 7):  # 4 s each
        observer.stepped(moment(step))
        observer.logged(moment(step), METRICS | {"loss/reconstruction": 1.5 + step})
        assert values["infoae_loss/mnist-4/reconstruction"] == 1.5 + step
        now += 4.0
    assert [report["step"] for report in reports] == [1, 5]  # at 0 s and 16 s
    assert reports[1] == METRICS | {"step": 5, "epoch": 2, "loss/reconstruction": 6.5}
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "run mnist-4 rank 0 step 1",
        "run mnist-4 rank 0 step 5",
    ]
    observer.evaluated(moment(6), {"evaluation/balance": 0.75}, torch.empty(0))
    assert values == {
        "infoae_step/mnist-4": 6,
        "infoae_steps/mnist-4": 100,
        "infoae_epoch/mnist-4": 2,
        "infoae_images_per_second/mnist-4": 400.0,
        "infoae_seconds_left/mnist-4": 2.5,
        "infoae_data_wait/mnist-4/0": 0.125,
        "infoae_loss/mnist-4/reconstruction": 7.5,
        "infoae_loss/mnist-4/discriminator": -0.25,
        "infoae_measure/mnist-4/balance": 0.75,
    }


def test_the_other_ranks_tell_of_their_own_reading_and_report_with_the_main_one(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[dict[str, Any]] = []
    due: list[bool] = []
    answers = iter([True, False])
    monkeypatch.setattr(ray.train, "report", reports.append)

    def any_rank(flag: bool, _: torch.device) -> bool:
        due.append(flag)
        return next(answers)

    monkeypatch.setattr(collectives, "is_main", lambda: False)
    monkeypatch.setattr(collectives, "any_rank", any_rank)
    observer = Observer(WorkerLog("mnist-4", 1), torch.device("cpu"))
    observer.logged(moment(1), METRICS)
    observer.logged(moment(2), METRICS)
    assert due == [False, False]  # the main one alone decides
    assert [report["step"] for report in reports] == [1]
    assert values == {"infoae_data_wait/mnist-4/1": 0.125}


def test_every_metric_is_one_that_prometheus_takes() -> None:
    assert len({metric.name for metric in ALL}) == len(ALL)
    for metric in ALL:
        assert metric.name.startswith("infoae_")
        assert metric.exported == f"ray_{metric.name}" + ("_total" if metric.counter else "")
