"""Recipes tried on some of the pictures: judged by one measure, without a label, and told."""

from __future__ import annotations

from pathlib import Path

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
    of_a_kind = (Candidate("mnist", "strokes", 0, 1), Candidate("photos", "objects", 1, 1))
    monkeypatch.setattr(choosing, "CANDIDATES", of_a_kind)


@pytest.mark.usefixtures("quick")
def test_the_best_of_what_was_tried_is_chosen_and_told(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[type, int]] = []

    def scored(model: InfoAE, images: NDArray[np.uint8], _seed: int) -> float:
        seen.append((type(model.encoder.features), len(images)))
        return [0.5, 1.25][len(seen) - 1]

    monkeypatch.setattr(choosing, "score", scored)
    with pytest.warns(Notice, match=r"photos with augment.kind=objects suits these pictures best: .* 1.25 nats .*0.50"):
        found = choosing.chosen(plan)
    assert (found.recipe, found.settings) == ("photos", ["augment.kind=objects"])
    assert [kind.__name__ for kind, _ in seen] == ["ConvFeatures", "ResidualFeatures"]
    assert [count for _, count in seen] == [200, 200]  # the 100 that no trial saw are too few to judge by


def test_every_candidate_is_a_recipe_with_a_kind_and_a_short_schedule() -> None:
    assert len({str(each) for each in choosing.CANDIDATES}) == len(choosing.CANDIDATES)
    for candidate in choosing.CANDIDATES:
        config = recipes.load(candidate.recipe, candidate.settings)
        assert config.augment.kind == candidate.kind
        learns = config.neighbours.source == "learned"
        assert learns == (candidate.representation_epochs > 0)


def information(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    joint = (p.T @ q + q.T @ p) / (2 * len(p))
    product = joint.sum(1)[:, None] * joint.sum(0)
    return float((joint * np.log(joint / product)).sum())


def test_the_score_is_the_information_beyond_that_of_a_thumbnail(
    lively_run: Run, mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = InfoAE.of_run(lively_run), mnist[0].images
    x = torch.tensor(images).float() / 255
    twins = augmented(x, choosing.JUDGE, generator(3, Stream.EVALUATION)).clamp(0, 1)
    p, q = (model.classify(each).double().numpy() for each in (x, twins))
    halves = (np.arange(300) % 2).astype(np.int64)
    monkeypatch.setattr(choosing.trivial, "k_means", lambda *_: (halves, halves[:1]))
    monkeypatch.setattr(choosing, "SHUFFLES", 200)
    random = np.random.default_rng(0)
    expected = 0.0
    for half in (0, 1):
        first, second = p[half::2], q[half::2]
        chance = np.mean([information(first, second[random.permutation(150)]) for _ in range(200)])
        expected += (information(first, second) - float(chance)) / 2
    assert expected > 0.01
    assert choosing.score(model, images, 3) == pytest.approx(expected, rel=0.05)


def test_answers_that_a_thumbnail_tells_have_nothing_in_common_beyond_it(
    lively_run: Run, mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = InfoAE.of_run(lively_run), mnist[0].images
    tiny = choosing.trivial.thumbnails(torch.tensor(images).float() / 255)
    cluster_of = choosing.trivial.k_means(tiny, tiny[:1], choosing.CLUSTERS, 0)[0]
    told = torch.nn.functional.one_hot(torch.tensor(cluster_of % 10), 10).float()
    monkeypatch.setattr(model, "classify", lambda x: told[: len(x)])
    assert abs(choosing.score(model, images, 0)) < 1e-9


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
