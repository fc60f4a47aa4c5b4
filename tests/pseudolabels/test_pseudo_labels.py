"""Pseudo-labels of a training: made by the vote, propagated, refreshed, kept in the run's folder and learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from infoae.config import Config, recipes
from infoae.config import PseudoLabels as Rule
from infoae.errors import InfoAEError, UsageError
from infoae.pseudolabels import pairs, pseudo_labels, vote
from infoae.pseudolabels.vote import Votes
from infoae.runs.run import OLD_PSEUDO_LABELS, PSEUDO_LABELS
from infoae.trainer import Trainer
from tests.helpers.settings import WITH_HEADS
from tests.helpers.synthetic import ring


@pytest.fixture
def with_heads() -> Config:
    return recipes.load("smoke", WITH_HEADS)


def different_weights(one: Trainer, other: Trainer) -> list[str]:
    """Names of the weights in which two trainers' evaluated models differ."""
    expected, found = (trainer.step.evaluated_model().state_dict() for trainer in (one, other))
    return [name for name in expected if not torch.equal(expected[name], found[name])]


def test_how_many_images_and_heads_have_a_label_is_measured() -> None:
    """One head has only the first of four categories that three others have."""
    truth = np.arange(400) % 4
    odd = np.where(truth == 3, np.arange(400) // 4 % 2 * 2 + 1, np.minimum(truth, 1) * 2)
    votes = Votes(np.stack([odd, truth, 3 - truth, truth]), np.array([2.0, 1.0, 1.5, 1.2]))
    labels, measures = pseudo_labels.labels_of(votes, 4, Rule(agreement=1.0))
    assert (labels == 3 - truth).all()
    assert measures == {"pseudo_labelled": 1.0, "heads_agreeing": 13 / 16}
    votes.categories[3, :100] = (truth[:100] + 1) % 4
    labels, measures = pseudo_labels.labels_of(votes, 4, Rule(agreement=1.0))
    assert (labels == np.where(np.arange(400) < 100, -1, 3 - truth)).all()
    assert measures == {"pseudo_labelled": 0.75, "heads_agreeing": 13 / 16}


def test_a_kind_that_votes_are_wrong_about_follows_its_neighbours_outwards(
    make_trainer: Callable[..., Trainer], with_heads: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten images amid the thirty of a category are given another; their labels are made by the trainer."""
    settings = {"objective.pairs": "neighbours", "neighbours.count": 2, "pseudo_labels.anchor_hops": 3}
    truth = np.arange(300) // 30
    said = np.tile(truth, (3, 1))
    said[:, 10:20] = 5
    graph = ring(300).astype(np.int32)
    graph[10:20, 1] = 24  # half of their neighbours are others, with a right label
    monkeypatch.setattr(vote, "of_heads", lambda *_: [Votes(said, np.arange(3.0))])
    monkeypatch.setattr(pairs, "nearest_neighbours", lambda *_, **__: graph)
    trainer = make_trainer(recipes.replaced(with_heads, settings, "test"))
    trainer.fit([])
    (labels,) = np.load(trainer.run.path / PSEUDO_LABELS)
    assert (labels[10:20] == 0).all()
    assert ((labels == truth) | (labels < 0)).all()
    assert (labels >= 0).mean() > 0.8


def test_each_category_keeps_an_over_category() -> None:
    """Even where every over-category is answered most for images of one category."""
    over = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.4, 0.1], [0.0, 0.0, 1.0]])
    labels = np.array([0, 0, 1, -1])
    found = pseudo_labels.categories_of(over, labels, 2)
    assert set(found.tolist()) == {0, 1}
    assert found[2] == 1


@pytest.mark.parametrize("stop_after", [3, 6, 8])
def test_heads_vote_once_and_a_resumed_run_follows_the_same_vote(
    stop_after: int, make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    unbroken = make_trainer(with_heads, "unbroken")
    unbroken.fit([], should_stop=lambda: unbroken.done == 5)
    assert not (unbroken.run.path / PSEUDO_LABELS).exists()
    unbroken.fit([])
    stopped = make_trainer(with_heads, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(with_heads, "stopped")
    resumed.resume()
    resumed.fit([])
    (voted,) = (line for line in resumed.run.metrics() if "evaluation/pseudo_labelled" in line)
    assert 0 <= voted["evaluation/pseudo_labelled"] <= 1
    assert 1 / 3 <= voted["evaluation/heads_agreeing"] <= 1  # it has its own
    balanced = [
        "evaluation/balance" in line for line in resumed.run.metrics() if "evaluation/mutual_information" in line
    ]
    assert len(balanced) == 2
    assert all(balanced)
    votes = [np.load(trainer.run.path / PSEUDO_LABELS) for trainer in (unbroken, resumed)]
    assert (votes[0] == votes[1]).all()
    assert different_weights(unbroken, resumed) == []
    logged = [line for line in unbroken.run.metrics() if "images_per_second" in line]
    assert ["loss/pseudo_label" in line for line in logged] == [False] * 6 + [True] * 6


def test_pseudo_labels_can_be_learnt_and_refreshed_before_images_are_drawn(
    make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    """An epoch of mutual information, two of pseudo-labels, one of everything; refreshed after each second."""
    settings = {"stages.pseudo_label_epochs": 2, "pseudo_labels.refresh_every": 2, "train.epochs": 4}
    trainer = make_trainer(recipes.replaced(with_heads, settings, "test"))
    trainer.fit([])
    assert np.load(trainer.run.path / PSEUDO_LABELS).shape == (2, 300)
    logged = [line for line in trainer.run.metrics() if "images_per_second" in line]
    epochs = [[line for line in logged if epoch < line["epoch"] <= epoch + 1] for epoch in range(4)]
    after_the_vote, at_last = [False, True, True, True], [False, False, False, True]
    expected = {"pseudo_label": after_the_vote, "reconstruction": after_the_vote, "decoder_generated": at_last}
    for name, there in expected.items():
        assert [{f"loss/{name}" in line for line in lines} for lines in epochs] == [{each} for each in there]
    assert trainer.run.checkpoint("best") == trainer.run.checkpoint("newest")  # before, networks draw nothing yet


@pytest.mark.parametrize("stop_after", [12, 18, *(pytest.param(step, marks=pytest.mark.slow) for step in (9, 15, 20))])
def test_pseudo_labels_are_refreshed_and_a_resumed_run_follows(
    stop_after: int, make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    """One epoch of mutual information and four of everything, refreshed after each second of them."""
    refreshed = recipes.replaced(with_heads, {"pseudo_labels.refresh_every": 2, "train.epochs": 5}, "test")
    unbroken = make_trainer(refreshed, "unbroken")
    unbroken.fit([])
    labels = np.load(unbroken.run.path / PSEUDO_LABELS)
    assert labels.shape == (3, 300)
    assert (labels[-1] == unbroken.step.evaluated_model().classify(unbroken.images[:]).argmax(1).numpy()).all()
    stopped = make_trainer(refreshed, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(refreshed, "stopped")
    resumed.resume()
    resumed.fit([])
    assert (np.load(resumed.run.path / PSEUDO_LABELS) == labels).all()
    assert different_weights(unbroken, resumed) == []


def test_going_back_takes_the_labels_of_then(make_trainer: Callable[..., Trainer], with_heads: Config) -> None:
    """Of an image and its partner, by their indices; before the vote there are none."""
    refreshed = recipes.replaced(with_heads, {"pseudo_labels.refresh_every": 1, "train.epochs": 3}, "test")
    trainer = make_trainer(refreshed)
    kept = np.stack([np.arange(300) % (7 + version) - 1 for version in range(3)])
    for version, labels in enumerate(kept, start=1):
        pseudo_labels.save(trainer.run, labels, version)
    images, partners = np.array([4, 250, 3]), np.array([0, 299, 3])
    for epochs_done in (3, 1, 2):
        trainer.pseudo_labels.restore(epochs_done)
        found = trainer.pseudo_labels.of(images, partners)
        assert found is not None
        assert (found.numpy() == kept[epochs_done - 1][[images, partners]]).all()
        assert trainer.pseudo_labels.version == epochs_done
    trainer.pseudo_labels.restore(0)
    assert trainer.pseudo_labels.of(images, partners) is None
    assert trainer.pseudo_labels.version == 0


def test_labels_that_were_written_before_their_checkpoint_are_written_again(
    make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    trainer = make_trainer(with_heads)
    for version, category in ((1, 1), (2, 2), (3, 3), (2, 4)):
        pseudo_labels.save(trainer.run, np.full(300, category), version)
    assert np.load(trainer.run.path / PSEUDO_LABELS)[:, 0].tolist() == [1, 4]
    assert pseudo_labels.load(trainer.run, 300, 1, torch.device("cpu"))[0] == 1


def test_labels_of_a_run_of_version_0_1_are_read_and_go_on_in_the_new_file(
    make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    refreshed = recipes.replaced(with_heads, {"pseudo_labels.refresh_every": 1, "train.epochs": 3}, "test")
    unbroken, old = make_trainer(refreshed, "unbroken"), make_trainer(refreshed, "old")
    unbroken.fit([])
    old.fit([], should_stop=lambda: old.done == 8)
    first = np.load(old.run.path / PSEUDO_LABELS)
    (old.run.path / PSEUDO_LABELS).rename(old.run.path / OLD_PSEUDO_LABELS)
    resumed = make_trainer(refreshed, "old")
    resumed.resume()
    resumed.fit([])
    labels = np.load(resumed.run.path / PSEUDO_LABELS)
    assert (labels == np.load(unbroken.run.path / PSEUDO_LABELS)).all()
    assert (labels[:1] == first).all()
    assert different_weights(unbroken, resumed) == []


def test_lost_labels_are_said(make_trainer: Callable[..., Trainer], with_heads: Config) -> None:
    trainer = make_trainer(with_heads)
    trainer.fit([], should_stop=lambda: trainer.done == 8)
    (trainer.run.path / PSEUDO_LABELS).write_bytes(b"nothing")
    with pytest.raises(InfoAEError, match=r"pseudo_labels\.npy is missing or damaged"):
        make_trainer(with_heads).resume()


def test_twins_have_no_hops() -> None:
    with pytest.raises(UsageError, match=r"pseudo_labels.anchor_hops are between neighbours"):
        recipes.load("smoke", [*WITH_HEADS, "objective.pairs=twins", "pseudo_labels.anchor_hops=2"])


@pytest.mark.parametrize(
    "override", ["model.num_heads=1", "stages.mutual_information_epochs=0", "model.num_over_categories=null"]
)
def test_pseudo_labels_of_nobody_are_refused(override: str) -> None:
    with pytest.raises(UsageError, match=r"weights\.pseudo_label needs model\.num_heads above 1"):
        recipes.load("smoke", [*WITH_HEADS, override])


@pytest.mark.parametrize(("unlabelled", "taken"), [((60, 39), 1), ((60, 41), 0), ((0, 0), 0)])
def test_heads_merge_by_distinctness_where_that_leaves_a_third_fewer_images_without_a_label(
    unlabelled: tuple[int, int],
    taken: int,
    make_trainer: Callable[..., Trainer],
    with_heads: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Heads that differ about the first so many images, by either criterion, and answer the same for the others."""
    truth = np.arange(300) % 10
    made = []
    for number in unlabelled:
        said = np.tile(truth, (3, 1))
        for head in (1, 2):
            said[head, :number] = (truth[:number] + head) % 10
        made.append(Votes(said, np.arange(3.0)))
    asked: list[Sequence[str]] = []

    def of_heads(*given: Any) -> list[Votes]:
        asked.append(given[3])
        return made

    monkeypatch.setattr(vote, "of_heads", of_heads)
    trainer = make_trainer(recipes.replaced(with_heads, {"pseudo_labels.merging": "auto"}, "test"))
    trainer.fit([])
    assert asked == [("mutual_information", "distinctness")]
    (labels,) = np.load(trainer.run.path / PSEUDO_LABELS)
    assert (labels < 0).sum() == unlabelled[taken]
