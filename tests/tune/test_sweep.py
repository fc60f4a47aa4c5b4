"""Which values trials get, and what sweep.json says of them; no trial is trained here."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError

from infoae import data
from infoae.config import recipes
from infoae.config.methods import METHODS
from infoae.errors import InfoAEError, UnavailableError, UsageError
from infoae.pseudolabels import pairs
from infoae.pseudolabels.neighbour_graph import nearest_neighbours
from infoae.reporting.training import SweepProgress
from infoae.runs.run import Run
from infoae.tune import record, space
from infoae.tune import sweep as sweeping
from infoae.tune.record import Sweep
from infoae.tune.search import Numbered, make_scheduler
from infoae.tune.trial import Training
from tests.helpers.methods import RECIPES
from tests.helpers.sweeps import make

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")  # Ray's own


def numbered(sweep: Sweep, folder: Path, count: int) -> list[Any]:
    searcher = Numbered(sweep, folder)
    return [searcher.suggest(str(index)) for index in range(count)]


def test_a_grid_covers_all_of_it_once(tmp_path: Path) -> None:
    lambdas = space.spaces()["lambdas"].read_text()
    sweep, folder = make(tmp_path / "runs", lambdas, search="grid")
    assert sweep.num_trials == 27
    given = numbered(sweep, folder, 28)
    assert given.pop() == Numbered.FINISHED
    assert [one["values"] for one in given] == list(space.grid(sweep.space))
    assert len({tuple(one["values"].values()) for one in given}) == 27
    with pytest.raises(UsageError, match="this grid has 27 trials"):
        make(tmp_path / "runs", lambdas, search="grid", trials=5)


def test_optuna_learns_from_scores_also_from_those_before_it_was_resumed(tmp_path: Path) -> None:
    text = "alpha: {keys: [objective.weights.reconstruction], low: 0, high: 1}"

    def ask(sweep: Sweep, until: int) -> None:
        sweep.num_trials = until
        searcher = Numbered(sweep, folder)
        while (given := searcher.suggest(f"{until}-{len(sweep.trials)}")) != Numbered.FINISHED:
            trial = sweep.trials[given["number"]]
            score = -abs(float(trial.values["alpha"]) - 0.3)
            trial.epochs, trial.status = [record.Epoch(epoch=1, score=score)], "finished"
            searcher.on_trial_complete(f"{until}-{trial.number}", {"score": score})

    sweep, folder = make(tmp_path / "runs", text, search="optuna", trials=25)
    ask(sweep, 25)
    assert sweep.trials[0].values == {"alpha": 1.0}
    resumed = Sweep.model_validate_json(sweep.model_dump_json())
    ask(resumed, 40)
    drawn = [float(trial.values["alpha"]) for trial in resumed.trials]
    assert len(set(drawn)) == 40  # nothing is drawn twice, before and after
    far = [abs(value - 0.3) for value in drawn]
    assert np.mean(far[25:]) < 0.5 * np.mean(far[1:11])  # after it was resumed nearer than the ten it began with


def test_values_are_kept_before_their_trial_begins(tmp_path: Path) -> None:
    text = "alpha: {keys: [objective.weights.reconstruction], low: 0, high: 1}"
    sweep, folder = make(tmp_path / "runs", text, search="optuna", trials=3)
    given = numbered(sweep, folder, 2)
    kept = record.load(str(folder), tmp_path)[0]  # the command is killed now
    assert [trial.values for trial in kept.trials] == [one["values"] for one in given]
    assert numbered(kept, folder, 2) == given


def test_a_trial_that_lost_its_machines_is_tried_again_when_resumed(tmp_path: Path) -> None:
    text = "alpha: {keys: [objective.weights.reconstruction], low: 0, high: 1}"
    sweep, folder = make(tmp_path / "runs", text, search="optuna", trials=2)
    given = numbered(sweep, folder, 2)
    following = sweeping._Following(sweep, folder, SweepProgress(2))

    class Trial(Training):
        def __init__(self, number: int, error: Exception) -> None:
            self._number, self._error = number, error

        def _next(self) -> dict[str, Any]:
            raise self._error

    for number, error in enumerate([UnavailableError("no workers for 600 s"), InfoAEError("not finite")]):
        result = Trial(number, error).step()
        following.on_trial_result(0, [], None, result)
        following.on_trial_complete(0, [], SimpleNamespace(config={"number": number}))
    assert [trial.status for trial in sweep.trials] == ["unfinished", "failed"]
    assert [trial.message for trial in sweep.trials] == ["no workers for 600 s", "not finite"]

    lost: Any = ActorDiedError()
    trial = SimpleNamespace(config={"number": 0}, get_pickled_error=lambda: lost)
    following.on_trial_error(0, [], trial)
    assert sweep.trials[0].status == "unfinished"
    resumed = record.load(str(folder), tmp_path)[0]
    assert numbered(resumed, folder, 2) == [given[0], Numbered.FINISHED]
    trial.get_pickled_error = lambda: ValueError("a bug")
    following.on_trial_error(0, [], trial)
    assert [trial.status for trial in sweep.trials] == ["failed", "failed"]


def test_a_full_disk_ends_the_sweep_and_a_resumed_one_goes_on_with_the_trial(tmp_path: Path) -> None:
    text = "alpha: {keys: [objective.weights.reconstruction], low: 0, high: 1}"
    sweep, folder = make(tmp_path / "runs", text, trials=2)
    (given,) = numbered(sweep, folder, 1)
    following = sweeping._Following(sweep, folder, SweepProgress(2))

    class Trial(Training):
        def __init__(self) -> None:
            self._number = 0

        def _next(self) -> dict[str, Any]:
            raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    assert not following.stop_all()
    following.on_trial_result(0, [], None, Trial().step())
    following.on_trial_complete(0, [], SimpleNamespace(config=given))
    assert following.stop_all()
    assert sweep.trials[0].message == "No space left on device: metrics.jsonl"
    assert numbered(record.load(str(folder), tmp_path)[0], folder, 1) == [given]


def test_a_sweep_whose_making_was_killed_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sweeping, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "runs", None)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == []
    sweep, folder = make(tmp_path / "runs", None)
    assert record.load(folder.name, tmp_path / "runs") == (sweep, folder)


@pytest.mark.parametrize(
    ("text", "searches"),
    [("objective.weights.reconstruction: {low: 0.1, high: 1}", 1), ("augment.blur: {low: 0.1, high: 1}", 0)],
)
def test_neighbours_that_trials_share_are_found_once(
    text: str, searches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def counted(*arguments: Any, **keywords: Any) -> Any:
        found.append(nearest_neighbours(*arguments, **keywords))
        return found[-1]

    monkeypatch.setattr("infoae.pseudolabels.pairs.nearest_neighbours", counted)
    neighbours = ("objective.pairs=neighbours", "objective.weights.mutual_information=1", "data.limit=60")
    sweep, folder = make(tmp_path / "runs", text, *neighbours, trials=2)
    sweeping._find_neighbours(sweep, Run(folder / "scratch"))
    assert len(found) == searches
    trial = Run(folder / "trial")
    images = data.load_training(sweep.config.data).images
    pairs.find(trial, images, sweep.config.neighbours, sweep.config.augment)
    assert len(found) == 1


@pytest.mark.parametrize(
    "settings",
    [["stages.mutual_information_epochs=2"], ["stages.mutual_information_epochs=1", "stages.pseudo_label_epochs=1"]],
)
def test_asha_judges_no_trial_before_everything_is_trained(settings: list[str], tmp_path: Path) -> None:
    text = "alpha: {keys: [objective.weights.reconstruction], low: 0, high: 1}"
    heads = ("objective.weights.pseudo_label=1", "model.num_over_categories=20", "model.num_heads=2")
    settings = [*settings, *heads, "train.epochs=9"]
    sweep, _ = make(tmp_path / "runs", text, *settings, scheduler="asha", trials=6)
    scheduler: Any = make_scheduler(sweep)
    trials = [SimpleNamespace(trial_id=str(number)) for number in range(6)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    decisions = {
        epoch: [
            scheduler.on_trial_result(None, trial, {"epoch": epoch, "score": -float(trial.trial_id)})
            for trial in trials
        ]
        for epoch in (1, 2, 3)
    }
    assert decisions[1] == decisions[2] == ["CONTINUE"] * 6
    assert decisions[3] == ["CONTINUE"] + ["STOP"] * 5


@pytest.mark.parametrize(
    ("metric", "scores"), [("mutual_information", [0, 1.5, 1.5, 1.8, 1.795]), ("recovered", [0, 0.6, 0.6, 0.9, 1.0])]
)
def test_epochs_of_information_alone_have_no_score(metric: Any, scores: list[float], tmp_path: Path) -> None:
    lines: list[dict[str, float]] = [
        {"step": 5, "evaluation/mutual_information": 2.0},
        {"step": 9, "loss/information": -2.0},
        {"step": 10, "evaluation/mutual_information": 1.5, "evaluation/recovered": 0.6},
        {"step": 15, "evaluation/mutual_information": 1.4, "evaluation/recovered": 0.7},
        {"step": 20, "evaluation/mutual_information": 1.8, "evaluation/recovered": 0.9},
        {"step": 25, "evaluation/mutual_information": 1.795, "evaluation/recovered": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [epoch.score for epoch in record.epochs(Run(tmp_path), metric, 1)] == scores


def test_epochs_of_a_method_that_draws_no_category_have_a_score(tmp_path: Path) -> None:
    lines = [{"step": 5, "evaluation/mutual_information": 1.0}, {"step": 10, "evaluation/mutual_information": 1.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [epoch.score for epoch in record.epochs(Run(tmp_path), "mutual_information", 0)] == [1.0, 1.5]


def test_what_a_method_cannot_draw_cannot_be_maximised(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--metric recovered: CatGAN .*; take mutual_information"):
        make(tmp_path / "runs", None, method="catgan", metric="recovered")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("method", METHODS)
def test_a_sweep_of_each_method_is_kept_and_read_again(method: str, tmp_path: Path) -> None:
    sweep, folder = make(tmp_path / "runs", None, method=method, trials=2)
    numbered(sweep, folder, 2)
    assert record.load(str(folder), tmp_path) == (sweep, folder)
    base = recipes.load(RECIPES[method])
    assert sweep.space == space.load(space.default(base), base)
    assert sweep.trials[0].values == space.current(sweep.config, sweep.space)
    assert sweep.config_of(sweep.trials[1]) != sweep.config


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text('{"format": 1')
    with pytest.raises(InfoAEError, match="is damaged or of another infoae"):
        record.load("s", tmp_path)
    with pytest.raises(InfoAEError, match="no sweep 'none'"):
        record.load("none", tmp_path)


def test_a_sweep_goes_on_where_its_data_has_moved_and_says_so_to_every_trial(tmp_path: Path) -> None:
    sweep, folder = make(tmp_path / "runs", "alpha: {keys: [objective.weights.reconstruction], low: 0, high: 1}")
    numbered(sweep, folder, 1)
    sweep.config = recipes.replaced(sweep.config, {"data.root": "/gone"}, "test")
    assert sweeping.moved(sweep, None) == sweep
    moved = sweeping.moved(sweep, tmp_path / "there")
    record.save(moved, folder)
    kept = record.load(str(folder), tmp_path)[0]
    assert kept.config.data.root == (tmp_path / "there").resolve()
    assert kept.config_of(kept.trials[0]).data.root == kept.config.data.root
    assert kept.config.model_copy(update={"data": sweep.config.data}) == sweep.config
