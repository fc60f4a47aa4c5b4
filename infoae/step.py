"""One training step: a forward pass, then each side's gradients, then both updates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from infoae import objective
from infoae.augment import augmented
from infoae.config import Config
from infoae.distributed import collectives
from infoae.distributed.batchnorm import running_statistics, synchronise
from infoae.distributed.collectives import Share
from infoae.errors import InfoAEError
from infoae.model import InfoAE
from infoae.random_streams import Stream, generator

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


@dataclass(frozen=True)
class _Side:
    """One side of the game."""

    optimizer: torch.optim.Optimizer
    losses: tuple[str, ...]
    parameters: list[nn.Parameter]

    def gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]


class Step:
    """Owns what changes in training: the model, its average, both optimizers and the gradient scaler.

    With a process group, all ranks build it from equal weights, step together and stay equal.
    """

    def __init__(self, model: InfoAE, config: Config, device: torch.device, precision: torch.dtype) -> None:
        self.config, self.device, self.precision = config, device, precision
        if collectives.size() > 1:
            synchronise(model)
        self.model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        betas = (config.optim.beta1, config.optim.beta2)
        rate, critic_rate = config.learning_rates()
        self.model_optimizer = torch.optim.Adam(model.model_parameters(), rate, betas, fused=True)
        self.critic_optimizer = torch.optim.Adam(model.critic_parameters(), critic_rate, betas, fused=True)
        self._sides = (
            _Side(self.model_optimizer, objective.MODEL_LOSSES, model.model_parameters()),
            _Side(self.critic_optimizer, objective.CRITIC_LOSSES, model.critic_parameters()),
        )
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
        share = collectives.share(len(images) if total is None else total)
        inputs = self._inputs(images, index, share, partners, latent_only)
        voted = None if agreed is None else agreed.to(self.device)
        micro_batches = collectives.micro_batches(share.total, self.config.train.micro_batch_size)
        # Each micro-batch moves the running statistics from where they were, the step by the mean of what they move.
        running = running_statistics(self.model) if micro_batches else {}
        before = [statistic.clone() for statistic in running.values()]
        model_side, critic_side = self._sides
        for side in self._sides:
            side.optimizer.zero_grad()
        measured: dict[str, Tensor] = {}
        with parametrize.cached():  # spectral norms are computed once a step, not once a pass
            for micro_batch in micro_batches or [share]:
                if micro_batch.start > share.start and running:
                    torch._foreach_copy_(list(running.values()), before)
                with collectives.alone() if micro_batches else nullcontext():
                    losses, accuracy = self._forward(inputs, voted, micro_batch, share, latent_only)
                for name, value in (losses | accuracy | running).items():
                    measured[name] = measured.get(name, 0) + value.detach() * micro_batch.weight
                last = micro_batch.stop == share.stop
                self._backward(model_side, losses, micro_batch.weight, retain_graph=True)
                if last:  # the critics' pass need not wait for the sum
                    finish_model = collectives.sum_in_place(model_side.gradients() + list(measured.values()))
                self._backward(critic_side, losses, micro_batch.weight, retain_graph=not last)
                del losses, accuracy  # and their graph, before the next is made
        collectives.sum_in_place(critic_side.gradients())()
        finish_model()
        for name, statistic in running.items():
            statistic.copy_(measured.pop(name))
        discriminator_accuracy = measured.pop("accuracy", None)
        self._check_finite(measured, index)
        for side in self._sides:
            if side.gradients():
                self.scaler.step(side.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return StepResult(measured, discriminator_accuracy)

    def _forward(
        self,
        inputs: tuple[Tensor, Tensor | None, Tensor, Tensor],
        agreed: Tensor | None,
        micro_batch: Share,
        share: Share,
        latent_only: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the losses of a micro-batch, of the inputs of this rank's share, and the discriminator's accuracy."""
        rows = slice(micro_batch.start - share.start, micro_batch.stop - share.start)
        x, x_twin, u, c = inputs
        x_twin = None if x_twin is None else x_twin[rows]
        voted = None if agreed is None else agreed[:, rows]
        game_part = self.config.train.game_part
        part = micro_batch.part(game_part) if game_part < 1 else None
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            terms = objective.compute(
                self.model, self.config.objective, x[rows], x_twin, u[rows], c[rows], voted, latent_only, part
            )
        accuracy = terms.discriminator_accuracy
        return terms.losses, {} if accuracy is None else {"accuracy": accuracy}

    def _backward(self, side: _Side, losses: dict[str, Tensor], weight: float, retain_graph: bool) -> None:
        """Add a micro-batch's gradients to those of the step.

        Both sides share one graph; `inputs` keeps each side's gradients out of the other's parameters, and spares
        computing them.
        """
        objective_value = objective.weighted_sum(losses, self.config.objective, side.losses)
        if objective_value is not None:
            scaled = self.scaler.scale(objective_value * weight)
            scaled.backward(inputs=side.parameters, retain_graph=retain_graph)

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
