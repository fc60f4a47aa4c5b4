"""The whole configuration: its sections, and what of them has to fit together."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from infoae.config.augment import Augment
from infoae.config.data import Data
from infoae.config.features import Features
from infoae.config.kinds import Section
from infoae.config.methods import Method, foreign, methods_of, without_foreign
from infoae.config.sections import (
    Model,
    Neighbours,
    Objective,
    Optim,
    PseudoLabels,
    Stages,
    Train,
)
from infoae.limits import SEED


class Config(Section):
    """A whole run: everything that decides its result."""

    method: Method = "infoae"
    """Method that is trained: its networks, losses and stages."""
    seed: Annotated[int, Field(ge=0, le=SEED)] = 0
    """Random seed; decides initial weights, order, noise and augmentation."""
    data: Data = Data()
    features: Features = Features()
    model: Model = Model()
    objective: Objective = Objective()
    stages: Stages = Stages()
    neighbours: Neighbours = Neighbours()
    pseudo_labels: PseudoLabels = PseudoLabels()
    augment: Augment = Augment()
    optim: Optim = Optim()
    train: Train = Train()

    @model_validator(mode="after")
    def _method_has_all(self) -> Self:
        if names := foreign(self, self.method):
            others = [f"{key} (of {', '.join(methods_of(key))})" for key in names]
            raise ValueError(
                f"method {self.method} does not have {', '.join(others)}: leave that out; a recipe for this method is "
                f"{self.method}"
            )
        if self.method != "infoae" and self.model.num_categories == "auto":
            raise ValueError(f"method {self.method} cannot find model.num_categories (infoae can): give a number")
        if self.model.num_categories == "auto" and self.model.num_over_categories is None:
            raise ValueError("model.num_categories auto needs model.num_over_categories, which it merges")
        return self

    @model_validator(mode="after")
    def _decay_fits(self) -> Self:
        if self.optim.decay_epochs > self.train.epochs:
            raise ValueError(
                f"optim.decay_epochs {self.optim.decay_epochs} are the last of train.epochs, which are only "
                f"{self.train.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _representation_is_learnt(self) -> Self:
        epochs, weight = self.stages.representation_epochs, self.objective.weights.contrastive
        if weight and self.model.projection_dim is None:
            raise ValueError("objective.weights.contrastive needs model.projection_dim, of the values it compares")
        if epochs and not weight:
            raise ValueError("stages.representation_epochs train on objective.weights.contrastive alone, which is 0")
        if self.compares_neighbours() and self.neighbours.source == "learned" and not epochs:
            raise ValueError("neighbours.source learned needs stages.representation_epochs, in which they are learnt")
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        weights, model = self.objective.weights, self.model
        generation, zeroth = self.stages.generation_epochs, self.stages.representation_epochs
        first, second = self.stages.mutual_information_epochs, self.stages.pseudo_label_epochs
        if weights.pseudo_label and not (model.num_heads > 1 and model.num_over_categories and first):
            raise ValueError(
                "objective.weights.pseudo_label needs model.num_heads above 1, model.num_over_categories, and "
                "stages.mutual_information_epochs before the heads vote"
            )
        if model.num_categories == "auto" and not first:
            raise ValueError(
                "model.num_categories auto needs stages.mutual_information_epochs, at whose end their number is fixed"
            )
        if first and not weights.mutual_information:
            raise ValueError(
                "stages.mutual_information_epochs train on objective.weights.mutual_information alone, which is 0"
            )
        if self.pseudo_labels.anchor_hops and self.objective.pairs != "neighbours":
            raise ValueError("pseudo_labels.anchor_hops are between neighbours: set objective.pairs to them")
        if second and not weights.pseudo_label:
            raise ValueError("stages.pseudo_label_epochs train on objective.weights.pseudo_label, which is 0")
        if generation >= self.train.epochs:
            raise ValueError(
                f"stages.generation_epochs {generation} leave none of {self.train.epochs} train.epochs to find "
                "categories"
            )
        if zeroth + first + second >= self.train.epochs:
            before = f"stages.representation_epochs {zeroth}, " if zeroth else "stages."
            raise ValueError(
                f"{before}mutual_information_epochs {first} and pseudo_label_epochs {second} leave none of "
                f"{self.train.epochs} train.epochs to train everything"
            )
        return self

    @model_validator(mode="after")
    def _features_fit(self) -> Self:
        objective, given = self.objective, self.features.encoder is not None
        if given != (self.neighbours.source == "given"):
            raise ValueError("neighbours.source given and features.encoder need each other: --features sets both")
        if not given and self.neighbours.source != "learned":
            return self
        what = "features.encoder" if given else "neighbours.source learned"
        hint = f"(recipe {'photos-features' if given else 'photos'} has settings that fit)"
        if given and self.stages.representation_epochs:
            raise ValueError("stages.representation_epochs learn what features.encoder gives: leave one of them out")
        if objective.pairs != "neighbours":
            raise ValueError(f"{what} needs objective.pairs neighbours: features are of images as they are {hint}")
        if objective.weights.classification_encoded:
            raise ValueError(
                f"objective.weights.classification_encoded needs a gradient through the encoder, which {what} has not: "
                f"set it to 0 {hint}"
            )
        judged = objective.weights.self_critic or objective.weights.encoder_adversarial
        if judged and objective.self_critic_fakes == "cycle":
            raise ValueError(
                f"objective.self_critic_fakes cycle needs a gradient through the encoder, which {what} has not: set it "
                f"to encoded or reconstructed {hint}"
            )
        return self

    def settings(self) -> dict[str, Any]:
        """Return all settings that the method has, as JSON values."""
        return without_foreign(self.model_dump(mode="json"), self.method)

    def stands_for(self, wanted: Config) -> bool:
        """Return whether a training by this configuration is one by `wanted`.

        They are equal, or `wanted` leaves to auto what was searched exactly here, as was the default once.
        """
        found = self.neighbours
        if (wanted.neighbours.search, found.search) == ("auto", "exact"):
            found = found.model_copy(update={"search": "auto"})
        return self.model_copy(update={"neighbours": found}) == wanted

    def compares_neighbours(self) -> bool:
        """Return whether the mutual information needs neighbours."""
        return self.objective.pairs == "neighbours" and self.objective.weights.mutual_information > 0

    def seeks_neighbours_first(self) -> bool:
        """Return whether neighbours are found before training, and not in what it learns."""
        return self.compares_neighbours() and self.neighbours.source != "learned"

    def learning_rates(self) -> tuple[float, float]:
        """Return learning_rate and critic_learning_rate for this batch size."""
        factor = self._rate_factor()
        return self.optim.learning_rate * factor, self.optim.critic_learning_rate * factor

    def generator_learning_rate(self) -> float:
        """Return the learning rate of decoder and generator for this batch size."""
        optim = self.optim
        rate = optim.learning_rate if optim.generator_learning_rate is None else optim.generator_learning_rate
        return rate * self._rate_factor()

    def self_critic_learning_rate(self) -> float:
        """Return the learning rate of the self-critic for this batch size."""
        optim = self.optim
        rate = optim.self_critic_learning_rate
        return (optim.critic_learning_rate if rate is None else rate) * self._rate_factor()

    def _rate_factor(self) -> float:
        exponent = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}[self.optim.learning_rate_scaling]
        return float((self.train.batch_size / self.optim.reference_batch) ** exponent)
