"""InfoAE's stages, and that training does what its schedule says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from infoae.config import Config, recipes
from infoae.methods.registry import METHODS
from infoae.methods.schedules import CRITIC_LOSSES, MODEL_LOSSES, SCHEDULES, schedule_of
from infoae.model import InfoAE
from infoae.pseudolabels import merging, vote
from infoae.runs import checkpoint
from infoae.runs.run import PSEUDO_LABELS
from infoae.trainer import Metrics, Moment, Trainer
from tests.helpers.settings import TINY, WITH_HEADS

ALL = (*MODEL_LOSSES, *CRITIC_LOSSES)
ON_LATENTS = {"mutual_information", "latent_matching"}
LEARNT = ON_LATENTS | {"pseudo_label", "reconstruction"}


def staged(first: int, second: int, last: int, **weights: float) -> Config:
    settings = {
        "stages.mutual_information_epochs": first,
        "stages.pseudo_label_epochs": second,
        "train.epochs": first + second + last,
    }
    of_losses = {f"objective.weights.{name}": weight for name, weight in weights.items()}
    return recipes.replaced(recipes.load("smoke", WITH_HEADS), settings | of_losses, "test")


def test_every_method_has_a_schedule() -> None:
    assert set(METHODS) == set(SCHEDULES)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5))
def test_stages_follow_each_other_and_those_of_no_epoch_are_left_out(first: int, second: int, last: int) -> None:
    if not first:
        second = 0  # the heads vote at the end of the first
    schedule = schedule_of(staged(first, second, last, pseudo_label=float(bool(first)), latent_matching=1))
    lengths = {"mutual_information": first, "pseudo_labels": second, "adversarial": last}
    assert [stage.name for stage in schedule.stages] == [name for name, length in lengths.items() if length]
    assert [epoch for stage in schedule.stages for epoch in stage.epochs] == list(range(first + second + last))
    assert [len(stage.epochs) for stage in schedule.stages] == [length for length in lengths.values() if length]
    assert [stage.adversarial for stage in schedule.stages] == [False] * (len(schedule.stages) - 1) + [True]
    assert schedule.first_scored_epoch == first + second


def test_each_stage_has_its_losses() -> None:
    schedule = schedule_of(staged(1, 1, 1, **dict.fromkeys(ALL, 0.5)))
    assert [set(stage.losses) for stage in schedule.stages] == [ON_LATENTS, LEARNT, set(ALL)]


@pytest.mark.parametrize("name", sorted(set(ALL) - {"mutual_information", "pseudo_label"}))
def test_a_loss_of_weight_zero_is_in_no_stage(name: str) -> None:
    schedule = schedule_of(staged(1, 1, 1, **dict.fromkeys(ALL, 0.5) | {name: 0.0}))
    assert [set(stage.losses) for stage in schedule.stages] == [
        each - {name} for each in (ON_LATENTS, LEARNT, set(ALL))
    ]


def test_the_tables_of_the_recipes() -> None:
    merged, voted, refreshed = "merge over-categories", "vote on pseudo-labels", "refresh pseudo-labels"
    assert list(schedule_of(recipes.load("mnist-paper")).table())[1:] == [
        ("1-15", "adversarial", "constant", "score, save"),
        ("16-20", "adversarial", "falling to 0", "score, save"),
    ]
    assert list(schedule_of(recipes.load("mnist")).table())[1:] == [
        ("1-14", "mutual_information", "constant", f"{merged}, save"),
        ("15", "mutual_information", "constant", f"{merged}, {voted}, save"),
        ("16-19", "pseudo_labels", "constant", f"{merged}, save"),
        ("20-22", "adversarial", "constant", f"{merged}, score, save"),
        ("23-30", "adversarial", "falling to 0", f"{merged}, score, save"),
    ]
    best = list(schedule_of(recipes.load("mnist-best")).table())[1:]
    assert best[:4] == [
        ("1-14", "mutual_information", "constant", f"{merged}, save"),
        ("15", "mutual_information", "constant", f"{merged}, {voted}, save"),
        ("16-19", "pseudo_labels", "constant", f"{merged}, save"),
        ("20", "pseudo_labels", "constant", f"{merged}, {refreshed}, save"),
    ]
    assert best[-1] == ("50", "adversarial", "falling to 0", f"{merged}, {refreshed}, score, save")
    assert [row[0] for row in best if refreshed in row[3]] == ["20", "25", "30", "35", "40", "45", "50"]
    assert next(row[0] for row in best if row[1] == "adversarial") == "31-34"


class Witness:
    """A reporter that notes what the trainer did at the end of each epoch, in order, as the schedule words it."""

    def __init__(self, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trainer = trainer
        self.done: list[str] = []
        self.epochs: list[tuple[str, ...]] = []
        self.labels: list[int] = []
        """How often pseudo-labels were made by the end of each epoch."""
        self.losses: list[set[str]] = []
        """Of each step."""
        self.rates: list[float] = []
        """The model's learning rate at each step, over the configured one."""
        self.watch(monkeypatch, merging, "choose_number", "find the number of categories")
        self.watch(monkeypatch, InfoAE, "merge", "merge over-categories")
        self.watch(monkeypatch, vote, "of_heads", "vote on pseudo-labels")
        self.watch(monkeypatch, vote, "of_classifier", "refresh pseudo-labels")

    def watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, words: str) -> None:
        original = getattr(owner, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            self.done.append(words)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)

    def stepped(self, moment: Moment) -> None:
        player = self.trainer.step._players[0]
        self.rates.append(player.optimizer.param_groups[0]["lr"] / player.side.groups[0][1])

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        self.losses.append({name.removeprefix("loss/") for name in metrics if name.startswith("loss/")})

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        pass

    def saved(self, moment: Moment) -> None:
        saved = checkpoint.read(self.trainer.run.checkpoint("newest"))
        self.done += ["score"] * (saved.score is not None) + ["save"]
        self.epochs.append(tuple(dict.fromkeys(self.done)))  # merging anew by the labels is part of making them
        self.done.clear()
        path = self.trainer.run.path / PSEUDO_LABELS
        self.labels.append(len(np.load(path)) if path.exists() else 0)


def test_infogan_generates_first() -> None:
    settings = ["stages.generation_epochs=2", "train.epochs=5", "optim.decay_epochs=1"]
    schedule = schedule_of(recipes.load("infogan", settings))
    assert [set(stage.losses) for stage in schedule.stages] == [
        {"generator", "discriminator"},
        {"generator", "discriminator", "category_information", "continuous_information"},
    ]
    assert list(schedule.table())[1:] == [
        ("1-2", "generation", "constant", "score, save"),
        ("3-4", "adversarial", "constant", "score, save"),
        ("5", "adversarial", "falling to 0", "score, save"),
    ]


EVERYTHING = (*WITH_HEADS, "stages.mutual_information_epochs=2", "objective.weights.latent_matching=1")


@pytest.mark.parametrize(
    "settings",
    [
        TINY,
        (*TINY, "model.num_over_categories=20", "optim.decay_epochs=2"),
        (*EVERYTHING, "stages.pseudo_label_epochs=2", "train.epochs=6", "optim.decay_epochs=3"),
        (*EVERYTHING, "pseudo_labels.refresh_every=2", "stages.pseudo_label_epochs=1", "train.epochs=6"),
        (*EVERYTHING, "model.num_categories=auto", "pseudo_labels.refresh_every=1", "train.epochs=4"),
    ],
    ids=["one stage", "merged", "three stages", "refreshed", "number found"],
)
def test_training_does_what_its_schedule_says(
    settings: tuple[str, ...], make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(recipes.load("smoke", [*settings, "train.log_every=1"]))
    schedule, epochs = schedule_of(trainer.config), range(trainer.config.train.epochs)
    witness = Witness(trainer, monkeypatch)
    assert trainer.fit([witness])

    assert witness.epochs == [schedule.at_end(epoch) for epoch in epochs]
    assert witness.labels == [schedule.num_pseudo_labels(epoch + 1) for epoch in epochs]
    scored = ["score" in each for each in witness.epochs]
    assert scored == [epoch >= schedule.first_scored_epoch for epoch in epochs]
    steps = trainer.steps_per_epoch
    for epoch in epochs:
        of_epoch = slice(epoch * steps, (epoch + 1) * steps)
        assert witness.losses[of_epoch] == [set(schedule.stage(epoch).losses)] * steps
        falls = [epoch >= len(epochs) - trainer.config.optim.decay_epochs] * (steps - 1)
        assert [rate < 1 for rate in witness.rates[of_epoch][1:]] == falls  # the first step still takes all of it
