"""The summary of a recipe's seeds."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path

import pytest

from infoae.reproduce.seeds import SeedResult, run_seeds
from infoae.reproduce.summary import summarize
from tests.helpers.settings import TINY


def test_the_summary_is_that_of_all_seeds(tmp_path: Path) -> None:
    settings = [*TINY, "train.epochs=1"]
    results = list(run_seeds("smoke", settings, [5, 6, 7], tmp_path / "out", tmp_path / "runs", lambda _: None))
    summary = summarize("command", "smoke", results, tmp_path / "out")
    accuracies = [result.measures["accuracy"] for result in results]
    found = summary.measures["accuracy"]
    assert found.mean == pytest.approx(sum(accuracies) / 3)
    assert found.deviation == pytest.approx(statistics.stdev(accuracies))
    assert found.median == pytest.approx(statistics.median(accuracies))
    assert found.worst == min(accuracies)
    assert summary.measures["seconds_training"].worst == max(result.measures["seconds_training"] for result in results)
    assert summary.oracle is not None
    assert summary.oracle.measures["accuracy"] == max(accuracies)
    chosen = max(results, key=lambda result: result.score)
    assert summary.best_by_score == chosen
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content == summary.to_dict()
    assert content["best_by_score"] == {"seed": chosen.seed, "accuracy": chosen.measures["accuracy"]}
    assert content["oracle"]["accuracy"] == max(accuracies)
    assert content["measures"]["accuracy"] == asdict(found)
    table = (tmp_path / "out" / "summary.md").read_text()
    assert f"| 7 | {100 * accuracies[2]:.2f} % |" in table
    assert (tmp_path / "out" / "seeds.png").read_bytes().startswith(b"\x89PNG")


def test_a_measure_that_an_older_result_lacks_is_left_out(tmp_path: Path) -> None:
    measured = {"accuracy": 0.9, "many_to_one": 0.95, "nmi": 0.8, "score": 2.0, "generated": {"recovered": None}}
    newer = SeedResult.from_dict({"seed": 1, "config": {}, "environment": {}, "seconds_training": 1.0} | measured)
    older = SeedResult.from_dict({name: value for name, value in newer.to_dict().items() if name != "many_to_one"})
    summary = summarize("command", "smoke", [newer, older], tmp_path)
    assert list(summary.measures) == ["accuracy", "nmi", "score", "seconds_training"]
