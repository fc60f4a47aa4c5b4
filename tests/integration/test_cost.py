"""The cost of a training: the formula is fitted rightly, and its figures are of what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import cost, cost_of_run
from benchmarks.pages.cost import cost as page
from benchmarks.pages.results import Results
from infoae import memory
from infoae.data.sampler import steps_an_epoch
from infoae.methods.schedules import schedule_of
from infoae.runs import checkpoint
from infoae.runs.run import Run


def test_a_fit_finds_what_seconds_were_made_of() -> None:
    features = np.random.default_rng(0).uniform(1, 2, (8, 3)) * [1, 1e10, 1e8]
    seconds = features @ [0.01, 2e-11, 3e-10]
    assert cost.fit(features, seconds) == pytest.approx([0.01, 2e-11, 3e-10])
    assert cost.without_each(features, seconds) == pytest.approx(seconds)
    seconds[0] *= 3
    assert cost.without_each(features, seconds)[0] == pytest.approx(seconds[0] / 3)  # it does not know itself


def test_a_fit_has_nothing_below_0_and_counts_errors_relatively() -> None:
    features = np.array([[1, 1, 0], [1, 2, 0], [1, 3, 0]], dtype=float)
    found = cost.fit(features, np.array([3.0, 2.0, 1.0]))
    assert found[1] == found[2] == 0
    # The least of sum (a / s - 1)^2 is where a = sum 1/s / sum 1/s^2.
    assert found[0] == pytest.approx((1 / 3 + 1 / 2 + 1) / (1 / 9 + 1 / 4 + 1))


def test_one_thing_is_changed_at_a_time() -> None:
    found = list(cost.points(cost.VALUES))
    assert len(set(found)) == len(found) == 1 + 2 * len(cost.VALUES)
    assert found[0].differs() == "default"
    assert {point.differs().count(",") for point in found} == {0}
    config = cost.Point(batch=250, width=8).config("mnist", [])
    assert (config.train.batch_size, config.train.micro_batch_size, config.model.width) == (250, 250, 8)


@pytest.mark.slow
def test_cost_measures_steps_and_a_run(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "WARM_UP", 0)
    monkeypatch.setattr(cost, "USUAL", cost.Point(batch=64, width=4, over_categories=20))
    monkeypatch.setattr(cost, "VALUES", {"batch": (64, 128), "processes": (1, 2)})
    settings = ["model.hidden_dim=16", "model.generator_hidden_dim=16", "model.latent_dim=8", "train.precision=fp32"]
    options = [part for setting in settings for part in ("--set", setting)]
    options += ["--steps", "1", "--rounds", "1", "--run", str(finished_run.path), "--images", "200"]
    monkeypatch.setattr(sys, "argv", ["cost.py", *options, "--json", str(tmp_path / "cost.json")])
    # In this process, whose memory says nothing; processes that are started take seconds each.
    here = lambda *arguments: cost.train_steps(*arguments) | {"memory": 10**6}  # noqa: E731
    for module in (cost, cost_of_run):
        monkeypatch.setattr(module, "measured", here)
    before = {path: path.stat().st_mtime_ns for path in finished_run.path.rglob("*")}
    cost.main()
    assert {path: path.stat().st_mtime_ns for path in finished_run.path.rglob("*")} == before
    shown = capsys.readouterr().out
    assert "seconds = " in shown

    result = json.loads((tmp_path / "cost.json").read_text())
    usual, twice, shared = result["points"]
    assert twice["operations"] == pytest.approx(2 * usual["operations"], rel=0.1)
    assert shared["operations"] == pytest.approx(usual["operations"] / 2, rel=0.1)
    assert twice["memory_expected"] > usual["memory_expected"] > shared["memory_expected"]
    assert all(row["seconds"] > 0 and row["activations"] > 0 for row in result["points"])

    training = result["training"]
    steps = sum(part["number"] for part in training["parts"] if part["name"].startswith("steps"))
    config = finished_run.config().train
    assert steps == config.epochs * steps_an_epoch(300, config.batch_size, config.min_steps_per_epoch)
    saved = checkpoint.read(finished_run.checkpoint("newest"))
    assert training["steps"]["run"] == pytest.approx(saved.seconds)
    assert training["whole"]["formula"] == pytest.approx(sum(part["seconds"] for part in training["parts"]))

    entry = {"command": "python benchmarks/cost.py", "hardware": "this", "commit": "0", "files": ["cost.json"]}
    (tmp_path / "sources.json").write_text(json.dumps({"cost": entry}))
    table = page(Results(tmp_path))
    assert any(line.startswith("| processes 2 |") for line in table)
    assert any(line.startswith("| all steps |") for line in table)


def test_stages_before_the_last_are_left_out_of_its_bytes() -> None:
    config = cost.Point(batch=32, width=4).config("mnist", [])
    last = cost.last_alone(config)
    sizes = [memory.of_training(each, torch.float32).size for each in (config, last)]
    assert sizes[0] >= sizes[1]


def test_seconds_of_a_stage_are_read_between_lines() -> None:
    class Lines:
        def metrics(self) -> list[dict[str, Any]]:
            return [{"step": 10, "seconds": 1.0}, {"step": 20, "seconds": 3.0}, {"step": 20, "seconds": 3.0}]

    assert cost_of_run.taken(Lines(), [5, 10, 15, 20]) == [0.5, 1, 2, 3]  # type: ignore[arg-type]


def test_a_run_that_was_resumed_is_refused(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cost_of_run.refuse(finished_run, finished_run.config())
    monkeypatch.setattr(Run, "environments", lambda _: [{}, {}])
    with pytest.raises(SystemExit, match="resumed"):
        cost_of_run.refuse(finished_run, finished_run.config())


@pytest.mark.long
def test_memory_is_of_a_process_that_has_done_nothing_else() -> None:
    held = np.ones(50_000_000)  # here, and not there
    settings = ["train.precision=fp32", "model.generator_hidden_dim=16", "model.hidden_dim=16"]
    peaks = []
    for batch in (100, 400):
        config = cost.Point(batch=batch).config("mnist", settings)
        peaks.append(cost.measured(config, schedule_of(config).stages, 1, 1, 1)["memory"])
        expected = memory.of_training(config, torch.float32).size
        assert expected / 2 < peaks[-1] < 3 * expected
    assert 1.5 * peaks[0] < peaks[1] < held.nbytes


def test_bytes_of_status_are_of_this_process() -> None:
    held = np.ones(20_000_000)
    assert cost.memory_now("VmHWM") >= cost.memory_now("VmRSS") > held.nbytes
