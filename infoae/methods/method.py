"""What a method is to everything above it: networks and losses here, stages in `schedules`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from infoae.category_model import CategoryModel
from infoae.config import Config, Model
from infoae.distributed.collectives import Share, Subset
from infoae.objective import Batch, Terms
from infoae.stages import Stage

M = TypeVar("M", bound=CategoryModel)


@dataclass(frozen=True)
class Side:
    """Parameters that minimise the same losses, by an optimizer of their own."""

    groups: tuple[tuple[list[nn.Parameter], float], ...]
    """Parameters and their learning rate."""
    losses: tuple[str, ...]
    """Names of the losses that are summed, each times its weight."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters of the side."""
        return [parameter for group, _ in self.groups for parameter in group]


def parameters(*networks: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of several networks."""
    return [parameter for network in networks for parameter in network.parameters()]


class Method(Protocol[M]):
    """A way to train. The trainer, checkpoints, evaluation, export and sweeps know nothing else of it."""

    def build(self, config: Config) -> M:
        """Return the networks with initial weights, drawn from PyTorch's generator."""

    def sides(self, model: M, config: Config) -> tuple[Side, ...]:
        """Return who minimises what. A parameter belongs to one side, or to none and is not trained."""

    def draw(
        self,
        model: M,
        config: Config,
        stage: Stage,
        images: tuple[Tensor, Tensor | None],
        share: Share,
        random: torch.Generator,
    ) -> Batch:
        """Return what a step computes with: images x (B, C, H, W) in [0, 1], their partners' images, and random draws.

        `images` are those of this rank's `share`; what is drawn is drawn for the whole batch by `random`.
        """

    def compute(self, model: M, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of a stage from one forward pass; `subset` are the samples to generate and judge."""


def drawn(model: CategoryModel, images: Tensor, share: Share, random: torch.Generator) -> Batch:
    """Return a batch of x with noise u, uniform on [-1, 1], and category indices, of this rank's share."""
    u = torch.rand(share.total, model.noise_dim, generator=random) * 2 - 1
    category = model.draw_categories(share.total, random)
    u, category = u[share.slice].to(images.device), category[share.slice].to(images.device)
    return Batch(images, None, u, category)


def wanted(losses: dict[str, Tensor], stage: Stage, discriminator_accuracy: Tensor | None = None) -> Terms:
    """Return those of the losses by name that a stage minimises."""
    return Terms({name: loss for name, loss in losses.items() if name in stage.losses}, discriminator_accuracy)


def number_of_categories(config: Model) -> int:
    """Return K of a method that cannot look for it."""
    assert isinstance(config.num_categories, int)  # auto is InfoAE's alone, and refused elsewhere
    return config.num_categories
