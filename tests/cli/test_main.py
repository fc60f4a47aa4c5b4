"""The commands as a user types them, each in a process of its own where that is what matters."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infoae.errors import InfoAEError
from infoae.runs.run import Run
from tests.helpers.commands import COMMAND, SETTINGS, call, invoke, run
from tests.helpers.waiting import wait_until


def test_train_evaluate_and_figures_in_a_fresh_folder(tmp_path: Path) -> None:
    trained = run("train", "--config", "smoke", *SETTINGS, "--seed", "3", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "test accuracy" in trained.stdout
    assert "k-means without training: " in trained.stdout
    assert "epoch 2/2 done: mutual information" in trained.stderr  # plain lines in a pipe
    assert trained.stderr.index(" parameters; about 0.0") < trained.stderr.index("epoch 1/2")
    assert "\x1b" not in trained.stderr + trained.stdout
    latest = tmp_path / "runs" / "latest"
    assert {path.name for path in latest.iterdir()} == {
        ".lock", "config.yaml", "environment.json", "images.json", "metrics.jsonl", "checkpoints", "evaluation.json",
        "status.json",
    }  # fmt: skip

    evaluated = call("evaluate", "--json", cwd=tmp_path)
    result = json.loads(evaluated.stdout)
    assert evaluated.stdout.count("\n") == 1
    assert 0 <= result["accuracy"] <= 1
    assert {"nmi", "ari", "categories_used", "label_free", "trivial", "run", "checkpoint"} <= set(result)
    assert json.loads((latest / "evaluation.json").read_text()) == result

    table = call("evaluate", cwd=tmp_path, COLUMNS="200")
    assert {"accuracy", "many-to-one", "nmi", "ari"} <= set(table.stdout.split())
    assert "purity" in table.stdout
    assert "trivial: agreement with k-means on pixels" in table.stdout

    drawn = call("figures", "--json", cwd=tmp_path)
    assert len(json.loads(drawn.stdout)["figures"]) >= 6


def test_ctrl_c_saves_says_how_to_go_on_and_going_on_ends_bit_equal(tmp_path: Path) -> None:
    long = [*SETTINGS, "--epochs", "5", "--set", "train.batch_size=15"]
    process = subprocess.Popen(
        [*COMMAND, "train", "--config", "smoke", *long, "--name", "stopped"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = tmp_path / "runs" / "stopped" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") >= 15, process=process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "infoae train --resume stopped" in stdout
    assert "Traceback" not in stderr

    resumed = call("train", "--resume", "stopped", "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout)
    assert (result["finished"], result["step"]) == (True, 100)
    assert "resuming" in resumed.stderr

    unbroken = call("train", "--config", "smoke", *long, "--name", "unbroken", cwd=tmp_path)
    assert unbroken.returncode == 0
    newest = [Run.open(name, tmp_path / "runs").checkpoint("newest") for name in ("stopped", "unbroken")]
    for file in ("model.safetensors", "average.safetensors", "optimizer.safetensors"):
        assert (newest[0] / file).read_bytes() == (newest[1] / file).read_bytes()

    again = call("train", "--resume", "stopped", cwd=tmp_path)
    assert again.returncode == 1
    assert "is finished" in again.stderr
    changed = call("train", "--resume", "stopped", "--seed", "4", cwd=tmp_path)
    assert changed.returncode == 2
    assert "--seed cannot change" in changed.stderr


def test_a_resumed_run_can_be_given_more_epochs(tmp_path: Path) -> None:
    base = ["train", "--config", "smoke", *SETTINGS, "--name", "short", "--epochs", "1"]
    assert call(*base, cwd=tmp_path).returncode == 0
    more = call("train", "--resume", "short", "--epochs", "2", "--json", cwd=tmp_path)
    assert json.loads(more.stdout)["step"] == 12
    fewer = call("train", "--resume", "short", "--epochs", "1", cwd=tmp_path)
    assert fewer.returncode == 2
    assert Run.open("short", tmp_path / "runs").config().train.epochs == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--set", "optim.lr=1"], 2, "unknown key optim.lr (given 1); did you mean optim.learning_rate?"),
        (["train", "--config", "none.yaml"], 2, "no recipe or readable file 'none.yaml'"),
        (["train", "--data", "svhn"], 2, "--data-root"),
        (["train", "--data", "svhn", "--data-root", "none"], 1, "--download"),
        (["train", "--resume", "none"], 1, "no run 'none'"),
        (["train", "--name", "a/b", "--config", "smoke"], 2, "run name 'a/b'"),
        (["evaluate"], 1, "no run in runs: start one with infoae train"),
        (["figures", "none"], 1, "no run 'none'"),
        (["config", "show", "none"], 2, "there are aae, "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    result = call(*arguments, cwd=tmp_path)
    assert result.returncode == code
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="a machine with a GPU has nothing to refuse")
def test_cuda_asked_for_and_absent_is_refused(tmp_path: Path) -> None:
    result = call("train", "--config", "smoke", "--device", "cuda", cwd=tmp_path)
    assert result.returncode == 2
    assert "no GPU" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    assert call("train", "--config", "smoke", *SETTINGS, "--name", "r", cwd=tmp_path).returncode == 0
    for file in (tmp_path / "runs" / "r" / "checkpoints").rglob("average.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    for verb in ("evaluate", "figures"):
        result = call(verb, cwd=tmp_path)
        assert result.returncode == 1
        assert "average.safetensors is damaged" in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_resume_that_fails_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    assert call("train", "--config", "smoke", *SETTINGS, "--name", "r", cwd=tmp_path).returncode == 0
    folder = tmp_path / "runs" / "r"
    for file in (folder / "checkpoints").rglob("optimizer.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 99}\n')  # what a resumed run drops
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    del before[folder / "status.json"]  # which is there to say that it failed
    result = call("train", "--resume", "r", "--epochs", "9", "--wandb", "offline", cwd=tmp_path)
    assert result.returncode == 1
    assert "optimizer.safetensors is damaged" in result.stderr
    assert result.stderr.count("\n") == 1
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status = json.loads(after.pop(folder / "status.json"))
    assert (status["state"], "optimizer.safetensors is damaged" in status["error"]) == ("failed", True)
    assert after == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call("train", "--config", "smoke", *SETTINGS, "--runs", "file/runs", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: cannot write file/runs: ")
    assert "Traceback" not in result.stderr


def test_a_loss_that_is_not_finite_ends_with_its_own_message(tmp_path: Path) -> None:
    fast = ("optim.learning_rate=10", "optim.critic_learning_rate=10", "model.critic_norm=none", "train.precision=fp16")
    settings = [part for setting in fast for part in ("--set", setting)]
    result = call("train", "--config", "smoke", *SETTINGS, *settings, cwd=tmp_path)
    assert result.returncode == 1
    assert "nothing was updated" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_dry_run_plans_and_writes_nothing(tmp_path: Path) -> None:
    result = call("train", "--dry-run", "--json", cwd=tmp_path)
    plan = json.loads(result.stdout)
    assert (plan["data"], plan["images"], plan["image_shape"]) == ("mnist", 60000, [1, 28, 28])
    assert plan["parameters"] > 900_000
    assert 0.05 < plan["memory_gb"] < 0.5
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_every_learning_rate() -> None:
    own = ("--set", "optim.self_critic_learning_rate=4e-5")
    told = json.loads(invoke("train", "--config", "mnist-paper", *own, "--dry-run", "--json").stdout)
    rates = [*told["learning_rates"], told["generator_learning_rate"], told["self_critic_learning_rate"]]
    assert rates == [5e-4, 2e-4, 1e-3, 4e-5]
    assert "generator_learning_rate" not in json.loads(invoke("train", "--dry-run", "--json").stdout)


def test_wandb_offline_works_without_an_account_and_disabled_leaves_no_trace(tmp_path: Path) -> None:
    environment = {"WANDB_API_KEY": "", "HOME": str(tmp_path)}
    base = ["train", "--config", "smoke", *SETTINGS, "--name"]
    offline = run(*base, "with", "--wandb", "offline", cwd=tmp_path, **environment)
    assert offline.returncode == 0, offline.stderr
    logged = list((tmp_path / "runs" / "with" / "wandb").rglob("*.wandb"))
    assert len(logged) == 1
    assert logged[0].stat().st_size > 1000
    assert list((tmp_path / "runs" / "with" / "wandb").rglob("*.png"))  # the samples
    plain = call(*base, "without", cwd=tmp_path, **environment)
    assert plain.returncode == 0
    assert not (tmp_path / "runs" / "without" / "wandb").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["tune", "--help"], ["--version"], ["config", "list"], ["config", "show"]],
)
def test_light_verbs_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom infoae.cli.main import main\ntry:\n    main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'torchvision', 'sklearn', 'scipy', 'matplotlib', 'wandb', 'onnxruntime', 'numpy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.rstrip().endswith("HEAVY []"), result.stdout + result.stderr


def test_help_names_every_verb_and_the_version_is_the_packages() -> None:
    from infoae import __version__

    text = invoke("--help").stdout
    for verb in ("train", "tune", "evaluate", "figures", "config", "doctor"):
        assert verb in text
    assert invoke("--version").stdout == f"infoae {__version__}\n"


def test_config_verbs() -> None:
    assert {"mnist", "mnist-paper", "smoke"} <= set(json.loads(invoke("config", "list", "--json").stdout))
    shown = json.loads(invoke("config", "show", "smoke", "--set", "seed=7", "--json").stdout)
    assert shown["seed"] == 7
    assert "learning_rate: " in invoke("config", "show").stdout
    assert invoke("config", "validate", "mnist").stdout == "mnist is valid\n"
    assert json.loads(invoke("config", "schema").stdout)["properties"]["optim"]
    refused = invoke("config", "validate", "mnist", "--set", "x=1")
    assert isinstance(refused.exception, InfoAEError)


def test_doctor_names_what_is_here_and_exits_0_when_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (1 if found["problems"] else 0)
    assert found["versions"]["torch"]
    assert found["data"] == {"mnist": "verified"}
    assert "CPUExecutionProvider" in found["onnxruntime"]["usable_providers"]

    from infoae.runs import environment

    both = environment.versions() | {"onnxruntime": "1.0", "onnxruntime-gpu": "1.0", "ray": None}
    monkeypatch.setattr(environment, "versions", lambda: both)
    sick = invoke("doctor")
    assert sick.exit_code == 1
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in sick.stdout
    assert "pip install 'ray[default,train,tune]'" in sick.stdout
