"""What a method is to everything above it: networks and losses here, stages in `schedules`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from infoae.config import Config
from infoae.distributed.collectives import Share, Subset
from infoae.model import InfoAE
from infoae.objective import Batch, Terms
from infoae.stages import Stage


@dataclass(frozen=True)
class Side:
    """Parameters that minimise the same losses, by an optimizer of their own."""

    parameters: list[nn.Parameter]
    losses: tuple[str, ...]
    """Names of the losses that are summed, each times its weight."""
    learning_rate: float


class Method(Protocol):
    """A way to train. The trainer, checkpoints, evaluation, export and sweeps know nothing else of it."""

    def build(self, config: Config) -> InfoAE:
        """Return the networks with initial weights, drawn from PyTorch's generator."""

    def sides(self, model: InfoAE, config: Config) -> tuple[Side, ...]:
        """Return who minimises what. A parameter belongs to one side, or to none and is not trained."""

    def draw(
        self,
        model: InfoAE,
        config: Config,
        stage: Stage,
        images: tuple[Tensor, Tensor | None],
        share: Share,
        random: torch.Generator,
    ) -> Batch:
        """Return what a step computes with: images x (B, C, H, W) in [0, 1], their partners' images, and random draws.

        `images` are those of this rank's `share`; what is drawn is drawn for the whole batch by `random`.
        """

    def compute(self, model: InfoAE, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of a stage from one forward pass; `subset` are the samples to generate and judge."""
