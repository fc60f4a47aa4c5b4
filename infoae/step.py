"""One training step: a forward pass, then each side's gradients, then all updates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from infoae import metric_names, objective
from infoae.average import Average
from infoae.category_model import CategoryModel
from infoae.config import Config
from infoae.device import without_denormals
from infoae.distributed import collectives, doing
from infoae.distributed.batchnorm import running_statistics, synchronise
from infoae.distributed.collectives import Share
from infoae.errors import InfoAEError
from infoae.methods.method import Side
from infoae.methods.registry import method_of
from infoae.objective import Batch
from infoae.random_streams import Stream, generator
from infoae.runs.checkpoint import State
from infoae.stages import Stage


@dataclass(frozen=True)
class StepResult:
    """What a step computed: each loss in nats, and how often the discriminator was right (0.5 is chance)."""

    losses: dict[str, Tensor]
    discriminator_accuracy: Tensor | None

    def metrics(self) -> dict[str, float]:
        """Return plain numbers under their metric names; waits for the device."""
        values = {metric_names.of_loss(name): loss.item() for name, loss in self.losses.items()}
        if self.discriminator_accuracy is not None:
            values[metric_names.DISCRIMINATOR_ACCURACY] = self.discriminator_accuracy.item()
        return values


@dataclass(frozen=True)
class _Player:
    """A side of the method with its optimizer."""

    side: Side
    optimizer: torch.optim.Optimizer

    def gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.side.parameters if parameter.grad is not None]


class Step:
    """Owns what changes in training: the model, its average, the sides' optimizers and the gradient scaler.

    With a process group, all ranks build it from equal weights, step together and stay equal.
    """

    def __init__(self, model: CategoryModel, config: Config, device: torch.device, precision: torch.dtype) -> None:
        self.config, self.device, self.precision = config, device, precision
        self.method = method_of(config)
        synchronise(model)
        self.model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        betas = (config.optim.beta1, config.optim.beta2)
        self._players = tuple(_Player(side, _adam(side, betas)) for side in self.method.sides(model, config))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self._running_statistics = running_statistics(self.model)
        self.average = None
        if config.optim.ema_decay:
            self.average = Average(model, config.optim.ema_decay)

    @without_denormals()
    def __call__(
        self,
        images: Tensor,
        index: int,
        stage: Stage,
        total: int | None = None,
        partners: Tensor | None = None,
        pseudo_labels: Tensor | None = None,
        features: Tensor | None = None,
    ) -> StepResult:
        """Update every network of the stage once from uint8 images (B, C, H, W); `index` counts steps from 0.

        `partners` (B, C, H, W) are what the mutual information compares them with, the images themselves if not given;
        `pseudo_labels` (2, B) those of both, -1 for none; `features` (1 or 2, B, D) are what the encoder sees in
        place of images, or of images and partners. With several ranks, `images` are this rank's share of a batch of
        `total`. Noise, categories and augmentation of the batch follow from the seed and `index` alone. Raises
        InfoAEError before any update, on all ranks, if a loss is not finite.
        """
        with doing.step(index + 1):
            share = collectives.share(len(images) if total is None else total)
            batch = self.draw(images, index, stage, share, partners, pseudo_labels, features)
            measured = self._take_gradients(batch, stage, share)
            discriminator_accuracy = measured.pop("accuracy", None)
            self._check_finite(measured, index)
            for player in self._players:
                if player.gradients():
                    self.scaler.step(player.optimizer)
            self.scaler.update()
            if self.average is not None:
                self.average.update()
        return StepResult(measured, discriminator_accuracy)

    def draw(
        self,
        images: Tensor,
        index: int,
        stage: Stage,
        share: Share,
        partners: Tensor | None = None,
        pseudo_labels: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Batch:
        """Return what step `index` computes with, of uint8 images (B, C, H, W) and their partners', or of features."""
        pair = (self._to_input(images), None if partners is None else self._to_input(partners))
        random = generator(self.config.seed, Stream.STEP, index)
        batch = self.method.draw(self.model, self.config, stage, pair, share, random)
        beside = {"pseudo_labels": pseudo_labels, "features": features}
        there = {name: each.to(self.device, non_blocking=True) for name, each in beside.items() if each is not None}
        return replace(batch, **there)

    def _take_gradients(self, batch: Batch, stage: Stage, share: Share) -> dict[str, Tensor]:
        """Leave each side's gradients, of all micro-batches and ranks, in its parameters.

        Returns the losses and, as "accuracy", the discriminator's.
        """
        micro_batches = collectives.micro_batches(share.total, self.config.train.micro_batch_size)
        # Each micro-batch moves the running statistics from where they were, the step by the mean of what they move.
        running = self._running_statistics if micro_batches else {}
        before = [statistic.clone() for statistic in running.values()]
        for player in self._players:
            player.optimizer.zero_grad()
        measured: dict[str, Tensor] = {}
        waiting: list[Callable[[], None]] = []
        with parametrize.cached():  # spectral norms are computed once a step, not once a pass
            for micro_batch in micro_batches or [share]:
                if micro_batch.start > share.start and running:
                    torch._foreach_copy_(list(running.values()), before)
                with collectives.alone() if micro_batches else nullcontext():
                    losses, accuracy = self._forward(batch, stage, micro_batch, share)
                for name, value in (losses | accuracy | running).items():
                    measured[name] = measured.get(name, 0) + value.detach() * micro_batch.weight
                last = micro_batch.stop == share.stop
                for player in self._players:
                    final = last and player is self._players[-1]
                    self._backward(player.side, losses, micro_batch.weight, retain_graph=not final)
                    if last:  # the next side's pass need not wait for the sum; what was measured goes with the first
                        extra = [] if waiting else list(measured.values())
                        waiting.append(collectives.sum_in_place(player.gradients() + extra))
                del losses, accuracy  # and their graph, before the next is made
        for finish in reversed(waiting):
            finish()
        for name, statistic in running.items():
            statistic.copy_(measured.pop(name))
        return measured

    def _forward(
        self, batch: Batch, stage: Stage, micro_batch: Share, share: Share
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the losses of a micro-batch, of this rank's share of a batch, and the discriminator's accuracy."""
        rows = slice(micro_batch.start - share.start, micro_batch.stop - share.start)
        fraction = self.config.train.adversarial_fraction
        subset = micro_batch.subset(fraction) if fraction < 1 else None
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            terms = self.method.compute(self.model, self.config, stage, batch[rows], subset)
        accuracy = terms.discriminator_accuracy
        return terms.losses, {} if accuracy is None else {"accuracy": accuracy}

    def _backward(self, side: Side, losses: dict[str, Tensor], weight: float, retain_graph: bool) -> None:
        """Add a micro-batch's gradients to those of the step.

        All sides share one graph; `inputs` keeps each side's gradients out of the others' parameters, and spares
        computing them.
        """
        objective_value = objective.weighted_sum(losses, self.config.objective, side.losses)
        if objective_value is not None:
            scaled = self.scaler.scale(objective_value * weight)
            scaled.backward(inputs=side.parameters, retain_graph=retain_graph)

    @property
    def num_bytes(self) -> int:
        """How much the gradients of all parameters take."""
        return sum(parameter.nbytes for parameter in self.model.parameters())

    def scale_learning_rates(self, factor: float) -> None:
        """Take `factor` times the configured learning rates from now on."""
        for player in self._players:
            for group, (_, rate) in zip(player.optimizer.param_groups, player.side.groups, strict=True):
                group["lr"] = factor * rate

    def settle(self) -> None:
        """Go on from the averaged weights, where there are such."""
        self.model.load_state_dict(self.evaluated_model().state_dict())

    def evaluated_model(self) -> CategoryModel:
        """Return the model to evaluate and export: the average where one is kept."""
        model = self.model if self.average is None else self.average.module
        assert isinstance(model, CategoryModel)
        return model

    def state(self) -> State:
        """Return all that a step changes: weights and buffers, their average, Adam's moments, the fp16 scaler."""
        tensors = {"model": self.model.state_dict(), "optimizer": self._moments()}
        if self.average is not None:
            tensors["average"] = self.average.module.state_dict() | {"n_averaged": self.average.n_averaged}
        return State(tensors, self.scaler.state_dict())

    def load(self, state: State) -> None:
        """Go back to a state. Raises RuntimeError or KeyError if it is of other networks."""
        self.model.load_state_dict(dict(state.tensors["model"]))
        if self.average is not None:
            average = dict(state.tensors["average"])
            self.average.n_averaged.copy_(average.pop("n_averaged"))
            self.average.module.load_state_dict(average)
        owners = self._owners()
        for full_name, value in state.tensors["optimizer"].items():
            name, _, key = full_name.rpartition(":")
            optimizer, parameter = owners[name]
            # Keep the parameter's memory layout: the update runs over both side by side.
            moment = value.to(parameter.device)
            if value.shape == parameter.shape:
                moment = torch.empty_like(parameter).copy_(value)
            optimizer.state[parameter][key] = moment
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"{name}:{key}": value
            for name, (optimizer, parameter) in self._owners().items()
            for key, value in optimizer.state[parameter].items()
        }

    def _owners(self) -> dict[str, tuple[torch.optim.Optimizer, nn.Parameter]]:
        """Return by name each parameter that a side trains, with the optimizer that moves it."""
        optimizers = {parameter: each.optimizer for each in self._players for parameter in each.side.parameters}
        parameters = self.model.named_parameters()
        return {name: (optimizers[each], each) for name, each in parameters if each in optimizers}

    def _to_input(self, images: Tensor) -> Tensor:
        x = images.to(self.device, non_blocking=True).float().div_(255)
        return x.contiguous(memory_format=torch.channels_last)

    def _check_finite(self, losses: dict[str, Tensor], index: int) -> None:
        with doing.waiting("the device"):  # a GPU is waited for here, and with it what other ranks send to it
            finite = bool(torch.isfinite(torch.stack(list(losses.values()))).all())
        if finite:
            return
        bad = ", ".join(f"{name} = {loss.item()}" for name, loss in losses.items() if not torch.isfinite(loss))
        raise InfoAEError(
            f"step {index + 1}: {bad}, so nothing was updated; lower optim.learning_rate, or use --precision fp32"
        )


def _adam(side: Side, betas: tuple[float, float]) -> torch.optim.Optimizer:
    groups = [{"params": parameters, "lr": rate} for parameters, rate in side.groups]
    return torch.optim.Adam(groups, betas=betas, fused=True)
