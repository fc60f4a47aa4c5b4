"""The vote of several heads: whose categories are the same, and what enough of them say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infoae.config import recipes
from infoae.pseudolabels import joint, vote
from infoae.pseudolabels.vote import Ints, Votes
from infoae.trainer import Trainer
from tests.helpers.settings import WITH_HEADS


def labels_by(votes: Ints, mutual_information: Sequence[float], k: int) -> Ints:
    found = Votes(votes, np.array(mutual_information))
    return vote.labels_by_vote(found, vote.same_categories(found, k), 0.7)


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_heads_that_number_their_categories_differently_still_agree(k: int, heads: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(k).repeat(20), random.integers(k, size=50)])
    votes = np.stack([random.permutation(k)[truth] for _ in range(heads)])
    mutual_information = random.permutation(heads).tolist()
    best = mutual_information.index(heads - 1)
    assert (labels_by(votes, mutual_information, k) == votes[best]).all()
    dissent = int(random.integers(heads))
    if dissent == best:
        return
    votes[dissent, 0] = (votes[dissent, 0] + 1) % k
    labels = labels_by(votes, mutual_information, k)
    assert labels[0] == (votes[best, 0] if heads - 1 >= 0.7 * heads else -1)
    assert (labels[1:] == votes[best, 1:]).all()


def test_a_head_votes_on_the_categories_that_others_have() -> None:
    """One that has 1 and 2 in one category and 3 in two stands alone with these, even if it keeps most information."""
    truth = np.arange(400) % 4
    odd = np.where(truth == 3, np.arange(400) // 4 % 2 * 2 + 1, np.minimum(truth, 1) * 2)
    votes = Votes(np.stack([odd, truth, 3 - truth, truth]), np.array([2.0, 1.0, 1.5, 1.2]))
    numbers = vote.same_categories(votes, 4)
    assert numbers[0].tolist() == [3, -1, -1, -1]
    assert (numbers[1:] == [[3, 2, 1, 0], [0, 1, 2, 3], [3, 2, 1, 0]]).all()
    assert (vote.labels_by_vote(votes, numbers, 1.0) == 3 - truth).all()
    dissent = truth.copy()
    dissent[0] = 1  # of category 0, which all four have
    votes = Votes(np.stack([odd, truth, 3 - truth, dissent]), votes.mutual_information)
    assert np.flatnonzero(vote.labels_by_vote(votes, numbers, 1.0) < 0).tolist() == [0]


def test_three_heads_in_ten_cannot_keep_an_image_out_and_four_can() -> None:
    votes = np.tile(np.arange(200) % 4, (10, 1))
    votes[3:6, :40] = 0  # a whole kind of images
    assert (labels_by(votes, np.arange(10).tolist(), 4) == votes[0]).all()
    votes[7, :40] = 0
    labels = labels_by(votes, np.arange(10).tolist(), 4)
    assert (labels[:40] == np.where(votes[0, :40] == 0, 0, -1)).all()
    assert (labels[40:] == votes[0, 40:]).all()


@pytest.mark.parametrize(("chunk", "held"), [(70, 10**9), (70, 100), (10_000, 10**9)])
@pytest.mark.parametrize("twins", [False, True])
def test_heads_that_mix_things_up_do_not_vote(
    chunk: int, held: int, twins: bool, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three heads of known answers: two alike, one that mixes categories up; read at once, or in three chunks.

    The answers of all are held in memory, or are too many and lie on disk.

    Each image is its own neighbour, or has a twin for which the answers are the same.
    """
    monkeypatch.setattr(vote, "CHUNK", chunk)
    monkeypatch.setattr(vote, "HELD_BYTES", held)
    mapped = Mock(wraps=np.memmap)
    monkeypatch.setattr(np, "memmap", mapped)
    model = make_trainer(recipes.load("smoke", WITH_HEADS)).step.model
    truth = np.arange(200) % 10
    good, bad = np.eye(20)[truth], np.eye(20)[truth // 5]
    answers = torch.from_numpy(np.stack([good, np.roll(good, 3, 1), bad], 1)).float()
    asked: list[int] = []

    def classify_heads(images: Ints) -> torch.Tensor:
        asked.extend(images[:, 0, 0, 0].tolist())
        return classify_again(images)

    def classify_again(images: Ints) -> torch.Tensor:
        return answers[images[:, 0, 0, 0].tolist()]

    monkeypatch.setattr(model, "classify_heads", classify_heads)
    images = np.zeros((200, 1, 28, 28), np.uint8)
    images[:, 0, 0, 0] = np.arange(200)
    monkeypatch.setattr(joint, "of_partners", lambda _, mine, of: joint.of_answers(mine, classify_again(of)))
    (votes,) = vote.of_heads(model, images, None if twins else np.arange(200)[:, None])
    assert asked == list(range(200))
    assert mapped.call_count == (held == 100)
    assert votes.mutual_information == pytest.approx(np.log([10, 10, 2]))
    labels = vote.labels_by_vote(votes, vote.same_categories(votes, 10), 0.7)
    assert (labels >= 0).all()
    assert all(len(set(labels[truth == digit])) == 1 for digit in range(10))
    assert len(set(labels)) == 10


def test_the_classifier_votes_alone(make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(recipes.load("smoke", WITH_HEADS))
    monkeypatch.setattr(vote, "CHUNK", 70)
    model, images = trainer.step.evaluated_model(), trainer.images[:]
    votes = vote.of_classifier(model, images)
    assert votes.categories.shape == (1, 300)
    assert (votes.categories[0] == model.classify(images).argmax(1).numpy()).all()
