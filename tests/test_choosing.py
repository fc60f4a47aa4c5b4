"""Recipes tried on some of the pictures: judged by one measure, without a label, and told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from infoae import choosing
from infoae.choosing import Candidate, Trial
from infoae.config import Model, recipes
from infoae.data import ImageSet
from infoae.errors import Notice
from infoae.evaluation import trivial
from infoae.model import InfoAE
from infoae.planning import Plan, checked
from tests.helpers.commands import call
from tests.helpers.settings import SMALL, TINY

TINY_TRIALS = {
    "model.width": 4,
    "model.hidden_dim": 16,
    "model.latent_dim": 8,
    "model.num_heads": 2,
    "model.generator_hidden_dim": 16,
    "train.batch_size": 50,
    "train.min_steps_per_epoch": 1,
}


SMALLEST = Model(channels=1, image_size=8, width=2)
KINDS = (("strokes", 0.4), ("sound", 0.6))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return checked(recipes.load("smoke", TINY), tmp_path, "mnist", None, None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials take a second."""
    monkeypatch.setattr(choosing, "_SHORT", dict(choosing._SHORT) | TINY_TRIALS)
    monkeypatch.setattr(choosing, "IMAGES", 200)
    monkeypatch.setattr(choosing, "FEWEST", 100)
    tried = Candidate("mnist", "strokes", 0, 1), Candidate("mnist", "sound", 0, 1), Candidate("photos", "objects", 1, 1)
    monkeypatch.setattr(choosing, "CANDIDATES", tried)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("told", "chosen"),
    [([False] * 3, "mnist with augment.kind=sound"), ([True, True, False], "photos with augment.kind=objects")],
)
def test_the_highest_score_counts_of_what_a_thumbnail_does_not_tell(
    told: list[bool], chosen: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    scores, thumbnails = [0.5, 1.25, 0.1], iter(told)

    def scored(heads: NDArray[np.int64]) -> float:
        seen.append(heads.shape)
        return scores[len(seen) - 1]

    def compared(*_: object) -> SimpleNamespace:
        return SimpleNamespace(predicted_by_thumbnail=0.5, predicted_by_pixels=0.4 if next(thumbnails) else 0.6)

    monkeypatch.setattr(choosing, "score", scored)
    monkeypatch.setattr(trivial, "compared", compared)
    with pytest.warns(Notice, match="suits these pictures best") as notices:
        found = choosing.chosen(plan)
    assert str(found) == chosen
    said = "mnist with augment.kind=sound: 1.25 nats" + (", by a thumbnail as well" if told[1] else "")
    assert said in str(notices[0].message)
    assert seen == [(2, 200)] * 3  # of two heads, on the images that the trial has seen


def test_where_a_thumbnail_tells_all_the_highest_score_counts() -> None:
    trials = [Trial(Candidate("mnist", kind, 0, 1), InfoAE(SMALLEST), score, True) for kind, score in KINDS]
    assert choosing.best_of(trials).candidate.kind == "sound"


def test_every_candidate_is_a_recipe_with_a_kind_and_a_short_schedule() -> None:
    assert len({str(each) for each in choosing.CANDIDATES}) == len(choosing.CANDIDATES)
    for candidate in choosing.CANDIDATES:
        config = recipes.load(candidate.recipe, candidate.settings)
        assert config.augment.kind == candidate.kind
        assert (config.neighbours.source == "learned") == (candidate.representation_epochs > 0)


def test_the_score_is_the_information_that_two_heads_share() -> None:
    def information(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
        joint = np.histogram2d(one, other, bins=3)[0] / len(one)
        return float((joint * np.log(joint / np.outer(joint.sum(1), joint.sum(0)))).sum(where=joint > 0))

    heads = np.random.default_rng(0).integers(0, 3, (3, 400))
    heads[1, :350] = (heads[0, :350] + 1) % 3  # nearly the same, numbered otherwise
    expected = np.mean([information(heads[i], heads[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
    assert expected > 0.2
    assert choosing.score(heads) == pytest.approx(expected)


@pytest.mark.usefixtures("quick")
def test_ctrl_c_says_that_no_run_was_begun(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(choosing, "trials", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choosing.chosen(plan)
    assert capsys.readouterr().err.endswith("no run was begun; --config RECIPE takes one at once\n")


def test_few_pictures_are_not_tried_on(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_trials(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(choosing, "trials", no_trials)
    with pytest.warns(Notice, match="300 pictures are too few to try other recipes on"):
        assert choosing.chosen(plan) == choosing.CANDIDATES[0]


def test_large_pictures_are_tried_small() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64)).astype(np.uint8)
    small = choosing._small(images)
    assert small.shape == (5, 3, 32, 32)
    assert abs(small.mean() - images.mean()) < 2
    assert choosing._small(images[:, :, :32, :32]) is not None
    np.testing.assert_array_equal(choosing._small(small), small)


@pytest.mark.filterwarnings("always::infoae.errors.Notice")
def test_pictures_of_a_path_are_tried_on_unless_a_recipe_is_given(
    tmp_path: Path, mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path / "cache"))
    np.save(tmp_path / "digits.npy", mnist[0].images)
    settings = [part for each in SMALL for part in ("--set", each)]
    dry = ("train", "--dry-run", "--data", "digits.npy")
    assert "recipe: auto: tried on some of the pictures first" in call(*dry, cwd=tmp_path).stdout
    assert "recipe: smoke" in call(*dry, "--config", "smoke", *settings, cwd=tmp_path).stdout
