"""What several heads agree on, and training on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infoae import configuration, consensus, losses
from infoae.config import Config
from infoae.consensus import Ints, Votes
from infoae.errors import InfoAEError, UsageError
from infoae.trainer import Trainer
from tests.conftest import TINY

SETTINGS = (
    *TINY,
    "model.channels=1",
    "model.image_size=28",
    "model.num_over_categories=20",
    "model.num_heads=3",
    "information.epochs=1",
    "objective.weights.consensus=1",
)


@pytest.fixture
def with_heads() -> Config:
    return configuration.load("smoke", SETTINGS)


def agreed_by(votes: Ints, information: Sequence[float], k: int) -> Ints:
    return consensus.agreed_by(Votes(votes, np.array(information)), k, 0.7)


def test_consensus_is_the_cross_entropy_of_the_merged_answers() -> None:
    torch.manual_seed(0)
    logits, category_of = torch.randn(6, 5), torch.tensor([0, 2, 1, 0, 2])
    agreed = torch.tensor([0, 1, 2, -1, 0, -1])
    found = losses.consensus(logits, category_of, agreed)
    p = logits.double().exp().numpy()
    for row, category in enumerate(agreed.tolist()):
        inside = category_of.numpy() == category
        expected = 0.0 if category < 0 else -np.log(p[row, inside].sum() / p[row].sum())
        assert found[row].item() == pytest.approx(expected, abs=1e-5)


def test_images_without_agreement_give_no_gradient() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    losses.consensus(logits, torch.tensor([0, 0, 1, 1, 2]), torch.tensor([-1, 0, -1, 2])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.ne(0).any(1).tolist() == [False, True, False, True]


@settings(deadline=None)
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


def test_a_head_with_other_categories_does_not_vote() -> None:
    """Not even if it keeps most information: it stands alone."""
    truth = np.arange(400) % 4
    odd = np.where(truth == 3, np.arange(400) // 4 % 2 * 2 + 1, np.minimum(truth, 1) * 2)  # 1 and 2 in one, 3 in two
    agreed = agreed_by(np.stack([odd, truth, 3 - truth, truth]), [2.0, 1.0, 1.5, 1.2], 4)
    assert (agreed == 3 - truth).all()
    assert (agreed_by(np.stack([odd, truth]), [2.0, 1.0], 4) == odd).all()


def test_three_heads_in_ten_cannot_keep_an_image_out_and_four_can() -> None:
    votes = np.tile(np.arange(200) % 4, (10, 1))
    votes[3:6, :40] = 0  # a whole kind of images
    assert (agreed_by(votes, np.arange(10).tolist(), 4) == votes[0]).all()
    votes[7, :40] = 0
    agreed = agreed_by(votes, np.arange(10).tolist(), 4)
    assert (agreed[:40] == np.where(votes[0, :40] == 0, 0, -1)).all()
    assert (agreed[40:] == votes[0, 40:]).all()


def ring(count: int) -> Ints:
    """Partners of images in a ring: the one before and the one after."""
    return np.stack([np.roll(np.arange(count), shift) for shift in (1, -1)], 1)


@pytest.mark.parametrize("links", [1, 2, 3])
def test_what_all_images_within_so_many_links_have_is_certain(links: int) -> None:
    """A ring of two categories of fifty images, and an image no one agreed on."""
    agreed = np.arange(100) // 50
    agreed[25] = -1
    expected = agreed.copy()
    for odd in (0, 25, 50, 99, 49):
        reach = links if odd == 25 else links - 1
        expected[np.arange(odd - reach, odd + reach + 1) % 100] = -1
    assert (consensus.certain(agreed, ring(100), links) == expected).all()


def test_a_category_keeps_half_of_its_images() -> None:
    """A ring of categories of 80, 7 and 13 images: four links would leave 72, none and 5 of them."""
    agreed = np.repeat([0, 1, 2], [80, 7, 13])
    certain = consensus.certain(agreed, ring(100), 4)
    assert [np.flatnonzero(certain == category).tolist() for category in range(3)] == [
        list(range(4, 76)),
        list(range(81, 86)),
        list(range(90, 97)),
    ]


@given(st.integers(0, 2**16), st.integers(0, 4))
def test_certain_against_a_search_along_the_links(seed: int, links: int) -> None:
    random = np.random.default_rng(seed)
    partners, agreed = random.integers(0, 60, (60, 2)), np.where(random.random(60) < 0.05, 1, 0)

    def within(image: int, left: int) -> set[int]:
        return {image}.union(*(within(other, left - 1) for other in partners[image] if left))

    alike = np.array([all(agreed[other] == agreed[image] for other in within(image, links)) for image in range(60)])
    if all(2 * alike[agreed == each].sum() >= (agreed == each).sum() for each in set(agreed)):
        assert (consensus.certain(agreed, partners, links) == np.where(alike, agreed, -1)).all()


@given(st.integers(0, 2**16))
def test_walks_end_as_the_absorbing_chain_says(seed: int) -> None:
    """Against the power of the transition matrix of an absorbing Markov chain."""
    random = np.random.default_rng(seed)
    partners, certain = random.integers(0, 40, (40, 3)), np.where(random.random(40) < 0.5, np.arange(40) % 3, -1)
    certain[:3] = [0, 1, 2]
    step = np.zeros((40, 40))
    np.add.at(step, (np.repeat(np.arange(40), 3), partners.ravel()), 1 / 3)
    known = certain >= 0
    step[known] = np.eye(40)[known]
    chance = np.linalg.matrix_power(step, consensus.WALK)[:, known] @ np.eye(3)[certain[known]]
    chance /= np.maximum(chance.sum(1, keepdims=True), 1e-12)  # of the walks that end
    for share in (0.55, 0.8):
        found = consensus.propagate(certain, partners, 3, share)
        clear = np.abs(chance - share).min(1) > 1e-4
        assert (found[clear] == np.where(chance.max(1) >= share, chance.argmax(1), -1)[clear]).all()
        assert (found[known] == certain[known]).all()


def test_without_any_agreement_nothing_is_certain() -> None:
    nothing = np.full(10, -1)
    assert (consensus.certain(nothing, ring(10), 2) == -1).all()
    assert (consensus.propagate(nothing, ring(10), 3, 0.8) == -1).all()


def test_walks_that_end_nowhere_give_nothing() -> None:
    """The last two images are each other's partners."""
    partners = np.array([[1], [0], [1], [4], [3]])
    assert consensus.propagate(np.array([0, 0, -1, -1, -1]), partners, 2, 0.8).tolist() == [0, 0, 0, -1, -1]


def test_a_kind_that_votes_are_wrong_about_follows_its_links_outwards(
    make_trainer: Callable[..., Trainer], with_heads: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten images amid the thirty of a category are given another; settled in the trainer."""
    rule = {"information.pairs": "neighbours", "information.certain_links": 3}
    asking = configuration.replaced(with_heads, rule, "test")
    truth = np.arange(300) // 30
    said = np.tile(truth, (3, 1))
    said[:, 10:20] = 5
    monkeypatch.setattr(consensus, "of_heads", lambda *_: Votes(said, np.arange(3.0)))
    trainer = make_trainer(asking)
    trainer.partners = ring(300).astype(np.int32)
    trainer.partners[10:20, 1] = 24  # half of their links lead out, to a right one
    trainer.fit([])
    (settled,) = np.load(trainer.run.path / consensus.FILE)
    assert (settled[10:20] == 0).all()
    assert ((settled == truth) | (settled < 0)).all()
    assert (settled >= 0).mean() > 0.8


def test_each_category_keeps_an_over_category() -> None:
    """Even where every over-category is answered most for images of one category."""
    over = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.4, 0.1], [0.0, 0.0, 1.0]])
    agreed = np.array([0, 0, 1, -1])
    found = consensus.categories_of(over, agreed, 2)
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
    agreed = consensus.agreed_by(consensus.of_heads(model, images, np.arange(200)[:, None]), 10, 0.7)
    assert (agreed >= 0).all()
    assert all(len(set(agreed[truth == digit])) == 1 for digit in range(10))
    assert len(set(agreed)) == 10


@pytest.mark.parametrize("stop_after", [3, 6, 8])
def test_heads_vote_once_and_a_resumed_run_follows_the_same_vote(
    stop_after: int, make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    unbroken = make_trainer(with_heads, "unbroken")
    unbroken.fit([], should_stop=lambda: unbroken.done == 5)
    assert not (unbroken.run.path / consensus.FILE).exists()
    unbroken.fit([])
    stopped = make_trainer(with_heads, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(with_heads, "stopped")
    resumed.resume()
    resumed.fit([])
    votes = [np.load(trainer.run.path / consensus.FILE) for trainer in (unbroken, resumed)]
    assert (votes[0] == votes[1]).all()
    expected, found = (trainer.step.evaluated_model().state_dict() for trainer in (unbroken, resumed))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    logged = [line for line in unbroken.run.metrics() if "images_per_second" in line]
    assert ["loss/consensus" in line for line in logged] == [False] * 6 + [True] * 6


def test_categories_can_be_learnt_and_settled_before_images_are_drawn(
    make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    """An epoch of information, two of consensus beside it, one of everything; settled anew after each second."""
    settings = {"information.consensus_epochs": 2, "information.settle_every": 2, "train.epochs": 4}
    trainer = make_trainer(configuration.replaced(with_heads, settings, "test"))
    trainer.fit([])
    assert np.load(trainer.run.path / consensus.FILE).shape == (2, 300)
    logged = [line for line in trainer.run.metrics() if "images_per_second" in line]
    epochs = [[line for line in logged if epoch < line["epoch"] <= epoch + 1] for epoch in range(4)]
    after_the_vote, at_last = [False, True, True, True], [False, False, False, True]
    expected = {"consensus": after_the_vote, "reconstruction": after_the_vote, "decoder_generated": at_last}
    for name, there in expected.items():
        assert [{f"loss/{name}" in line for line in lines} for lines in epochs] == [{each} for each in there]
    assert trainer.run.checkpoint("best") == trainer.run.checkpoint("newest")  # before, networks draw nothing yet


def test_twins_have_no_links() -> None:
    with pytest.raises(UsageError, match=r"information.certain_links are between neighbours"):
        configuration.load("smoke", [*SETTINGS, "information.pairs=twins", "information.certain_links=2"])


@pytest.mark.parametrize("stop_after", [9, 12, 15, 18, 20])
def test_categories_are_settled_anew_and_a_resumed_run_follows(
    stop_after: int, make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    """One epoch of information and four of everything, settled after each second of them."""
    anew = configuration.replaced(with_heads, {"information.settle_every": 2, "train.epochs": 5}, "test")
    unbroken = make_trainer(anew, "unbroken")
    unbroken.fit([])
    settled = np.load(unbroken.run.path / consensus.FILE)
    assert settled.shape == (3, 300)
    assert (settled[-1] == unbroken.step.evaluated_model().classify(unbroken.images[:]).argmax(1).numpy()).all()
    stopped = make_trainer(anew, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(anew, "stopped")
    resumed.resume()
    resumed.fit([])
    assert (np.load(resumed.run.path / consensus.FILE) == settled).all()
    expected, found = (trainer.step.evaluated_model().state_dict() for trainer in (unbroken, resumed))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_a_settlement_that_was_written_before_its_checkpoint_is_written_again(
    make_trainer: Callable[..., Trainer], with_heads: Config
) -> None:
    trainer = make_trainer(with_heads)
    for settlement, category in ((1, 1), (2, 2), (3, 3), (2, 4)):
        consensus.save(trainer.run, np.full(300, category), settlement)
    assert np.load(trainer.run.path / consensus.FILE)[:, 0].tolist() == [1, 4]
    assert consensus.load(trainer.run, 300, 1, torch.device("cpu"))[0] == 1


def test_a_lost_vote_is_said(make_trainer: Callable[..., Trainer], with_heads: Config) -> None:
    trainer = make_trainer(with_heads)
    trainer.fit([], should_stop=lambda: trainer.done == 8)
    (trainer.run.path / consensus.FILE).write_bytes(b"nothing")
    with pytest.raises(InfoAEError, match=r"consensus\.npy is missing or damaged"):
        make_trainer(with_heads).resume()


@pytest.mark.parametrize("override", ["model.num_heads=1", "information.epochs=0", "model.num_over_categories=null"])
def test_a_consensus_of_nobody_is_refused(override: str) -> None:
    with pytest.raises(UsageError, match=r"weights\.consensus needs model\.num_heads above 1"):
        configuration.load("smoke", [*SETTINGS, override])
