"""One training step: a forward pass, then each side's gradients, then both updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from infoae import objective
from infoae.augment import random_affine
from infoae.config import Config
from infoae.errors import InfoAEError
from infoae.model import InfoAE
from infoae.seeds import Stream, generator

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class StepResult:
    """What a step computed: each loss in nats, and how often the discriminator was right (0.5 is chance)."""

    losses: dict[str, Tensor]
    discriminator_accuracy: Tensor | None

    def metrics(self) -> dict[str, float]:
        """Return plain numbers under their metric names; waits for the device."""
        values = {f"loss/{name}": loss.item() for name, loss in self.losses.items()}
        if self.discriminator_accuracy is not None:
            values["discriminator_accuracy"] = self.discriminator_accuracy.item()
        return values


class Step:
    """Owns what changes in training: the model, its average, both optimizers and the gradient scaler."""

    def __init__(self, model: InfoAE, config: Config, device: torch.device, precision: torch.dtype) -> None:
        self.config, self.device, self.precision = config, device, precision
        self.model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        betas = (config.optim.beta1, config.optim.beta2)
        self.model_optimizer = torch.optim.Adam(model.model_parameters(), config.optim.learning_rate, betas, fused=True)
        self.critic_optimizer = torch.optim.Adam(
            model.critic_parameters(), config.optim.critic_learning_rate, betas, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.average = None
        if config.optim.ema_decay:
            self.average = AveragedModel(model, multi_avg_fn=_averager(config.optim.ema_decay), use_buffers=True)

    def __call__(
        self, images: Tensor, index: int, partners: Tensor | None = None, information_only: bool = False
    ) -> StepResult:
        """Update every network once from uint8 images (B, C, H, W); `index` counts steps from 0.

        `partners` (B, C, H, W) are what the information loss compares them with, the images themselves if not given;
        `information_only` leaves out every other loss. Noise, categories and augmentation follow from the seed and
        `index` alone. Raises InfoAEError before any update if a loss is not finite.
        """
        x, x_twin, u, c = self._inputs(images, index, partners, information_only)
        autocast = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        with autocast, parametrize.cached():  # spectral norms are computed once a step, not once a pass
            if information_only:
                assert x_twin is not None
                terms = objective.compute_information(self.model, x, x_twin)
            else:
                terms = objective.compute(self.model, self.config.objective, x, x_twin, u, c)
        self._check_finite(terms.losses, index)

        # Both sides share one graph; `inputs` keeps each side's gradients out of the other's parameters, and spares
        # computing them. The graph is freed by the second pass.
        sides = [
            (self.model_optimizer, objective.MODEL_LOSSES, self.model.model_parameters()),
            (self.critic_optimizer, objective.CRITIC_LOSSES, self.model.critic_parameters()),
        ]
        for optimizer, names, parameters in sides:
            optimizer.zero_grad()
            total = objective.weighted_sum(terms.losses, self.config.objective, names)
            if total is not None:
                retain = names is objective.MODEL_LOSSES
                self.scaler.scale(total).backward(inputs=parameters, retain_graph=retain)
        for optimizer, _, parameters in sides:
            if any(parameter.grad is not None for parameter in parameters):
                self.scaler.step(optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return StepResult({name: loss.detach() for name, loss in terms.losses.items()}, terms.discriminator_accuracy)

    def compile(self) -> None:
        """Compile each network in place; the first step then takes a minute."""
        torch._functorch.config.donated_buffer = False  # both sides take their gradients from one graph
        for network in self.model.children():
            network.compile()

    def evaluated_model(self) -> InfoAE:
        """Return the model to evaluate and export: the average where one is kept."""
        model = self.model if self.average is None else self.average.module
        assert isinstance(model, InfoAE)
        return model

    def _inputs(
        self, images: Tensor, index: int, partners: Tensor | None = None, information_only: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        config, random = self.config, generator(self.config.seed, Stream.STEP, index)
        batch = len(images)
        u = torch.rand(batch, config.model.noise_dim, generator=random) * 2 - 1
        c = torch.randint(self.model.num_over_categories, (batch,), generator=random)
        x, x_twin = self._to_input(images), None
        if config.objective.weights.information:
            x_twin = random_affine(x if partners is None else self._to_input(partners), config.augment, random)
            if information_only:
                x = random_affine(x, config.augment, random)
            x_twin = x_twin.contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        return x, x_twin, u.to(self.device), c.to(self.device)

    def _to_input(self, images: Tensor) -> Tensor:
        return images.to(self.device, non_blocking=True).float().div_(255)

    def _check_finite(self, losses: dict[str, Tensor], index: int) -> None:
        if torch.isfinite(torch.stack(list(losses.values()))).all():
            return
        bad = ", ".join(f"{name} = {loss.item()}" for name, loss in losses.items() if not torch.isfinite(loss))
        raise InfoAEError(
            f"step {index + 1}: {bad}, so nothing was updated; lower optim.learning_rate, or use --precision fp32"
        )


def _averager(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Average over the last 1 / (1 - decay) steps, fewer at the start so that the first weights are forgotten."""

    @torch.no_grad()
    def update(averages: Tensors, values: Tensors, num_averaged: Tensor | int) -> None:
        now = min(decay, (1 + float(num_averaged)) / (10 + float(num_averaged)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - now)
            else:
                average.copy_(value)

    return update
