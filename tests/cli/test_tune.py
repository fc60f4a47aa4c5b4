"""infoae tune as a user types it, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import RunRecord  # type: ignore[attr-defined]  # made when it is imported

from infoae.config import recipes
from infoae.errors import InfoAEError
from infoae.runs.run import Run
from tests.helpers.commands import COMMAND, SETTINGS, invoke, run
from tests.helpers.paths import ROOT
from tests.helpers.waiting import wait_until

HERE = {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""}
pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),  # Ray's own
]
SPACE = "alpha: {keys: [objective.weights.reconstruction], low: 0.1, high: 1, points: 2}\n"


@pytest.mark.slow
def test_a_sweep_ends_with_a_table_a_figure_and_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    options = ["--config", "smoke", *SETTINGS, "--set", "train.epochs=1", "--space", "space.yaml", "--search", "grid"]
    swept = run("tune", *options, "--name", "sweep", "--wandb", "offline", cwd=tmp_path, COLUMNS="100", **HERE)
    assert swept.returncode == 0, swept.stderr
    folder = tmp_path / "runs" / "sweep"
    lines = swept.stdout.splitlines()
    assert "score: mutual information" in lines[0]
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == 2
    assert {row.split("│")[2].strip() for row in rows} == {"000", "001"}
    assert f"infoae train --config {folder / 'best.yaml'}" in swept.stdout

    # Progress in plain lines, Ray's own words in the log alone.
    assert "sweep " in swept.stderr
    assert "sweep-001 finished after epoch 1, score" in swept.stderr
    assert "2/2 trials, best" in swept.stderr
    assert "\x1b" not in swept.stderr + swept.stdout
    assert not [line for line in swept.stderr.splitlines() if "ray" in line.lower() or "Warning" in line], swept.stderr
    assert "Configuration for experiment" in (folder / "ray.log").read_text()
    assert (folder / "scores.png").stat().st_size > 5000

    # W&B: a run a trial, all of the sweep's group.
    for name in ("sweep-000", "sweep-001"):
        (logged,) = (folder / name / "wandb").rglob("*.wandb")
        for field in (RunRecord(run_id=name), RunRecord(run_group="sweep")):
            assert field.SerializeToString() in logged.read_bytes()

    # A finished sweep resumed trains nothing and shows the same.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.jsonl")}
    again = run("tune", "--resume", "sweep", "--json", cwd=tmp_path, **HERE)
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert result["finished"]
    assert {trial["status"] for trial in result["trials"]} == {"finished"}
    assert result["trials"][0]["run"] == result["best"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert recipes.load(result["best_config"]).train.epochs == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--space", "none"], 2, "no search space or readable file 'none'"),
        (["--space", "bad.yaml"], 2, "bad.yaml: gamma: unknown key gamma"),
        (["--config", "aae", "--space", "lambdas"], 2, "method aae does not have objective.weights.classification_gen"),
        (["--config", "catgan", "--metric", "recovered"], 2, "no category can be asked for; take mutual_information"),
        (["--search", "grid", "--trials", "4"], 2, "this grid has 27 trials"),
        (["--config", "none"], 2, "there are aae, "),
        (["--name", "a/b"], 2, "run name 'a/b'"),
        (["--set", "model.num_categories=auto"], 2, "auto cannot be swept: the score's maximum is the logarithm"),
        (["--resume", "none"], 1, "no sweep 'none'"),
        (["--resume", "none", "--search", "grid"], 2, "--search cannot change when a sweep is resumed"),
        (["--resume", "none", "--set", "seed=1"], 2, "--set cannot change when a sweep is resumed"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    options: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("gamma: {low: 1, high: 2}")
    error = invoke("tune", *options).exception
    assert isinstance(error, InfoAEError)
    assert error.exit_code == code
    assert message in str(error)
    assert "\n" not in str(error)
    assert not list(tmp_path.glob("runs/*"))


def test_optuna_missing_is_one_line_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    result = run("tune", "--config", "smoke", "--search", "optuna", cwd=tmp_path, **HERE | {"PYTHONPATH": path})
    assert result.returncode == 2
    assert result.stderr == "error: --search optuna needs Optuna: pip install 'infoae[optuna]'\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_command_is_resumed(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    options = ["--config", "smoke", *SETTINGS, "--set", "train.epochs=6", "--space", "space.yaml", "--trials", "4"]
    process = subprocess.Popen(
        [*COMMAND, "tune", *options, "--scheduler", "none", "--search", "optuna", "--name", "s"],
        cwd=tmp_path, env=os.environ | HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    record = tmp_path / "runs" / "s" / "sweep.json"

    def trials() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(record.read_text())["trials"] if record.exists() else []
        return found

    wait_until(lambda: {trial["status"] for trial in trials()} >= {"finished", "unfinished"}, process=process)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "go on with: infoae tune --resume s" in stdout
        assert "Traceback" not in stderr
    finished = [trial for trial in trials() if trial["status"] == "finished"]
    folder = tmp_path / "runs" / "s"
    before = {trial["run"]: (folder / str(trial["run"]) / "metrics.jsonl").stat().st_mtime_ns for trial in finished}
    assert 1 <= len(before) < 4

    resumed = subprocess.run(
        [*COMMAND, "tune", "--resume", "s", "--json"],
        cwd=tmp_path, env=os.environ | HERE, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout)
    assert [(trial["status"], trial["epochs"]) for trial in result["trials"]] == [("finished", 6)] * 4
    assert {name: (folder / str(name) / "metrics.jsonl").stat().st_mtime_ns for name in before} == before
    for trial in result["trials"]:
        steps = [line["step"] for line in Run(folder / trial["run"]).metrics() if "loss/reconstruction" in line]
        assert steps == list(range(1, 37))
