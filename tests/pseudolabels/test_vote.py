"""What several heads agree on, and training on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infoae import losses
from infoae.config import Config, Information, recipes
from infoae.errors import InfoAEError, UsageError
from infoae.pseudolabels import vote
from infoae.pseudolabels.vote import Ints, Votes
from infoae.trainer import Trainer
from tests.helpers.settings import WITH_HEADS
from tests.helpers.synthetic import ring


@pytest.fixture
def with_heads() -> Config:
    return recipes.load("smoke", WITH_HEADS)


def agreed_by(votes: Ints, information: Sequence[float], k: int) -> Ints:
    found = Votes(votes, np.array(information))
    return vote.labels_by_vote(found, vote.same_categories(found, k), 0.7)


def test_consensus_is_the_cross_entropy_of_the_merged_answers() -> None:
    torch.manual_seed(0)
    logits, category_of = torch.randn(6, 5), torch.tensor([0, 2, 1, 0, 2])
    agreed = torch.tensor([0, 1, 2, -1, 0, -1])
    found = losses.pseudo_label(logits, category_of, agreed)
    p = logits.double().exp().numpy()
    for row, category in enumerate(agreed.tolist()):
        inside = category_of.numpy() == category
        expected = 0.0 if category < 0 else -np.log(p[row, inside].sum() / p[row].sum())
        assert found[row].item() == pytest.approx(expected, abs=1e-5)


def test_images_without_agreement_give_no_gradient() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    losses.pseudo_label(logits, torch.tensor([0, 0, 1, 1, 2]), torch.tensor([-1, 0, -1, 2])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.ne(0).any(1).tolist() == [False, True, False, True]


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_heads_that_number_their_categories_differently_still_agree(k: int, heads: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(k).repeat(20), random.integers(k, size=50)])
    votes = np.stack([random.permutation(k)[truth] for _ in range(heads)])
    information = random.permutation(heads).tolist()
    best = information.index(heads - 1)
    assert (agreed_by(votes, information, k) == votes[best]).all()
    dissent = int(random.integers(heads))
    if dissent == best:
        return
    votes[dissent, 0] = (votes[dissent, 0] + 1) % k
    agreed = agreed_by(votes, information, k)
    assert agreed[0] == (votes[best, 0] if heads - 1 >= 0.7 * heads else -1)
    assert (agreed[1:] == votes[best, 1:]).all()


def test_a_head_votes_on_the_categories_that_others_have() -> None:
    """One that has 1 and 2 in one category and 3 in two stands alone with these, even if it keeps most information."""
    truth = np.arange(400) % 4
    odd = np.where(truth == 3, np.arange(400) // 4 % 2 * 2 + 1, np.minimum(truth, 1) * 2)
    votes = Votes(np.stack([odd, truth, 3 - truth, truth]), np.array([2.0, 1.0, 1.5, 1.2]))
    numbers = vote.same_categories(votes, 4)
    assert numbers[0].tolist() == [3, -1, -1, -1]
    assert (numbers[1:] == [[3, 2, 1, 0], [0, 1, 2, 3], [3, 2, 1, 0]]).all()
    assert (vote.labels_by_vote(votes, numbers, 1.0) == 3 - truth).all()
    settled, measures = labels_of(votes, 4, Information(agreement=1.0))
    assert (settled == 3 - truth).all()
    assert measures == {"labelled": 1.0, "heads_agreeing": 13 / 16}
    dissent = truth.copy()
    dissent[0] = 1  # of category 0, which all four have
    votes = Votes(np.stack([odd, truth, 3 - truth, dissent]), votes.information)
    assert np.flatnonzero(vote.labels_by_vote(votes, numbers, 1.0) < 0).tolist() == [0]


def test_three_heads_in_ten_cannot_keep_an_image_out_and_four_can() -> None:
    votes = np.tile(np.arange(200) % 4, (10, 1))
    votes[3:6, :40] = 0  # a whole kind of images
    assert (agreed_by(votes, np.arange(10).tolist(), 4) == votes[0]).all()
    votes[7, :40] = 0
    agreed = agreed_by(votes, np.arange(10).tolist(), 4)
    assert (agreed[:40] == np.where(votes[0, :40] == 0, 0, -1)).all()
    assert (agreed[40:] == votes[0, 40:]).all()


def test_a_kind_that_votes_are_wrong_about_follows_its_links_outwards(
    make_trainer: Callable[..., Trainer], with_heads: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten images amid the thirty of a category are given another; settled in the trainer."""
    rule = {"objective.pairs": "neighbours", "pseudo_labels.anchor_hops": 3}
    asking = recipes.replaced(with_heads, rule, "test")
    truth = np.arange(300) // 30
    said = np.tile(truth, (3, 1))
    said[:, 10:20] = 5
    monkeypatch.setattr(vote, "of_heads", lambda *_: Votes(said, np.arange(3.0)))
    trainer = make_trainer(asking)
    trainer.partners = ring(300).astype(np.int32)
    trainer.partners[10:20, 1] = 24  # half of their links lead out, to a right one
    trainer.fit([])
    (settled,) = np.load(trainer.run.path / PSEUDO_LABELS)
    assert (settled[10:20] == 0).all()
    assert ((settled == truth) | (settled < 0)).all()
    assert (settled >= 0).mean() > 0.8


def test_each_category_keeps_an_over_category() -> None:
    """Even where every over-category is answered most for images of one category."""
    over = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.4, 0.1], [0.0, 0.0, 1.0]])
    agreed = np.array([0, 0, 1, -1])
    found = pseudo_labels.categories_of(over, agreed, 2)
    assert set(found.tolist()) == {0, 1}
    assert found[2] == 1


def test_heads_that_mix_things_up_do_not_vote(
    make_trainer: Callable[..., Trainer], with_heads: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three heads of known answers: two alike, one that mixes categories up."""
    model = make_trainer(with_heads).step.model
    truth = np.arange(200) % 10
    good, bad = np.eye(20)[truth], np.eye(20)[truth // 5]
    answers = torch.from_numpy(np.stack([good, np.roll(good, 3, 1), bad], 1)).float()
    monkeypatch.setattr(model, "classify_heads", lambda images: answers[: len(images)])
    images = np.zeros((200, 1, 28, 28), np.uint8)
    votes = vote.of_heads(model, images, np.arange(200)[:, None])
    agreed = vote.labels_by_vote(votes, vote.same_categories(votes, 10), 0.7)
    assert (agreed >= 0).all()
    assert all(len(set(agreed[truth == digit])) == 1 for digit in range(10))
    assert len(set(agreed)) == 10


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
    (voted,) = (line for line in resumed.run.metrics() if "evaluation/labelled" in line)
    assert 0 <= voted["evaluation/labelled"] <= 1
    assert 1 / 3 <= voted["evaluation/heads_agreeing"] <= 1  # it has its own
    balanced = [
        "evaluation/balance" in line for line in resumed.run.metrics() if "evaluation/mutual_information" in line
    ]
    assert len(balanced) == 2
    assert all(balanced)
    votes = [np.load(trainer.run.path / PSEUDO_LABELS) for trainer in (unbroken, resumed)]
    assert (votes[0] == votes[1]).all()
    expected, found = (trainer.step.evaluated_model().state_dict() for trainer in (unbroken, resumed))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    logged = [line for line in unbroken.run.metrics() if "images_per_second" in line]
    assert ["loss/consensus" in line for line in logged] == [False] * 6 + [True] * 6


def test_categories_can_be_learnt_and_settled_before_images_are_drawn(
    make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    """An epoch of information, two of consensus beside it, one of everything; settled anew after each second."""
    settings = {"stages.pseudo_label_epochs": 2, "pseudo_labels.refresh_every": 2, "train.epochs": 4}
    trainer = make_trainer(recipes.replaced(with_heads, settings, "test"))
    trainer.fit([])
    assert np.load(trainer.run.path / PSEUDO_LABELS).shape == (2, 300)
    logged = [line for line in trainer.run.metrics() if "images_per_second" in line]
    epochs = [[line for line in logged if epoch < line["epoch"] <= epoch + 1] for epoch in range(4)]
    after_the_vote, at_last = [False, True, True, True], [False, False, False, True]
    expected = {"consensus": after_the_vote, "reconstruction": after_the_vote, "decoder_generated": at_last}
    for name, there in expected.items():
        assert [{f"loss/{name}" in line for line in lines} for lines in epochs] == [{each} for each in there]
    assert trainer.run.checkpoint("best") == trainer.run.checkpoint("newest")  # before, networks draw nothing yet


def test_twins_have_no_links() -> None:
    with pytest.raises(UsageError, match=r"pseudo_labels.anchor_hops are between neighbours"):
        recipes.load("smoke", [*WITH_HEADS, "objective.pairs=twins", "pseudo_labels.anchor_hops=2"])


@pytest.mark.parametrize("stop_after", [9, 12, 15, 18, 20])
def test_categories_are_settled_anew_and_a_resumed_run_follows(
    stop_after: int, make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    """One epoch of information and four of everything, settled after each second of them."""
    anew = recipes.replaced(with_heads, {"pseudo_labels.refresh_every": 2, "train.epochs": 5}, "test")
    unbroken = make_trainer(anew, "unbroken")
    unbroken.fit([])
    settled = np.load(unbroken.run.path / PSEUDO_LABELS)
    assert settled.shape == (3, 300)
    assert (settled[-1] == unbroken.step.evaluated_model().classify(unbroken.images[:]).argmax(1).numpy()).all()
    stopped = make_trainer(anew, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(anew, "stopped")
    resumed.resume()
    resumed.fit([])
    assert (np.load(resumed.run.path / PSEUDO_LABELS) == settled).all()
    expected, found = (trainer.step.evaluated_model().state_dict() for trainer in (unbroken, resumed))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_a_settlement_that_was_written_before_its_checkpoint_is_written_again(
    make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    trainer = make_trainer(with_heads)
    for settlement, category in ((1, 1), (2, 2), (3, 3), (2, 4)):
        pseudo_labels.save(trainer.run, np.full(300, category), settlement)
    assert np.load(trainer.run.path / PSEUDO_LABELS)[:, 0].tolist() == [1, 4]
    assert pseudo_labels.load(trainer.run, 300, 1, torch.device("cpu"))[0] == 1


def test_a_lost_vote_is_said(make_trainer: Callable[..., Trainer], with_heads: Config) -> None:
    trainer = make_trainer(with_heads)
    trainer.fit([], should_stop=lambda: trainer.done == 8)
    (trainer.run.path / PSEUDO_LABELS).write_bytes(b"nothing")
    with pytest.raises(InfoAEError, match=r"consensus\.npy is missing or damaged"):
        make_trainer(with_heads).resume()


@pytest.mark.parametrize(
    "override", ["model.num_heads=1", "stages.mutual_information_epochs=0", "model.num_over_categories=null"]
)
def test_a_consensus_of_nobody_is_refused(override: str) -> None:
    with pytest.raises(UsageError, match=r"weights\.consensus needs model\.num_heads above 1"):
        recipes.load("smoke", [*WITH_HEADS, override])
