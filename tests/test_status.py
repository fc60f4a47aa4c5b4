"""What `infoae status` says of runs in every state, made by hand or killed, here and in a storage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import zeros

from infoae import status
from infoae.config import Config
from infoae.data.image_spec import ImageSpec
from infoae.errors import InfoAEError, UsageError
from infoae.runs import checkpoint, outcome
from infoae.runs.checkpoint import Checkpoint, State
from infoae.runs.run import METRICS, STATUS, Run
from infoae.runs.storage import Storage
from infoae.sorting.state import Asked, Progress
from tests.helpers.commands import call, invoke
from tests.helpers.paths import ROOT

STEPS_PER_EPOCH, EPOCHS = 40, 2


@pytest.fixture
def run(tmp_path: Path, tiny_config: Config) -> Run:
    """A run of two epochs of 40 steps, at step 50: the first 20 took 2 s each, the others 0.5 s."""
    made = Run.create(tmp_path / "runs", "mnist-4", "smoke", tiny_config)
    seconds, lines = 0.0, []
    for step in range(1, 51):
        seconds += 2.0 if step <= 20 else 0.5
        line = {"step": step, "epoch": step / STEPS_PER_EPOCH, "seconds": seconds, "images_per_second": 50.0 * step}
        lines.append(line | {"data_wait": 0.25, "loss/reconstruction": 1.0 / step})
        if step == STEPS_PER_EPOCH:
            lines.append({"step": 40, "epoch": 1.0, "seconds": seconds, "evaluation/balance": 0.5})
    (made.path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    save(made, STEPS_PER_EPOCH)
    return made


def save(run: Run, step: int) -> None:
    saved = Checkpoint(step, step // STEPS_PER_EPOCH, 1.0, 1.25)
    checkpoint.save(run.checkpoints, saved, State({"model": {"weight": zeros(1)}}))


def test_where_how_fast_and_when_done(run: Run) -> None:
    os.utime(run.path / METRICS, (time.time() + 60, time.time() - 30))
    for file in (run.path / STATUS, run.checkpoint("newest") / "checkpoint.json"):
        if file.exists():
            os.utime(file, (0, time.time() - 90))
    found = status.of_run(run)
    assert (found.step, found.steps, found.epoch, found.epochs) == (50, 80, 2, 2)
    assert (found.stage, found.saved_step, found.score) == ("adversarial", 40, 1.25)
    assert found.seconds_left == pytest.approx(30 * 0.5)  # at the rate of the last steps, not of the first
    assert found.images_per_second == pytest.approx(50.0 * sum(range(31, 51)) / 20)
    assert found.data_wait == pytest.approx(0.25)
    assert found.losses == {"reconstruction": 1 / 50}
    assert found.silent_seconds == pytest.approx(30, abs=5)
    assert found.state == "stopped"
    assert (
        found.describe()[1] == "epoch 2 of 2 (adversarial), step 50 of 80; checkpoint of step 40, best score 1.250 nats"
    )


def test_a_checkpoint_amid_an_epoch_may_be_ahead_of_what_was_logged(run: Run) -> None:
    save(run, 55)
    found = status.of_run(run)
    assert (found.step, found.steps, found.epoch, found.saved_step) == (55, 80, 2, 55)
    assert found.seconds_left == pytest.approx(25 * 0.5)


def test_a_run_that_has_just_begun_knows_no_rate(tmp_path: Path, tiny_config: Config) -> None:
    found = status.of_run(Run.create(tmp_path, "new", "smoke", tiny_config))
    assert (found.step, found.steps, found.epoch, found.saved_step) == (0, None, 1, None)
    assert (found.images_per_second, found.seconds_left, found.silent_seconds) == (None, None, None)
    assert len(found.describe()) == 2


def test_whether_a_process_trains_it(run: Run) -> None:
    assert status.of_run(run).state == "stopped"
    with run.locked(), outcome.recorded(run):
        found = status.of_run(run)
        assert (found.state, found.pid) == ("training", os.getpid())
        assert f"is training by process {os.getpid()} on " in found.describe()[0]
        save(run, 80)
        assert status.of_run(run).state == "evaluating"
    assert status.of_run(run).state == "finished"


def test_what_ended_it_and_what_was_lost(run: Run) -> None:
    def lose_and_fail() -> None:
        with run.locked(), outcome.recorded(run):
            outcome.restarted(run, None, 1, "worker 1 was lost")
            outcome.restarted(run, None, 2, "worker 0 was lost")
            raise InfoAEError("the disk is full")

    with pytest.raises(InfoAEError):
        lose_and_fail()
    found = status.of_run(run)
    assert (found.state, found.restarts, found.error) == ("failed", 2, "the disk is full")
    assert found.lost is not None
    assert found.lost.startswith("worker 0 was lost, 20")
    assert found.describe()[-2:] == [f"last loss: {found.lost}", "error: the disk is full"]
    with run.locked(), outcome.recorded(run):  # the next start forgets
        found = status.of_run(run)
        assert (found.state, found.restarts, found.error, found.lost) == ("training", 0, None, None)


def test_other_errors_have_their_names_and_interrupts_are_none(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), outcome.recorded(run):
        1 / 0  # noqa: B018
    assert status.of_run(run).error == "ZeroDivisionError: division by zero"
    with pytest.raises(KeyboardInterrupt), outcome.recorded(run):
        raise KeyboardInterrupt
    assert (status.of_run(run).state, status.of_run(run).error) == ("stopped", None)


def test_a_killed_command_is_told_from_a_stopped_one(run: Run) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom infoae.runs import outcome\nfrom infoae.runs.run import Run\n"
        "run = Run(Path(sys.argv[1]))\nwith run.locked(), outcome.recorded(run):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(run.path)]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert (status.of_run(run).state, status.of_run(run).pid) == ("training", process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert status.of_run(run).state == "killed"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_run_in_a_storage_is_as_of_its_last_checkpoint(scheme: str, run: Run, tmp_path: Path) -> None:
    storage = Storage(f"{scheme}{tmp_path}/store")
    with outcome.recorded(run, storage):  # there is no run to tell of yet
        storage.push(run)
        storage.push_file(run, STATUS)
        found = status.of_stored("mnist-4", storage)
        assert (found.state, found.step, found.steps, found.saved_step) == ("training", 50, 80, 40)
        assert found.where == f"{storage.uri}/mnist-4"
        outcome.restarted(run, storage, 1, "worker 1 was lost")
        assert status.of_stored("mnist-4", storage).restarts == 1
        old = time.time() - 500
        for file in (tmp_path / "store" / "mnist-4").rglob("*.json*"):
            os.utime(file, (old, old))
        assert status.of_stored("mnist-4", storage).silent_seconds == pytest.approx(500, abs=20)
    assert status.of_stored("mnist-4", storage).state == "stopped"
    with pytest.raises(InfoAEError, match=r"no run 'other' in .*store: give the name"):
        status.of_stored("other", storage)


def test_the_command_prints_lines_or_one_object_and_never_imports_torch(run: Run) -> None:
    program = (
        "import sys\nfrom infoae.cli.main import main\n"
        "try:\n    main()\nfinally:\n    assert not {'torch', 'ray', 'torchvision'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, "status", "mnist-4", "--runs", str(run.path.parent), "--json"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    expected = status.of_run(run).to_dict()
    assert printed | {"silent_seconds": 0} == expected | {"silent_seconds": 0}
    plain = call("status", cwd=run.path.parent.parent)  # the latest of runs/
    assert plain.stdout.splitlines()[1:] == status.of_run(run).describe()[1:]


def test_a_result_of_sort_is_the_run_that_it_trains(run: Run, tmp_path: Path) -> None:
    progress = Progress(photos="/photos", asked=Asked(), number=2, image=ImageSpec(channels=1, height=28, width=28))
    (tmp_path / "sorted").mkdir()
    progress.save(tmp_path / "sorted")
    error = invoke("status", str(tmp_path / "sorted")).exception
    assert isinstance(error, InfoAEError)
    assert "no run 'sort-2'" in str(error)
    (tmp_path / "sorted" / "runs").mkdir()
    run.path.rename(tmp_path / "sorted" / "runs" / "sort-2")
    done = invoke("status", str(tmp_path / "sorted"), "--json")
    assert json.loads(done.stdout)["run"] == "sort-2"


def test_names_that_are_none_are_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    runs = str(run.path.parent)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    for arguments, message in (
        (["nosuch", "--runs", runs], "no run 'nosuch'"),
        ([str(tmp_path / "sweep")], f"sweep of infoae tune: .*infoae status sweep-000 --runs {tmp_path}/sweep"),
        (["--storage", str(tmp_path)], "--storage needs the name of a run"),
        (["../x", "--storage", str(tmp_path)], "run name '../x'"),
        (["x", "--storage", "nosuch://x"], "--storage nosuch://x"),
    ):
        error = invoke("status", *arguments).exception
        assert isinstance(error, InfoAEError)
        with pytest.raises(InfoAEError, match=message):
            raise error
    assert isinstance(invoke("status", "--storage", str(tmp_path)).exception, UsageError)
    (run.path / STATUS).write_text("{")
    error = invoke("status", "mnist-4", "--runs", runs).exception
    assert isinstance(error, InfoAEError)
    assert "status.json is damaged" in str(error)
