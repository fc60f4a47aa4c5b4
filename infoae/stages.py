"""The stages of a training: which losses its epochs minimise, and what is done when an epoch ends.

`Schedule.epochs` answers what happens in any epoch; `infoae config show RECIPE` prints it as a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from infoae.config import Config


@dataclass(frozen=True)
class Stage:
    """Some epochs of a training that compute the same."""

    name: str
    epochs: range
    """Counted from 0."""
    losses: tuple[str, ...]
    """Names of the losses that are computed; the weight of each is above 0."""
    adversarial: bool
    """Whether images are generated and judged. An epoch without has no score, and its x is augmented, too."""
    on_learned_features: bool = False
    """Whether the encoder is given the features that it has learnt. They stay as they are, and nothing is augmented."""
    answers: bool = True
    """Whether what answers is trained, so that the answers say something."""


@dataclass(frozen=True)
class Schedule:
    """The stages of one configuration, in order, and when its pseudo-labels are made."""

    config: Config
    stages: tuple[Stage, ...]

    def stage(self, epoch: int) -> Stage:
        """Return the stage of an epoch, counted from 0; the last one's for any after it."""
        return next((stage for stage in self.stages if epoch in stage.epochs), self.stages[-1])

    def decay_end(self, epoch: int) -> int:
        """Return at the end of which epoch, counted from 1, the learning rates of one counted from 0 have fallen to 0.

        They fall before features are taken as they are, and before the training ends.
        """
        representation = self.config.stages.representation_epochs
        return representation if epoch < representation else self.config.train.epochs

    @property
    def first_scored_epoch(self) -> int:
        """The first epoch, counted from 0, that has a score: before it, not everything has been trained."""
        return next(stage.epochs.start for stage in self.stages if stage.adversarial and stage.answers)

    @property
    def epochs_before_vote(self) -> int:
        """So many epochs are done when the heads vote, or the number of categories is fixed."""
        return self.config.stages.representation_epochs + self.config.stages.mutual_information_epochs

    def num_searches(self, epochs_done: int) -> int:
        """Return how often neighbours were sought in learned features in so many epochs, last when they are learnt."""
        config = self.config
        if not config.compares_neighbours() or config.seeks_neighbours_first():
            return 0
        last, every = config.stages.representation_epochs, config.neighbours.refresh_every
        before = min(epochs_done, last - 1) // every if every else 0
        return before + (epochs_done >= last)

    def num_pseudo_labels(self, epochs_done: int) -> int:
        """Return how often pseudo-labels were made in so many epochs: by the vote, then by each refresh."""
        since_vote = epochs_done - self.epochs_before_vote
        if not self.config.objective.weights.pseudo_label or since_vote < 0:
            return 0
        every = self.config.pseudo_labels.refresh_every
        return 1 + since_vote // every if every else 1

    def finds_number(self, epochs_done: int) -> bool:
        """Return whether the number of categories is still looked for at the end of so many epochs."""
        auto = self.config.model.num_categories == "auto"
        return auto and epochs_done <= self.epochs_before_vote

    def at_end(self, epoch: int) -> tuple[str, ...]:
        """Return what is done at the end of an epoch, counted from 0, in order and in words."""
        model, made = self.config.model, self.num_pseudo_labels(epoch + 1)
        merges = (model.num_over_categories or 0) > (2 if model.num_categories == "auto" else model.num_categories)
        answers, done = self.stage(epoch).answers, []
        if self.num_searches(epoch + 1) > self.num_searches(epoch):
            done.append("seek neighbours in learned features")
        done += ["find the number of categories"] * (answers and self.finds_number(epoch + 1))
        done += ["merge over-categories"] * (answers and merges)
        if made > self.num_pseudo_labels(epoch):
            done.append("vote on pseudo-labels" if made == 1 else "refresh pseudo-labels")
        done += ["score"] * (epoch >= self.first_scored_epoch)
        return (*done, "save")

    def table(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield rows for people, a heading first: epochs that are alike, counted from 1, are one row."""
        yield "epochs", "stage", "learning rates", "at the end of each epoch"
        decay = self.config.optim.decay_epochs
        for row, alike in groupby(
            range(self.config.train.epochs),
            key=lambda epoch: (self.stage(epoch).name, epoch >= self.decay_end(epoch) - decay, self.at_end(epoch)),
        ):
            (stage, falling, at_end), (first, *others) = row, alike
            epochs = f"{first + 1}-{others[-1] + 1}" if others else f"{first + 1}"
            yield epochs, stage, "falling to 0" if falling else "constant", ", ".join(at_end)

    def weights(self) -> Iterator[tuple[str, str]]:
        """Yield each stage and its losses with their weights, for people."""
        weights = self.config.objective.weights
        for stage in self.stages:
            yield stage.name, ", ".join(f"{name} {getattr(weights, name):g}" for name in stage.losses)
