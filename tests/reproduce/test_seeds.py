"""Seeds of `infoae reproduce`: which, their files, and going on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae import launch
from infoae.errors import InfoAEError, UsageError
from infoae.launch import Executor
from infoae.planning import Plan
from infoae.reproduce.seeds import SeedResult, parse_seeds, read, run_seeds
from infoae.results import TrainingResult
from infoae.trainer import Trainer
from tests.helpers.settings import small_mnist

SHORT = ["data.limit=64", "train.epochs=1", "train.batch_size=32", "model.width=4"]
TINY = ["data.name=shards", f"data.root={small_mnist()}", *SHORT]


def run(tmp_path: Path, seeds: list[int], settings: list[str] = TINY) -> list[SeedResult]:
    return list(run_seeds("smoke", settings, seeds, tmp_path / "out", tmp_path / "runs", lambda _: None))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_seeds_are_read_once_each_and_in_order(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == sorted(set(seeds))


def test_ranges_of_seeds() -> None:
    assert parse_seeds("7, 0-2,2-3") == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1", "0-99999", "1-2-3"])
def test_wrong_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(text)


def test_each_seed_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_results_and_runs_of_the_exact_search_are_those_of_auto_but_not_the_other_way_round(tmp_path: Path) -> None:
    exact, approximate = ([*TINY, f"neighbours.search={search}"] for search in ("exact", "approximate"))
    results = run(tmp_path, [1], exact)
    assert run(tmp_path, [1], TINY) == results
    with pytest.raises(InfoAEError, match="give another --out"):
        run(tmp_path, [1], approximate)
    path = tmp_path / "out" / "seed-1.json"
    path.unlink()
    with pytest.raises(InfoAEError, match="give another --runs"):
        run(tmp_path, [1], approximate)
    assert run(tmp_path, [1], TINY)[0].config["neighbours"]["search"] == "auto"  # of the run that was there
    with pytest.raises(InfoAEError, match="give another --out"):
        run(tmp_path, [1], exact)


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
        read(tmp_path / "seed-1.json")
