"""`infoae train --restarts` and `--categories`: runs of several seeds, stopped and repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from infoae import memory
from infoae.config import recipes
from infoae.methods.registry import method_of
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.commands import SETTINGS, call, invoke
from tests.helpers.settings import TINY


def test_restarts_keep_the_run_of_the_best_score(tmp_path: Path) -> None:
    arguments = ["train", "--config", "smoke", *SETTINGS, "--restarts", "2", "--seed", "5", "--name", "tried"]
    done = invoke(*arguments, "--runs", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert set(result["tried"]) == {"tried-5", "tried-6"}
    best = max(result["tried"], key=result["tried"].__getitem__)
    assert (result["run"], result["score"]) == (best, result["tried"][best])
    assert (tmp_path / "latest").resolve() == tmp_path / best
    assert [Run.open(run, tmp_path).config().seed for run in ("tried-5", "tried-6")] == [5, 6]
    steps = [(tmp_path / name / "metrics.jsonl").read_text() for name in result["tried"]]
    again = invoke(*arguments, "--runs", str(tmp_path), "--json")
    assert json.loads(again.stdout)["tried"] == result["tried"]
    assert [(tmp_path / name / "metrics.jsonl").read_text() for name in result["tried"]] == steps
    other = invoke(*arguments, "--set", "optim.beta1=0.8", "--runs", str(tmp_path))
    assert "tried-5 is of another configuration: give another --name or --seed" in str(other.exception)
    for folder in ("tried-5", "tried-6"):  # as runs were when exact was the default
        written = tmp_path / folder / "config.yaml"
        written.write_text(written.read_text().replace("search: auto", "search: exact"))
        assert Run(tmp_path / folder).config().neighbours.search == "exact"
    again = invoke(*arguments, "--runs", str(tmp_path), "--json")
    assert json.loads(again.stdout)["tried"] == result["tried"]
    again = invoke("train", "--resume", "tried-5", "--restarts", "2", "--runs", str(tmp_path))
    assert "--restarts cannot change when a run is resumed" in str(again.exception)


def test_stopped_restarts_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second of three, repeated with the name that is said."""
    arguments = ["train", "--config", "smoke", *SETTINGS, "--restarts", "3", "--runs", str(tmp_path)]
    fit, trained = Trainer.fit, list[str]()

    def once(self: Trainer, *given: Any) -> bool:
        trained.append(self.run.name)
        return fit(self, given[0], lambda: len(trained) == 2)

    monkeypatch.setattr(Trainer, "fit", once)
    stopped = invoke(*arguments)
    assert stopped.exit_code == 130
    name = stopped.stderr.split("repeat the command with --name ")[1].split()[0]
    done = invoke(*arguments, "--name", name, "--json")
    assert done.exit_code == 0, done.output
    names = [f"{name}-{seed}" for seed in range(3)]
    assert list(json.loads(done.stdout)["tried"]) == names
    assert trained == [names[0], names[1], names[1], names[2]]
    assert all(Run.open(each, tmp_path).is_finished(Run.open(each, tmp_path).config()) for each in names)


def test_restarts_of_unknown_numbers_of_categories_are_refused(tmp_path: Path) -> None:
    arguments = ["--config", "mnist", "--categories", "auto", "--restarts", "2", "--runs", str(tmp_path)]
    assert "scores of different numbers of categories" in str(invoke("train", *arguments).exception)
    assert not list(tmp_path.iterdir())


def test_more_categories_come_with_more_over_categories(tmp_path: Path) -> None:
    for categories, over in (("47", 235), ("4", 50), ("200", 500), ("1000", 1000)):
        overrides = recipes.over_categories("mnist", [], categories)
        found = recipes.load("mnist", [f"model.num_categories={categories}", *overrides])
        assert found.model.num_over_categories == over
    told = ["model.num_over_categories=60"]
    assert recipes.over_categories("mnist", told, "47") == []
    planned = invoke("train", "--categories", "47", "--dry-run", "--runs", str(tmp_path))
    assert planned.exit_code == 0, planned.output


NEIGHBOURS = ["--set", "objective.pairs=neighbours", "--set", "objective.weights.mutual_information=1"]
SMALL = ("--config", "smoke", *SETTINGS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "taken"],
        ["--name", "../x"],
        ["--name", "n" * 300],
        ["--runs", "a-file"],
        ["--categories", "auto", "--restarts", "2", "--config", "mnist"],
        ["--restarts", "2", "--name", "other"],
        ["--storage", "store", "--workers-per-node", "2", "--name", "stored"],
        ["--workers-per-node", "100"],
        ["--set", "data.limit=1"],
        ["--set", "data.limit=4", *NEIGHBOURS],
        ["--set", "model.width=60000"],
        ["--set", "train.epochs=1_0"],
    ],
    ids=" ".join,
)
def test_a_dry_run_refuses_what_the_real_run_would_with_the_same_line(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "taken" / "of-somebody").mkdir(parents=True)
    (tmp_path / "runs" / "other-1").mkdir()
    (tmp_path / "runs" / "other-1" / "config.yaml").write_text("seed: 7\n")
    (tmp_path / "store" / "stored").mkdir(parents=True)
    (tmp_path / "store" / "stored" / "config.yaml").write_text("seed: 7\n")
    (tmp_path / "a-file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    told = call("train", *SMALL, *arguments, "--dry-run", cwd=tmp_path)
    assert told.returncode in (1, 2), told.stdout
    assert told.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    if "--workers-per-node" not in arguments:  # whose real run starts Ray first
        assert call("train", *SMALL, *arguments, cwd=tmp_path).stderr == told.stderr


def test_parameters_are_counted_without_making_them() -> None:
    config = recipes.load("smoke", [*TINY, "model.channels=1", "model.image_size=28"])
    made = sum(parameter.numel() for parameter in method_of(config).build(config).parameters())
    state = torch.get_rng_state()
    assert memory.num_parameters(config) == made
    assert torch.equal(torch.get_rng_state(), state)
