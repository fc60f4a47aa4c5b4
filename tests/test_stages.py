"""What a schedule says of each epoch, against a count by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.config import Config, recipes
from infoae.stages import Schedule, Stage
from tests.helpers.settings import WITH_HEADS

STAGES = (
    Stage("first", range(2), ("mutual_information",), adversarial=False),
    Stage("second", range(2, 3), ("mutual_information", "pseudo_label"), adversarial=False),
    Stage("third", range(3, 7), ("reconstruction", "mutual_information"), adversarial=True),
)


def configured(*overrides: str) -> Config:
    settings = ("stages.mutual_information_epochs=2", "stages.pseudo_label_epochs=1", "train.epochs=7")
    return recipes.load("smoke", [*WITH_HEADS, *settings, *overrides])


def rows(*overrides: str) -> list[tuple[str, str, str, str]]:
    """The table without its heading."""
    heading, *found = Schedule(configured(*overrides), STAGES).table()
    assert heading == ("epochs", "stage", "learning rates", "at the end of each epoch")
    return found


def test_an_epoch_is_of_the_stage_that_holds_it_and_any_later_one_of_the_last() -> None:
    schedule = Schedule(configured(), STAGES)
    assert [schedule.stage(epoch).name for epoch in range(9)] == ["first"] * 2 + ["second"] + ["third"] * 6
    assert schedule.first_scored_epoch == 3
    assert Schedule(configured(), STAGES[2:]).first_scored_epoch == 3


@given(st.integers(1, 4), st.one_of(st.none(), st.integers(1, 5)), st.booleans(), st.integers(0, 20))
def test_pseudo_labels_are_made_by_the_vote_and_then_every_so_many_epochs(
    first: int, every: int | None, learnt: bool, epochs_done: int
) -> None:
    settings = {
        "stages.mutual_information_epochs": first,
        "pseudo_labels.refresh_every": every,
        "objective.weights.pseudo_label": float(learnt),
        "stages.pseudo_label_epochs": 0,
    }
    schedule = Schedule(recipes.replaced(configured(), settings, "test"), STAGES)
    made = 0
    for epoch in range(1, epochs_done + 1):
        voted = epoch == first
        refreshed = every is not None and epoch in range(first + every, epochs_done + 1, every)
        made += learnt and (voted or refreshed)
    assert schedule.num_pseudo_labels(epochs_done) == made


def test_what_is_done_at_the_end_of_each_epoch() -> None:
    merged = "merge over-categories"
    schedule = Schedule(configured("pseudo_labels.refresh_every=2"), STAGES)
    assert [schedule.at_end(epoch) for epoch in range(7)] == [
        (merged, "save"),
        (merged, "vote on pseudo-labels", "save"),
        (merged, "save"),
        (merged, "refresh pseudo-labels", "score", "save"),
        (merged, "score", "save"),
        (merged, "refresh pseudo-labels", "score", "save"),
        (merged, "score", "save"),
    ]


@pytest.mark.parametrize(("over", "merges"), [("10", False), ("11", True)])
def test_as_many_over_categories_as_categories_are_not_merged(over: str, merges: bool) -> None:
    schedule = Schedule(configured(f"model.num_over_categories={over}"), STAGES)
    assert ["merge over-categories" in schedule.at_end(epoch) for epoch in range(7)] == [merges] * 7


def test_their_number_is_looked_for_until_the_vote() -> None:
    found = Schedule(configured("model.num_categories=auto"), STAGES)
    given = Schedule(configured(), STAGES)
    assert [found.finds_number(epochs_done) for epochs_done in range(1, 8)] == [True] * 2 + [False] * 5
    assert not any(given.finds_number(epochs_done) for epochs_done in range(1, 8))
    asked, merged = "find the number of categories", "merge over-categories"
    assert found.at_end(0) == (asked, merged, "save")
    assert found.at_end(1) == (asked, merged, "vote on pseudo-labels", "save")
    assert found.at_end(2) == given.at_end(2) == (merged, "save")


def test_epochs_that_are_alike_are_one_row() -> None:
    assert rows("optim.decay_epochs=3") == [
        ("1", "first", "constant", "merge over-categories, save"),
        ("2", "first", "constant", "merge over-categories, vote on pseudo-labels, save"),
        ("3", "second", "constant", "merge over-categories, save"),
        ("4", "third", "constant", "merge over-categories, score, save"),
        ("5-7", "third", "falling to 0", "merge over-categories, score, save"),
    ]


@given(st.integers(0, 7), st.one_of(st.none(), st.integers(1, 4)))
def test_rows_say_of_every_epoch_what_the_schedule_says(decay: int, every: int | None) -> None:
    settings = {"optim.decay_epochs": decay, "pseudo_labels.refresh_every": every}
    schedule = Schedule(recipes.replaced(configured(), settings, "test"), STAGES)
    _, *found = schedule.table()
    epochs: list[int] = []
    for numbers, stage, rates, at_end in found:
        first, _, last = numbers.partition("-")
        for epoch in range(int(first) - 1, int(last or first)):
            epochs.append(epoch)
            assert stage == schedule.stage(epoch).name
            assert rates == ("falling to 0" if epoch >= 7 - decay else "constant")
            assert at_end == ", ".join(schedule.at_end(epoch))
    assert epochs == list(range(7))
    assert all(one[1:] != other[1:] for one, other in pairwise(found))  # rows differ


def test_each_loss_is_told_with_its_weight() -> None:
    schedule = Schedule(configured("objective.weights.mutual_information=2.50"), STAGES)
    assert list(schedule.weights()) == [
        ("first", "mutual_information 2.5"),
        ("second", "mutual_information 2.5, pseudo_label 1"),
        ("third", "reconstruction 1, mutual_information 2.5"),
    ]
