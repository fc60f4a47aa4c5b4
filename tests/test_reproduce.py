"""`infoae reproduce`: seeds, files, statistics, and going on after an interruption."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae import launch, reproduce
from infoae.errors import InfoAEError, UsageError
from infoae.launch import Executor
from infoae.planning import Plan
from infoae.results import TrainingResult
from infoae.trainer import Trainer
from tests.helpers.settings import small_mnist

SHORT = ["data.limit=64", "train.epochs=1", "train.batch_size=32", "model.width=4"]
TINY = ["data.name=shards", f"data.root={small_mnist()}", *SHORT]


def run(tmp_path: Path, seeds: list[int], settings: list[str] = TINY) -> list[reproduce.SeedResult]:
    return list(reproduce.run_seeds("smoke", settings, seeds, tmp_path / "out", tmp_path / "runs", lambda _: None))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_seeds_are_read_once_each_and_in_order(seeds: list[int]) -> None:
    assert reproduce.parse_seeds(",".join(map(str, seeds))) == sorted(set(seeds))


def test_ranges_of_seeds() -> None:
    assert reproduce.parse_seeds("7, 0-2,2-3") == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1", "0-99999", "1-2-3"])
def test_wrong_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        reproduce.parse_seeds(text)


def test_each_seed_once_and_the_summary_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path, [5, 6])
    trained: list[int] = []
    original = launch.run

    def counted(plan: Plan, executor: Executor) -> TrainingResult:
        trained.append(plan.config.seed)
        return original(plan, executor)

    monkeypatch.setattr(launch, "run", counted)
    results = run(tmp_path, [5, 6, 7])
    assert trained == [7]
    assert results[:2] == first
    assert [result.config["seed"] for result in results] == [5, 6, 7]
    assert results[0].score != results[1].score

    summary = reproduce.summarize("command", "smoke", results, tmp_path / "out")
    accuracies = [result.measures["accuracy"] for result in results]
    found = summary.measures["accuracy"]
    assert found.mean == pytest.approx(sum(accuracies) / 3)
    assert found.deviation == pytest.approx(statistics.stdev(accuracies))
    assert found.worst == min(accuracies)
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
    assert "the paper" not in table  # its rows are of all of MNIST
    whole = [replace(result, config=result.config | {"data": {"name": "mnist", "limit": None}}) for result in results]
    table = reproduce.table(summary, whole)
    assert "| InfoAE (the paper) | 1.1 (± 0.1) |" in table
    assert "matched one-to-one" in table
    assert (tmp_path / "out" / "seeds.png").read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on_and_a_finished_one_is_only_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*TINY, "train.epochs=2"]
    wanted = run(tmp_path / "unbroken", [3], settings)

    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self, reporters, _: fit(self, reporters, lambda: True))
    assert run(tmp_path, [3], settings) == []
    assert not list((tmp_path / "out").glob("*"))
    monkeypatch.undo()
    resumed = run(tmp_path, [3], settings)
    assert resumed[0].score == wanted[0].score

    (tmp_path / "out" / "seed-3.json").unlink()
    monkeypatch.setattr(launch, "run", None)
    again = run(tmp_path, [3], settings)
    assert again[0].measures["accuracy"] == resumed[0].measures["accuracy"]


def test_results_from_before_a_key_came_are_of_its_default(tmp_path: Path) -> None:
    results = run(tmp_path, [1])
    path = tmp_path / "out" / "seed-1.json"
    older = json.loads(path.read_text())
    del older["config"]["neighbours"]
    path.write_text(json.dumps(older))
    assert [result.score for result in run(tmp_path, [1])] == [result.score for result in results]


def test_results_stand_wherever_the_data_lie(tmp_path: Path) -> None:
    """They can be committed and gone on with elsewhere; of shards the folder is all that tells which they are."""
    results = run(tmp_path, [1], [*SHORT, f"data.root={tmp_path / 'here'}"])
    assert results[0].config["data"]["root"] is None
    assert run(tmp_path, [1], [*SHORT, f"data.root={tmp_path / 'there'}"]) == results
    path = tmp_path / "out" / "seed-1.json"
    shards = json.loads(path.read_text())
    shards["config"]["data"] |= {"name": "shards", "root": str(tmp_path / "here")}
    path.write_text(json.dumps(shards))
    with pytest.raises(InfoAEError, match="of another configuration: give another --out"):
        run(tmp_path, [1], [*SHORT, "data.name=shards", f"data.root={tmp_path / 'there'}"])


def test_results_of_another_configuration_are_not_mixed_in(tmp_path: Path) -> None:
    run(tmp_path, [1])
    with pytest.raises(InfoAEError, match="of another configuration: give another --out"):
        run(tmp_path, [1], [*TINY, "optim.learning_rate=3e-3"])
    (tmp_path / "out" / "seed-1.json").unlink()
    with pytest.raises(InfoAEError, match="of another configuration: give another --runs"):
        run(tmp_path, [1], [*TINY, "optim.learning_rate=3e-3"])


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', '{"seed": 1}'])
def test_a_damaged_result_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "seed-1.json").write_text(content)
    with pytest.raises(InfoAEError, match=r"seed-1\.json is no result of infoae reproduce"):
        reproduce.read(tmp_path / "seed-1.json")
