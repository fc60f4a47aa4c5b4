"""Training on hosts with addresses of their own, whose cables are pulled: what it costs, and that the run still ends.

Ray and infoae have the patience that they have by default.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infoae.model import InfoAE
from infoae.runs import checkpoint
from infoae.runs.run import Run
from infoae.runs.storage import Storage
from tests.helpers import hosts as networks
from tests.helpers.commands import COMMAND, SETTINGS
from tests.helpers.hosts import HERE, Hosts
from tests.helpers.measured import Measured
from tests.helpers.ray_runs import metric_steps
from tests.helpers.s3 import BUCKET, S3Server

COUNT, HEAD, OTHER = 4, 0, 2
EPOCHS, EPOCH_STEPS = 12, 6
STEPS = EPOCHS * EPOCH_STEPS
SECONDS = 400.0
"""A training may take: a lost host is missed for minutes."""
DROP_SECONDS = 20.0
SLOW = "8mbit"

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ray")]


@dataclass
class Cluster:
    """Hosts with a Ray each, and a storage that is on none of them."""

    hosts: Hosts
    server: S3Server
    storage: Storage


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if (why_not := networks.missing()) is not None:
        pytest.skip(why_not)
    with Hosts(COUNT) as hosts:
        server = S3Server(tmp_path_factory.mktemp("s3"), HERE)
        options = f"scheme=http&endpoint_override={HERE}:{server.port}&region=us-east-1"
        hosts.environment |= server.environment
        try:
            server.start()
            hosts.start_ray(*range(COUNT))
            yield Cluster(hosts, server, Storage(f"s3://key:secret@{BUCKET}/runs?{options}"))
        finally:
            server.stop()


class Training:
    """An `infoae train` on the head, from when its workers have started."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, nodes: str) -> None:
        self._cluster, self._folder, self._name = cluster, folder, name
        options = ["--nodes", nodes, "--workers-per-node", "1", "--address", cluster.hosts.cluster]
        places = ["--runs", str(folder / "runs"), "--storage", f"s3://{BUCKET}/runs", "--name", name]
        command = [*COMMAND, "train", "--config", "smoke", *options, *places, *SETTINGS, "--epochs", str(EPOCHS)]
        self.process = cluster.hosts.popen(HEAD, [*command, "--json"], folder / "train")

    @property
    def said(self) -> str:
        return (self._folder / "train.err").read_text()

    def wait_for(self, said: str) -> None:
        end = time.monotonic() + SECONDS
        while said not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.1)

    def result(self) -> dict[str, Any]:
        """Return what it came to, once it has ended and the run is seen to be whole, here and in the storage."""
        try:
            code = self.process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end: {self.said}")
        assert code == 0, self.said
        assert "Traceback" not in self.said
        result: dict[str, Any] = json.loads((self._folder / "train.out").read_text())
        stored = Run(self._folder / "stored" / self._name)
        self._cluster.storage.pull(stored)
        for run in (Run(self._folder / "runs" / self._name), stored):
            assert metric_steps(run) == list(range(1, STEPS + 1))
            assert checkpoint.read(run.checkpoint("newest")).step == STEPS
            assert InfoAE.of_run(run, "newest").num_categories == 10  # of files whose digests were compared
        assert (result["finished"], result["step"]) == (True, STEPS)
        return result

    def starts(self) -> list[tuple[int, int]]:
        """Return workers and first step of each start."""
        return [(entry["workers"], entry["step"]) for entry in self._environments()]

    def starts_after(self, moment: dt.datetime) -> list[float]:
        """Return how many seconds later workers started, each time that they did."""
        moments = [dt.datetime.fromisoformat(entry["started"]) for entry in self._environments()]
        return [(started - moment).total_seconds() for started in moments if started > moment]

    def _environments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self._folder / "runs" / self._name / "environment.json").read_text())
        return found


@contextmanager
def training(cluster: Cluster, folder: Path, name: str, nodes: str = str(COUNT)) -> Iterator[Training]:
    started = Training(cluster, folder, name, nodes)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def test_undisturbed(cluster: Cluster, tmp_path: Path, record_property: Measured) -> None:
    with training(cluster, tmp_path, "undisturbed") as found:
        result = found.result()
    record_property("seconds", result["seconds"])
    assert result["restarts"] == 0
    assert f"4 workers on 4 nodes train from step 0 of {STEPS}" in found.said


def test_a_host_with_a_slow_link_costs_time_alone(cluster: Cluster, tmp_path: Path, record_property: Measured) -> None:
    with training(cluster, tmp_path, "slow") as found:
        found.wait_for("epoch 2/")
        cluster.hosts.limit(OTHER, SLOW)
        try:
            result = found.result()
        finally:
            cluster.hosts.unlimit(OTHER)
    assert result["restarts"] == 0
    assert found.starts() == [(COUNT, 0)]
    record_property("rate", SLOW)
    record_property("seconds", result["seconds"])


def test_a_host_that_is_cut_off_leaves_the_others_to_go_on(
    cluster: Cluster, tmp_path: Path, record_property: Measured
) -> None:
    with training(cluster, tmp_path, "cut", "2-4") as found:
        found.wait_for("epoch 3/")
        moment = dt.datetime.now(dt.UTC)
        cluster.hosts.unplug(OTHER)
        try:
            result = found.result()
        finally:
            cluster.hosts.plug(OTHER)
            cluster.hosts.stop_ray(OTHER)
            cluster.hosts.start_ray(OTHER)
    assert result["restarts"] == 1
    first, *_, last = found.starts()
    assert first == (COUNT, 0)
    assert last[0] == COUNT - 1
    assert last[1] >= EPOCH_STEPS
    assert re.search(r"worker \d.*; restart 1 of at most 3", found.said)
    record_property("trained_again_after_seconds", found.starts_after(moment))
    record_property("epoch_steps", EPOCH_STEPS)
    record_property("starts", found.starts())


def test_a_head_without_a_link_for_seconds_is_waited_for(
    cluster: Cluster, tmp_path: Path, record_property: Measured
) -> None:
    with training(cluster, tmp_path, "dropped") as found:
        found.wait_for("epoch 3/")
        cluster.hosts.unplug(HEAD)
        time.sleep(DROP_SECONDS)
        cluster.hosts.plug(HEAD)
        result = found.result()
    assert found.starts()[0] == (COUNT, 0)
    record_property("dropped_seconds", DROP_SECONDS)
    record_property("restarts", result["restarts"])
    record_property("seconds", result["seconds"])
    record_property("starts", found.starts())
