"""The command of several workers up to the cluster and after it; no Ray is started here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
import torch
from ray.exceptions import ActorDiedError

from infoae import planning
from infoae.cluster import connect, driver, following, placement
from infoae.cluster.connect import Request
from infoae.cluster.placement import Layout
from infoae.errors import InfoAEError, UnavailableError, UsageError
from infoae.planning import Plan
from infoae.reporting.training import TrainingProgress
from infoae.results import TrainingResult
from infoae.runs.run import NEIGHBOURS, Run
from infoae.runs.storage import Storage
from tests.helpers.commands import SETTINGS, invoke
from tests.helpers.settings import TINY

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray's own
TWO = Request(2, 2, 1, "127.0.0.1:1")
LAYOUT = Layout(2, 2, 1, 1, use_gpu=False)


@pytest.fixture
def stored(finished_run: Run, tmp_path: Path) -> Storage:
    """A storage that holds the finished run."""
    storage = Storage(str(tmp_path / "store"))
    storage.push(finished_run)
    return storage


def checkpoints(storage: Storage, name: str) -> set[str]:
    return {path.name for path in (Path(storage.uri) / name / "checkpoints").iterdir()}


def test_a_new_run_never_takes_the_place_of_a_stored_one(stored: Storage, finished_run: Run, tmp_path: Path) -> None:
    before = checkpoints(stored, finished_run.name)
    plan = planning.planned("smoke", TINY, tmp_path / "runs", finished_run.name)
    with pytest.raises(UsageError, match=f"exists in .*--resume {finished_run.name} --storage"):
        driver.run(plan, "disabled", TWO, stored, 3)
    assert checkpoints(stored, finished_run.name) == before
    assert not (tmp_path / "runs").exists()


def test_a_run_that_goes_on_is_first_brought_up_to_the_storage(
    stored: Storage, finished_run: Run, tmp_path: Path
) -> None:
    """Its folder may be of before the command was killed: pushed as it is, it would remove what the storage has."""
    stale = Run(shutil.copytree(finished_run.path, tmp_path / "runs" / finished_run.name))
    shutil.rmtree(stale.checkpoints)
    plan = planning.resumed(stale.name, tmp_path / "runs", None)
    with pytest.raises(InfoAEError, match="no Ray cluster"):
        driver.run(plan, "disabled", TWO, stored, 3)
    assert {path.name for path in stale.checkpoints.iterdir()} == checkpoints(stored, stale.name)


@pytest.mark.parametrize("name", ["typo", "latest"])
def test_resuming_what_is_not_stored_leaves_no_folder(
    name: str, stored: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = invoke("train", "--resume", name, "--nodes", "2", "--storage", stored.uri).exception
    assert isinstance(error, InfoAEError)
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_of_the_workers_need_not_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    options = ("train", "--config", "smoke", *SETTINGS, "--device", "cuda", "--dry-run")
    assert isinstance(invoke(*options).exception, UsageError)
    elsewhere = invoke(*options, "--nodes", "2")
    assert elsewhere.exit_code == 0, elsewhere.output
    with pytest.raises(UsageError, match="device cuda"):
        planning.planned("smoke", ["train.device=cuda"], tmp_path, None)
    assert planning.planned("smoke", ["train.device=cuda"], tmp_path, None, "auto").config.train.device == "cuda"


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(placement, "layout", lambda *_: LAYOUT)
    monkeypatch.setattr(placement, "check_nodes", lambda _: None)


@pytest.mark.usefixtures("no_cluster")
def test_neighbours_are_found_before_any_worker_and_what_is_stored_is_fetched_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_run: Run
) -> None:
    storage = Storage(str(tmp_path / "store"))
    found = []

    def fail(plan: Plan, trained: Run, layout: Layout, storage: Storage, *_: Any) -> None:  # noqa: ARG001
        found.append((trained.path / NEIGHBOURS).exists())
        storage.push(Run(shutil.copytree(finished_run.path, tmp_path / "there" / trained.name)))
        raise UnavailableError("all nodes were lost")

    monkeypatch.setattr(driver, "train", fail)
    settings = [*TINY, "objective.pairs=neighbours", "objective.weights.mutual_information=1", "data.limit=60"]
    plan = planning.planned("smoke", settings, tmp_path / "runs", "unlucky")
    with pytest.raises(UnavailableError, match="all nodes were lost"):
        driver.run(plan, "disabled", TWO, storage, 3)
    assert found == [True]
    assert Run(tmp_path / "runs" / "unlucky").checkpoint("newest").name == finished_run.checkpoint("newest").name


@pytest.mark.usefixtures("no_cluster")
def test_how_to_go_on_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = TrainingResult("far", "", finished=False, step=5, total_steps=9, seconds=1.0)
    monkeypatch.setattr(driver, "train", lambda *_: stopped)
    plan = planning.planned("smoke", TINY, tmp_path / "my runs", "far")
    result = driver.run(plan, "disabled", Request(2, 4, 1, "10.0.0.1:6379"), Storage(f"{tmp_path}/store"), 3)
    assert "".join(result.describe()) == (
        "stopped and saved after step 5; go on with: infoae train --resume far --nodes 2-4 --workers-per-node 1 "
        f"--address 10.0.0.1:6379 --storage {tmp_path}/store --runs '{tmp_path}/my runs'"
    )


def unlucky() -> following.Following:
    return following.Following("infoae train --resume r --nodes 2", 3, TrainingProgress(), [], restarts=3)


@pytest.mark.parametrize(
    ("failures", "outside", "message"),
    [
        ({0: RuntimeError("Connection reset"), 1: ActorDiedError()}, True, "worker 1 was lost"),
        ({0: RuntimeError("reset"), 1: UnavailableError("cannot write s3://b: timeout")}, True, "cannot write s3://b"),
        ({0: RuntimeError("out of memory\nand more"), 1: RuntimeError("reset")}, False, "RuntimeError: out of memory;"),
    ],
)
def test_when_it_gives_up_it_says_why_and_whether_it_may_succeed_later(
    failures: dict[int, Exception], outside: bool, message: str
) -> None:
    error = following.failure(ray.train.WorkerGroupError("", failures), unlucky(), Path("ray.log"))
    assert isinstance(error, UnavailableError) == outside
    assert f"gave up after 3 restarts: worker {min(i for i in failures if not outside or i)}" in str(error)
    assert message in str(error)
    assert str(error).endswith("see ray.log, go on with: infoae train --resume r --nodes 2")


def test_a_machine_taken_away_is_one_line() -> None:
    error = following.failure(ray.train.TrainingFailedError("interrupted by node preemption\n"), unlucky(), Path("l"))
    assert isinstance(error, UnavailableError)
    assert str(error).startswith("gave up after 3 restarts: interrupted by node preemption; see l, go on with: ")


def test_storage_out_of_reach_is_tried_again_and_bad_data_is_not() -> None:
    told: list[tuple[str, str]] = []
    channel = SimpleNamespace(put=SimpleNamespace(remote=lambda *event: told.append(event)))
    callback = driver._OnLoss(channel)
    callback.after_exception(None, {0: UnavailableError("cannot write s3://b: timeout")})
    assert told == [("lost", "worker 0: cannot write s3://b: timeout")]
    with pytest.raises(InfoAEError, match="not finite"):
        callback.after_exception(None, {0: InfoAEError("not finite")})


def test_every_kind_of_restart_is_bounded(finished_run: Run) -> None:
    fit: Any = driver.fitting(finished_run, finished_run.config(), LAYOUT, None, 2, None)
    limits = fit.__self__.run_config.failure_config
    assert (limits.max_failures, limits.max_preemption_failures) == (2, 2)
    # Missing nodes are check_waiting's to judge, however often: each start without them counts as one.
    assert limits.controller_failure_limit == 3 * following.WAIT_SECONDS / 60


GPUS = {"CPU": 8.0, "GPU": 2.0}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, float]], list[dict[str, float]]], None]:
    """Return a function that makes a cluster of nodes, and what of each is free."""

    def make(resources: list[dict[str, float]], free: list[dict[str, float]]) -> None:
        monkeypatch.setattr(placement, "FREE_WAIT", 0.0)
        found = [{"NodeID": str(number), "Resources": each} for number, each in enumerate(resources)]
        monkeypatch.setattr(placement, "_nodes", lambda: found)
        monkeypatch.setattr(placement, "_available", lambda: {str(number): each for number, each in enumerate(free)})

    return make


def test_gpu_workers_leave_cpus_that_others_hold(nodes: Callable[..., None]) -> None:
    nodes([GPUS, GPUS], [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 7.0, "GPU": 2.0}])
    assert placement.layout(Request(2, 2), "cuda") == Layout(4, 4, 2, 3, use_gpu=True)


def test_a_worker_has_room_on_one_node_or_none(nodes: Callable[..., None]) -> None:
    """Halves of four nodes are as many CPUs as two workers need, and room for neither."""
    nodes([{"CPU": 4.0}] * 2, [{"CPU": 4.0}, {"CPU": 4.0}])
    assert placement.layout(Request(2, 2), "auto").cpus_per_worker == 4
    nodes([{"CPU": 4.0}] * 4, [{"CPU": 2.0}] * 4)
    with pytest.raises(InfoAEError, match="the cluster is busy: 2 workers of 4 CPU needed, room for 0"):
        placement.layout(Request(2, 2), "auto")
