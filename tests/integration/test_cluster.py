"""Training on a simulated Ray cluster of real processes: workers and nodes are killed, and training still ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infoae import planning, status
from infoae.cluster import connect, driver
from infoae.cluster.connect import Request
from infoae.errors import InfoAEError, UsageError
from infoae.model import InfoAE
from infoae.results import Team
from infoae.runs import checkpoint
from infoae.runs.run import Run
from infoae.runs.storage import Storage
from infoae.trainer import Trainer
from tests.helpers.measured import Measured
from tests.helpers.paths import ROOT
from tests.helpers.ray_runs import RAY_ONLY, after, metric_steps, plan, train_workers
from tests.helpers.settings import TINY

pytestmark = RAY_ONLY


@pytest.mark.slow
def test_a_killed_worker_costs_a_restart_and_no_metric(
    ray_cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill() -> None:
        killed.extend(pid for node in ray_cluster.worker_nodes for pid in train_workers(node))
        os.kill(killed[0], signal.SIGKILL)

    thread = after(tmp_path / "killed", 8, kill)  # in the second epoch of six steps
    result = driver.run(plan(tmp_path, "killed"), "disabled", Request(2, 2, 1, ray_cluster.address), None, 3)
    assert not thread.is_alive()
    assert len(killed) == 2
    assert (result.finished, result.step, result.restarts) == (True, 24, 1)
    assert result.team == Team(2, 2)
    run = Run(tmp_path / "killed")
    assert metric_steps(run) == list(range(1, 25))
    assert InfoAE.of_run(run, "newest").num_categories == 10
    assert result.to_dict()["accuracy"] > 0
    assert "workers were lost and training restarted 1 time" in "\n".join(result.describe())
    found = status.of_run(run)
    assert (found.state, found.restarts, found.starts, found.workers) == ("finished", 1, 2, 2)
    assert re.match(r"worker [\d, ]+ was lost, 20\d\d-", found.lost or "")
    starts = json.loads((run.path / "environment.json").read_text())
    assert [entry["workers"] for entry in starts] == [2, 2]
    assert starts[1]["step"] in (6, 12)  # it went on from a checkpoint
    shown = capfd.readouterr().err
    assert "was lost; restart 1 of at most 3" in shown
    assert "2 workers on 2 nodes train from step 0 of 24" in shown
    assert re.search(r"step 24/24 [\d,]+ images/s \([\d,]+ a worker; 2 workers on 2 nodes, 1 restart\)", shown)
    assert "TrainController" not in shown
    assert "TrainController" in (tmp_path / "ray.log").read_text()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_it_with_its_message(ray_cluster: Any, tmp_path: Path) -> None:
    broken = plan(tmp_path, "broken", "optim.learning_rate=1e30")
    with pytest.raises(InfoAEError, match=r"step 2: .* = nan.*lower optim\.learning_rate"):
        driver.run(broken, "disabled", Request(2, 2, 1, ray_cluster.address), None, 3)
    assert len(json.loads((tmp_path / "broken" / "environment.json").read_text())) == 1  # not tried again
    found = status.of_run(Run(tmp_path / "broken"))
    assert found.state == "failed"
    assert re.search(r"step 2: .* = nan", found.error or "")


def test_a_cluster_too_small_is_refused_at_once(ray_cluster: Any, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(InfoAEError, match=r"4 nodes of at least 1 CPU needed, 2 found among 3 .*ray start --head"):
        driver.run(plan(tmp_path, "small"), "disabled", Request(4, 4, 1, ray_cluster.address), None, 3)
    with pytest.raises(InfoAEError, match="1 node of at least 3 CPU needed, 0 found"):
        driver.run(plan(tmp_path, "small"), "disabled", Request(1, 1, 3, ray_cluster.address), None, 3)
    assert time.monotonic() - started < 20
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("listening", "reason"), [(False, "Connection refused"), (True, "what answers there is not Ray")]
)
def test_no_cluster_is_said_at_once(listening: bool, reason: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InfoAEError) as caught:
            driver.run(plan(tmp_path, "none"), "disabled", Request(2, 2, 1, address), None, 3)
    message = str(caught.value)
    for part in (f"no Ray cluster at {address}", reason, "2 nodes needed", "ray start --head", "KubeRay"):
        assert part in message
    assert "\n" not in message
    assert time.monotonic() - started < 20
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("address", "reason"), [("somewhere", "HOST:PORT"), ("ray://h:1", "Ray Client cannot train")])
def test_an_address_that_is_none_is_refused(address: str, reason: str, tmp_path: Path) -> None:
    with (
        pytest.raises(InfoAEError, match=reason),
        connect.connected(Request(2, 2, 1, address), tmp_path / "ray.log"),
    ):
        pass


@pytest.mark.parametrize("nodes", ["0", "4-2", "two", "1-", "-1", ""])
def test_nodes_that_make_no_sense_are_refused(nodes: str) -> None:
    with pytest.raises(UsageError, match="--nodes"):
        connect.parse_nodes(nodes)


def test_one_worker_needs_no_ray() -> None:
    assert connect.parse_nodes("2-4") == (2, 4)
    assert not Request(*connect.parse_nodes("1")).needs_ray
    assert Request(1, 1, 2).needs_ray
    program = "import sys, infoae.cluster.connect, infoae.launch; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)


@pytest.mark.long
def test_a_lost_node_leaves_the_others_to_go_on_from_the_storage(ray_cluster: Any, tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "store"))
    doomed = next(iter(ray_cluster.worker_nodes))
    after(tmp_path / "store" / "moved", 6, lambda: ray_cluster.remove_node(doomed, allow_graceful=False))
    request = Request(1, 2, 1, ray_cluster.address)
    result = driver.run(plan(tmp_path / "runs", "moved"), "disabled", request, store, 3)
    ray_cluster.add_node(num_cpus=1)
    assert (result.finished, result.step, result.restarts) == (True, 24, 1)
    assert result.team == Team(1, 1)
    assert metric_steps(Run(tmp_path / "runs" / "moved")) == list(range(1, 25))


@pytest.mark.slow
def test_ctrl_c_of_everything_at_the_terminal_saves_and_says_how_to_go_on(ray_cluster: Any, tmp_path: Path) -> None:
    """The terminal interrupts the whole group of processes; the run is resumed by one worker, without Ray."""
    program = "from infoae.cli.main import main; main()"
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-c", program, "train", "--runs", str(tmp_path)]
    options = ["--nodes", "2", "--workers-per-node", "1", "--address", ray_cluster.address, "--epochs", "200"]
    process = subprocess.Popen(
        [*command, *options, "--config", "smoke", "--name", "stopped", *settings],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    after(tmp_path / "stopped", 8, lambda: os.killpg(process.pid, signal.SIGINT)).join(timeout=120)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "go on with: infoae train --resume stopped" in stdout
    assert "Traceback" not in stderr
    run = Run(tmp_path / "stopped")
    done = checkpoint.read(run.checkpoint("newest")).step
    assert metric_steps(run) == list(range(1, done + 1))
    resumed = planning.resumed("stopped", tmp_path, None)
    trainer = Trainer(run, resumed.config, resumed.train, resumed.device, resumed.precision)
    trainer.resume()
    assert trainer.done == done


@pytest.mark.slow
def test_a_cluster_started_here_reports_nothing_to_rays_makers(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom infoae.cluster import connect\n"
        "with connect.connected(connect.Request(1, 1, 2), Path(sys.argv[1]) / 'ray.log'):\n"
        "    import ray\n    from ray._common.usage import usage_lib\n"
        "    session = Path(ray._private.worker._global_node.get_session_dir_path())\n"
        "    found = usage_lib.usage_stats_enabled(), (session / 'usage_stats.json').exists()\n"
        "print(found)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    del environment["RAY_USAGE_STATS_ENABLED"]
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout == "(False, False)\n", result.stderr


@pytest.mark.long
def test_more_nodes_on_the_way_are_taken_in_and_no_step_is_done_twice(
    ray_cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Measured,
) -> None:
    """--nodes 1-3 begins with what there is, and has all three once Ray Train has looked again."""
    monkeypatch.setattr("ray._private.utils.set_sigterm_handler", lambda _: None)  # a thread may not; nor is it wanted
    path = tmp_path / "grown"

    done: dict[int, int] = {}
    """By the number of a start, the last step seen before it."""

    def starts() -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads((path / "environment.json").read_text())
        return entries

    def grow_and_stop() -> None:
        ray_cluster.add_node(num_cpus=1)
        known = len(starts())
        while starts()[-1]["workers"] < 3:
            if len(starts()) == known:
                done[known] = metric_steps(Run(path))[-1]
            known = len(starts())
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    after(path, 8, grow_and_stop)
    request = Request(1, 3, 1, ray_cluster.address)
    endless = plan(tmp_path, "grown", "data.name=mnist", "data.limit=3000", "train.epochs=5000", "train.save_every=30")
    result = driver.run(endless, "disabled", request, None, 3)
    assert (result.finished, result.restarts) == (False, 0)
    teams = [(start["workers"], start["nodes"]) for start in starts()]
    assert teams[0][0] < 3
    assert teams[-1] == (3, 3)
    kept = {number: start["step"] for number, start in enumerate(starts()) if number}
    assert all(kept[number] >= step for number, step in done.items()), (kept, done)
    record_property("resized", [start["workers"] for start in starts()])
    record_property("steps_done", list(done.values()))
    record_property("steps_kept", list(kept.values()))
    assert metric_steps(Run(path)) == list(range(1, result.step + 1))


@pytest.mark.long
def test_a_killed_command_is_resumed(ray_cluster: Any, tmp_path: Path) -> None:
    program = "from infoae.cli.main import main; main()"
    options = ["--nodes", "2", "--workers-per-node", "1", "--address", ray_cluster.address, "--runs", str(tmp_path)]
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-c", program, "train", *options, "--json"]
    first = [*command, "--config", "smoke", "--name", "resumed", *settings, "--epochs", "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(first, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    after(tmp_path / "resumed", 8, process.kill).join(timeout=120)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL, stderr.decode()

    again = subprocess.run([*command, "--resume", "resumed"], env=environment, capture_output=True, timeout=200)
    assert again.returncode == 0, again.stderr.decode()
    result = json.loads(again.stdout)
    assert (result["finished"], result["step"], result["restarts"]) == (True, 24, 0)
    assert metric_steps(Run(tmp_path / "resumed")) == list(range(1, 25))
