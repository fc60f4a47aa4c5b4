"""InfoAE as a method (Haque, Latif and Rana 2019): the six networks and the two sides of equations 1 and 2."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from infoae import objective
from infoae.augment import augmented
from infoae.config import Config
from infoae.distributed.collectives import Share, Subset
from infoae.methods.method import Side, drawn, parameters
from infoae.methods.schedules import CRITIC_LOSSES, MODEL_LOSSES, REPRESENTATION_LOSSES
from infoae.model import InfoAE
from infoae.objective import Batch, Terms
from infoae.stages import Stage


class InfoAEMethod:
    """The paper's losses, mutual information and pseudo-labels; `schedules.infoae` says which when."""

    def build(self, config: Config) -> InfoAE:
        """Return the six networks."""
        return InfoAE(config.model, config.features)

    def sides(self, model: InfoAE, config: Config) -> tuple[Side, ...]:
        """Return encoder, decoder, generator and classifier (equation 1), then discriminator and self-critic."""
        rate, critic_rate = config.learning_rates()
        projectors = [] if model.projector is None else [model.projector]
        answering = parameters(model.encoder, model.classifier, model.other_heads, *projectors)
        drawing = parameters(model.decoder, model.generator)
        discriminator, self_critic = parameters(model.discriminator), parameters(model.self_critic)
        return (
            Side(
                ((answering, rate), (drawing, config.generator_learning_rate())),
                (*MODEL_LOSSES, *REPRESENTATION_LOSSES),
            ),
            Side(((discriminator, critic_rate), (self_critic, config.self_critic_learning_rate())), CRITIC_LOSSES),
        )

    def draw(
        self,
        model: InfoAE,
        config: Config,
        stage: Stage,
        images: tuple[Tensor, Tensor | None],
        share: Share,
        random: torch.Generator,
    ) -> Batch:
        """Return x, its augmented partner where mutual information compares them, noise and over-categories.

        Where the encoder is given features, which are of images as they are, nothing is augmented.
        """
        x, partners = images
        batch, x_twin = drawn(model, x, share, random), None
        if config.features.encoder is not None or stage.on_learned_features:
            return replace(batch, c=model.choose_over(batch.c, batch.u[:, 0]))
        if "mutual_information" in stage.losses or "contrastive" in stage.losses:
            x_twin = _augmented(x if partners is None else partners, config, share, random)
        if not stage.adversarial:  # no image is judged beside it, so that x can be augmented, too
            x = _augmented(x, config, share, random)
        return replace(batch, x=x, x_twin=x_twin, c=model.choose_over(batch.c, batch.u[:, 0]))

    def compute(self, model: InfoAE, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of the stage (`objective`)."""
        if "contrastive" in stage.losses:
            return objective.representation_stage(model, config.objective, batch)
        if stage.adversarial and not set(stage.losses) <= set(objective.ON_LATENTS):
            return objective.adversarial_stage(model, config.objective, stage.losses, batch, subset)
        return objective.latent_stage(model, config.objective, stage.losses, batch)


def _augmented(x: Tensor, config: Config, share: Share, random: torch.Generator) -> Tensor:
    return augmented(x, config.augment, random, share).contiguous(memory_format=torch.channels_last)
