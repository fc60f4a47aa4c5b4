"""`infoae train --restarts` and `--categories`: runs of several seeds, stopped and repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infoae.config import recipes
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.commands import SETTINGS, invoke


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
    for categories, over in (("47", 235), ("4", 50)):
        overrides = recipes.over_categories("mnist", [], categories)
        found = recipes.load("mnist", [f"model.num_categories={categories}", *overrides])
        assert found.model.num_over_categories == over
    told = ["model.num_over_categories=60"]
    assert recipes.over_categories("mnist", told, "47") == []
    planned = invoke("train", "--categories", "47", "--dry-run", "--runs", str(tmp_path))
    assert planned.exit_code == 0, planned.output
