"""Workers that stop without ending, or whose machine is announced to go: found in time, and nothing saved is lost."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infoae import limits, status
from infoae.cluster import driver
from infoae.cluster.connect import Request
from infoae.runs.run import Run
from tests.helpers import bad_workers
from tests.helpers.measured import Measured
from tests.helpers.ray_runs import RAY_ONLY, after, metric_steps, plan, train_workers

pytestmark = RAY_ONLY
PATIENCE = 20


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers may be silent for PATIENCE seconds: on a busy machine they sometimes are for some."""
    with monkeypatch.context() as patch:
        patch.setenv("INFOAE_MAX_SILENCE", str(PATIENCE))
        limit = limits._limit("MAX_SILENCE", 80, "seconds")
    monkeypatch.setattr("infoae.cluster.watching.MAX_SILENCE", limit)


@pytest.mark.slow
@pytest.mark.usefixtures("short_patience")
def test_a_worker_that_is_stopped_is_found_and_costs_a_restart(
    ray_cluster: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    record_property: Measured,
) -> None:
    stopped: list[dt.datetime] = []

    def stop() -> None:
        os.kill(next(pid for node in ray_cluster.worker_nodes for pid in train_workers(node)), signal.SIGSTOP)
        stopped.append(dt.datetime.now(dt.UTC))

    after(tmp_path / "stopped", 14, stop)  # in the third epoch of six steps
    result = driver.run(plan(tmp_path, "stopped"), "disabled", Request(2, 2, 1, ray_cluster.address), None, 3)
    assert (result.finished, result.step, result.restarts) == (True, 24, 1)
    run = Run(tmp_path / "stopped")
    assert metric_steps(run) == list(range(1, 25))
    longer = rf"for more seconds than {PATIENCE} \(INFOAE_MAX_SILENCE raises it\)"
    silent = rf"worker [01] on [\d.]+ has said nothing {longer}"
    why = rf"{silent}, last of (step|what follows step|what comes before its first step)[ ,\w]*"
    lost = re.fullmatch(rf"({why}), (20\S+)", status.of_run(run).lost or "")
    assert lost is not None
    found = (dt.datetime.fromisoformat(lost[3]) - stopped[0]).total_seconds()
    assert found < PATIENCE + 60
    assert f"{lost[1]}: it is ended" in capfd.readouterr().err
    again = json.loads((run.path / "environment.json").read_text())[1]
    assert again["step"] == 12
    record_property("patience", PATIENCE)
    record_property("found_after_seconds", found)
    trained = dt.datetime.fromisoformat(again["started"]) - stopped[0]
    record_property("trained_again_after_seconds", trained.total_seconds())


@pytest.mark.long
@pytest.mark.usefixtures("short_patience")
def test_sums_that_never_end_are_found_and_cost_a_restart(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "work", bad_workers.deadlocked_once)
    planned = plan(tmp_path, "deadlocked")
    result = driver.run(planned, "disabled", Request(2, 2, 1, ray_cluster.address), None, 3)
    assert (result.finished, result.step, result.restarts) == (True, 24, 1)
    lost = status.of_run(Run(tmp_path / "deadlocked")).lost or ""
    assert re.match(
        r"all 2 workers wait: worker [01] on [\d.]+ at .* for \d+ s; worker [01] on [\d.]+ at .* for ", lost
    )
    assert "waiting for what is never sent" in lost


@pytest.mark.long
@pytest.mark.usefixtures("short_patience")
def test_what_is_slow_is_not_stuck(ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bad_workers.SLOW_SECONDS > PATIENCE
    monkeypatch.setattr(driver, "work", bad_workers.slow)
    started = time.monotonic()
    result = driver.run(plan(tmp_path, "slow"), "disabled", Request(2, 2, 1, ray_cluster.address), None, 0)
    assert time.monotonic() - started > 3 * bad_workers.SLOW_SECONDS
    assert (result.finished, result.step, result.restarts) == (True, 24, 0)


@pytest.mark.long
def test_a_machine_that_is_announced_to_go_costs_seconds_of_an_epoch(
    ray_cluster: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    record_property: Measured,
) -> None:
    """Its epoch has no checkpoint but those that the notice leads to."""
    doomed = next(iter(ray_cluster.worker_nodes))
    path = tmp_path / "announced"

    def starts() -> list[int]:
        return [entry["step"] for entry in json.loads((path / "environment.json").read_text())]

    def announce_and_take() -> None:
        command = ["ray", "drain-node", "--address", ray_cluster.address, "--node-id", doomed.node_id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "wanted by its owner"]
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": programs}
        subprocess.run([*command, "--deadline-remaining-seconds", "40"], check=True, env=environment)
        end = time.monotonic() + 40
        while time.monotonic() < end:
            if len(starts()) == 1:
                done.append(metric_steps(Run(path))[-1])
            time.sleep(0.05)
        ray_cluster.remove_node(doomed, allow_graceful=False)

    done: list[int] = []
    after(path, 8, announce_and_take)
    planned = plan(tmp_path, "announced", "train.epochs=1", "train.min_steps_per_epoch=1500")
    result = driver.run(planned, "disabled", Request(1, 2, 1, ray_cluster.address), None, 3)
    ray_cluster.add_node(num_cpus=1)
    assert (result.finished, result.step, result.restarts) == (True, planned.total_steps, 1)
    _, again = starts()
    assert again > 8
    assert metric_steps(Run(path)) == list(range(1, planned.total_steps + 1))
    shown = capfd.readouterr().err
    assert re.search(r"[\d.]+ will be taken away: saving every few seconds until then", shown)
    record_property("steps_done", max(done[-1], again))
    record_property("steps_kept", again)
    record_property("steps_of_an_epoch", planned.total_steps)
