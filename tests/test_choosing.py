"""Recipes tried on some of the pictures: judged by one measure, without a label, and told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from infoae import choosing
from infoae.augment import augmented
from infoae.choosing import Candidate
from infoae.config import recipes
from infoae.data import ImageSet
from infoae.errors import Notice
from infoae.evaluation import trivial
from infoae.model import InfoAE
from infoae.planning import Plan, checked
from infoae.random_streams import Stream, generator
from infoae.runs.run import Run
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


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return checked(recipes.load("smoke", TINY), tmp_path, "mnist", None, None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials take a second."""
    monkeypatch.setattr(choosing, "_SHORT", dict(choosing._SHORT) | TINY_TRIALS)
    monkeypatch.setattr(choosing, "IMAGES", 200)
    monkeypatch.setattr(choosing, "FEWEST", 100)
    monkeypatch.setattr(choosing, "IN_PIXELS", (Candidate("mnist", "strokes", 0, 1), Candidate("mnist", "sound", 0, 1)))
    monkeypatch.setattr(choosing, "LEARNED", (Candidate("photos", "objects", 1, 1),))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("is_trivial", [False, True])
def test_features_are_learnt_where_pixels_tell_no_more_than_a_thumbnail(
    is_trivial: bool, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    scores = [0.5, 1.25, 0.1]

    def scored(model: InfoAE, images: NDArray[np.uint8], *_: object) -> float:
        seen.append((type(model.encoder.features).__name__, len(images)))
        return scores[len(seen) - 1]

    def compared(*_: object) -> SimpleNamespace:
        return SimpleNamespace(predicted_by_thumbnail=0.5, predicted_by_pixels=0.4 if is_trivial else 0.6)

    monkeypatch.setattr(choosing, "score", scored)
    monkeypatch.setattr(trivial, "compared", compared)
    with pytest.warns(Notice, match="suits these pictures best") as told:
        found = choosing.chosen(plan)
    assert str(found) == ("photos with augment.kind=objects" if is_trivial else "mnist with augment.kind=sound")
    assert ("1.25 nats, mnist with augment.kind=strokes: 0.50 nats" in str(told[0].message)) != is_trivial
    # The 100 that no trial saw are too few to judge by.
    assert seen == [("ConvFeatures", 200), ("ConvFeatures", 200), ("ResidualFeatures", 200)][: 3 if is_trivial else 2]


def test_every_candidate_is_a_recipe_with_a_kind_and_a_short_schedule() -> None:
    every = (*choosing.IN_PIXELS, *choosing.LEARNED)
    assert len({str(each) for each in every}) == len(every)
    for candidate in every:
        config = recipes.load(candidate.recipe, candidate.settings)
        assert config.augment.kind == candidate.kind
        learns = config.neighbours.source == "learned"
        assert learns == (candidate.representation_epochs > 0) == (candidate in choosing.LEARNED)


def test_the_score_is_the_information_between_the_answers_for_pictures_and_for_their_twins(
    lively_run: Run, mnist: tuple[ImageSet, ImageSet]
) -> None:
    model, images = InfoAE.of_run(lively_run), mnist[0].images
    x = torch.tensor(images).float() / 255
    twins = augmented(x, choosing.JUDGE, generator(3, Stream.EVALUATION)).clamp(0, 1)
    p, q = (model.classify(each).double().numpy() for each in (x, twins))
    joint = (p.T @ q + q.T @ p) / (2 * len(p))
    product = joint.sum(1)[:, None] * joint.sum(0)
    expected = float((joint * np.log(joint / product)).sum())
    assert expected > 0.01
    assert choosing.score(model, images, p, 3) == pytest.approx(expected, abs=1e-4)


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
        assert choosing.chosen(plan) == choosing.IN_PIXELS[0]


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
