"""InfoAE as a method (Haque, Latif and Rana 2019): the six networks and the two sides of equations 1 and 2."""

from __future__ import annotations

import torch
from torch import Tensor

from infoae import objective
from infoae.augment import augmented
from infoae.config import Config
from infoae.distributed.collectives import Share, Subset
from infoae.methods.method import Side
from infoae.methods.schedules import CRITIC_LOSSES, MODEL_LOSSES
from infoae.model import InfoAE
from infoae.objective import Batch, Terms
from infoae.stages import Stage


class InfoAEMethod:
    """The paper's losses, mutual information and pseudo-labels; `schedules.infoae` says which when."""

    def build(self, config: Config) -> InfoAE:
        """Return the six networks."""
        return InfoAE(config.model)

    def sides(self, model: InfoAE, config: Config) -> tuple[Side, ...]:
        """Return encoder, decoder, generator and classifier (equation 1), then discriminator and self-critic."""
        rate, critic_rate = config.learning_rates()
        return (
            Side(model.model_parameters(), MODEL_LOSSES, rate),
            Side(model.critic_parameters(), CRITIC_LOSSES, critic_rate),
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
        """Return x, its augmented partner where mutual information compares them, noise and over-categories."""
        x, partners = images
        u = torch.rand(share.total, config.model.noise_dim, generator=random) * 2 - 1
        category = model.draw_categories(share.total, random)
        u, category = u[share.slice].to(x.device), category[share.slice].to(x.device)
        x_twin = None
        if "mutual_information" in stage.losses:
            x_twin = _augmented(x if partners is None else partners, config, share, random)
        if not stage.adversarial:  # no image is judged beside it, so that x can be augmented, too
            x = _augmented(x, config, share, random)
        return Batch(x, x_twin, u, model.choose_over(category, u[:, 0]))

    def compute(self, model: InfoAE, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of the stage (`objective`)."""
        if stage.adversarial:
            return objective.adversarial_stage(model, config.objective, stage.losses, batch, subset)
        return objective.latent_stage(model, config.objective, stage.losses, batch)


def _augmented(x: Tensor, config: Config, share: Share, random: torch.Generator) -> Tensor:
    return augmented(x, config.augment, random, share).contiguous(memory_format=torch.channels_last)
