"""One training step: a forward pass, then each side's gradients, then both updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from infoae import distributed, objective
from infoae.augment import augmented
from infoae.batchnorm import synchronise
from infoae.config import Config
from infoae.distributed import Share
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
    """Owns what changes in training: the model, its average, both optimizers and the gradient scaler.

    With a process group, all ranks build it from equal weights, step together and stay equal.
    """

    def __init__(self, model: InfoAE, config: Config, device: torch.device, precision: torch.dtype) -> None:
        self.config, self.device, self.precision = config, device, precision
        if distributed.size() > 1:
            synchronise(model)
        self.model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        betas = (config.optim.beta1, config.optim.beta2)
        rate, critic_rate = config.learning_rates()
        self.model_optimizer = torch.optim.Adam(model.model_parameters(), rate, betas, fused=True)
        self.critic_optimizer = torch.optim.Adam(model.critic_parameters(), critic_rate, betas, fused=True)
        self._rates = {self.model_optimizer: rate, self.critic_optimizer: critic_rate}
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.average = None
        if config.optim.ema_decay:
            self.average = AveragedModel(model, multi_avg_fn=_averager(config.optim.ema_decay), use_buffers=True)

    def __call__(
        self,
        images: Tensor,
        index: int,
        total: int | None = None,
        partners: Tensor | None = None,
        agreed: Tensor | None = None,
        latent_only: bool = False,
    ) -> StepResult:
        """Update every network once from uint8 images (B, C, H, W); `index` counts steps from 0.

        `partners` (B, C, H, W) are what the information loss compares them with, the images themselves if not given;
        `agreed` (2, B) the categories of both that the heads agreed on, -1 for none; `latent_only` leaves out
        every loss for which an image is generated or judged, and the networks of those.
        With several ranks, `images` are this rank's share of a batch of `total`. Noise, categories and augmentation of
        the batch follow from the seed and `index` alone. Raises InfoAEError before any update, on all ranks, if a loss
        is not finite.
        """
        share = distributed.share(len(images) if total is None else total)
        inputs = self._inputs(images, index, share, partners, latent_only)
        game_part = self.config.train.game_part
        part = share.part(game_part) if game_part < 1 else None
        autocast = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        with autocast, parametrize.cached():  # spectral norms are computed once a step, not once a pass
            voted = None if agreed is None else agreed.to(self.device)
            terms = objective.compute(self.model, self.config.objective, *inputs, voted, latent_only, part)
        accuracy = {} if terms.discriminator_accuracy is None else {"accuracy": terms.discriminator_accuracy}
        summing = distributed.weighted_sums(terms.losses | accuracy, share.weight)

        # Both sides share one graph; `inputs` keeps each side's gradients out of the other's parameters, and spares
        # computing them. The graph is freed by the second pass.
        sides = [
            (self.model_optimizer, objective.MODEL_LOSSES, self.model.model_parameters()),
            (self.critic_optimizer, objective.CRITIC_LOSSES, self.model.critic_parameters()),
        ]
        unfinished = []
        for optimizer, names, parameters in sides:
            optimizer.zero_grad()
            objective_value = objective.weighted_sum(terms.losses, self.config.objective, names)
            if objective_value is not None:
                retain = names is objective.MODEL_LOSSES
                self.scaler.scale(objective_value * share.weight).backward(inputs=parameters, retain_graph=retain)
            unfinished.append(distributed.sum_gradients(parameters))  # the next side's pass need not wait for it
        losses = summing()
        discriminator_accuracy = losses.pop("accuracy", None)
        self._check_finite(losses, index)
        for finish, (optimizer, _, parameters) in zip(unfinished, sides, strict=True):
            finish()
            if any(parameter.grad is not None for parameter in parameters):
                self.scaler.step(optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return StepResult(losses, discriminator_accuracy)

    def scale_learning_rates(self, factor: float) -> None:
        """Take `factor` times the configured learning rates from now on."""
        for optimizer, rate in self._rates.items():
            for group in optimizer.param_groups:
                group["lr"] = factor * rate

    def evaluated_model(self) -> InfoAE:
        """Return the model to evaluate and export: the average where one is kept."""
        model = self.model if self.average is None else self.average.module
        assert isinstance(model, InfoAE)
        return model

    def _inputs(
        self,
        images: Tensor,
        index: int,
        share: Share,
        partners: Tensor | None = None,
        latent_only: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        config, random = self.config, generator(self.config.seed, Stream.STEP, index)
        u = torch.rand(share.total, config.model.noise_dim, generator=random) * 2 - 1
        category = self.model.draw_categories(share.total, random)
        u, category = u[share.slice].to(self.device), category[share.slice].to(self.device)
        x, x_twin = self._to_input(images), None
        if config.objective.weights.information:
            x_twin = self._augmented(x if partners is None else self._to_input(partners), share, random)
        if latent_only:  # no image is judged beside it, so that x can be augmented, too
            x = self._augmented(x, share, random)
        return x, x_twin, u, self.model.choose_over(category, u[:, 0])

    def _augmented(self, x: Tensor, share: Share, random: torch.Generator) -> Tensor:
        x = augmented(x, self.config.augment, random, share)
        return x.contiguous(memory_format=torch.channels_last)

    def _to_input(self, images: Tensor) -> Tensor:
        x = images.to(self.device, non_blocking=True).float().div_(255)
        return x.contiguous(memory_format=torch.channels_last)

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
        if not averages[0].is_floating_point():  # a call has tensors of one type
            torch._foreach_copy_(averages, values)
            return
        seen = float(num_averaged)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + seen) / (10 + seen)))

    return update
