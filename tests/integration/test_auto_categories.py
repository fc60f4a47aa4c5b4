"""Training that finds the number of categories, and what goes on with what it found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from infoae import launch, planning
from infoae.config import recipes
from infoae.data import ImageSet
from infoae.errors import UsageError
from infoae.evaluation import evaluate, figures, health
from infoae.launch import Executor
from infoae.model import InfoAE
from infoae.pseudolabels import merging
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.settings import WITH_HEADS

AUTO = (*WITH_HEADS, "model.num_categories=auto")


@pytest.mark.parametrize("stop_after", [3, 6, 8])
def test_the_number_is_found_once_and_kept(
    stop_after: int, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed too, it stays what it was at the end of the first stage."""
    numbers = iter([4, 7])
    monkeypatch.setattr(merging, "choose_number", lambda _: next(numbers))
    run_config = recipes.load("smoke", [*AUTO, "stages.mutual_information_epochs=2", "train.epochs=4"])
    trainer = make_trainer(run_config)
    trainer.fit([], should_stop=lambda: trainer.done == stop_after + 6)
    resumed = make_trainer(run_config)
    resumed.resume()
    resumed.fit([])
    model = InfoAE.of_run(resumed.run)
    assert model.num_categories == resumed.step.model.num_categories == 7
    assert set(model.category_of.tolist()) == set(range(7))
    assert json.loads((resumed.run.path / "categories.json").read_text())["categories"] == 7


def test_what_was_found_is_evaluated_and_drawn(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> None:
    plan = planning.planned("smoke", AUTO, tmp_path, "found")
    assert launch.run(plan, Executor()).finished
    run = Run.open("found", tmp_path)
    model = InfoAE.of_run(run)
    content = json.loads((run.path / "categories.json").read_text())
    kept = {int(number): left for number, left in content["information_kept"].items()}
    assert content["categories"] == merging.choose_number(kept) == model.num_categories
    result = evaluate.evaluate(model, mnist[1])
    assert len(result.category_sizes) == model.num_categories
    assert model.classify(mnist[1].images).sum(1) == pytest.approx(torch.ones(500), abs=1e-5)
    figure = figures.categories(run)
    assert figure is not None
    assert f"chosen: {model.num_categories}" in figure.axes[0].get_legend_handles_labels()[1]


@pytest.mark.parametrize(
    ("lost", "warned"),
    [
        ([0, 0.1, 0.1, 0.1, 0.1, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01], []),
        ([0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01], ["9 categories were found of 12"]),
        ([0, 0.5, 0.5, 0.1, 0.1, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01], ["5? would do nearly as well as"]),
    ],
)
def test_a_number_that_is_not_certain_is_warned_of(lost: list[float], warned: list[str]) -> None:
    """`lost` are the nats lost by the merge of 1, 2, 3, ... categories."""
    kept = {number: float(sum(lost[:number])) for number in range(len(lost), 0, -1)}
    warnings = list(health.of_number(kept))
    assert len(warnings) == len(warned)
    for warning, expected in zip(warnings, warned, strict=True):
        assert re.search(expected, warning)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_over_categories=null", "num_categories auto needs model.num_over_categories"),
        ("stages.mutual_information_epochs=0", "stages.mutual_information_epochs"),
        ("model.num_categories=many", r"model\.num_categories: .*integer.*, or .*'auto' \(given 'many'\)$"),
    ],
)
def test_what_auto_cannot_do_is_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipes.load("smoke", [*AUTO, "objective.weights.pseudo_label=0", override])
