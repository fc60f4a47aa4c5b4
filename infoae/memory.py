"""How many parameters a training has, and how much memory it will take: measured on shapes, before any is taken."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from infoae import objective, ram
from infoae.category_model import CategoryModel
from infoae.config import Config, Train
from infoae.distributed.collectives import Share
from infoae.errors import UsageError
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.stages import Stage

BYTES_A_PARAMETER = 16
"""A weight, its gradient and Adam's two moments, in fp32."""
SURCHARGE = 1.2
"""For what operations take for themselves and the allocator leaves unused, by measured peaks of processes."""


@dataclass(frozen=True)
class Memory:
    """What a training takes, beside Python, its libraries and the images."""

    parameters: int
    """Of all networks."""
    images: int
    """Images of a step that are computed at once."""
    size: int
    """Bytes: weights, gradients, Adam's moments, averaged weights, and what a step holds of a batch at its peak."""

    @property
    def gigabytes(self) -> float:
        """The size in units of 10^9 bytes, two digits of which mean something."""
        return float(f"{self.size / 1e9:.2g}")

    def describe(self) -> str:
        """Return what is said before training."""
        return (
            f"{self.parameters:,} parameters; about {self.gigabytes:g} GB of memory for weights, gradients, Adam and "
            f"{self.images} images at once, beside libraries and data"
        )


def of_training(config: Config, precision: torch.dtype, workers: int = 1) -> Memory:
    """Return what training takes, each of `workers`, in a number format; the image shape is known.

    A forward and a backward pass of each stage are gone through on shapes alone, and every result of an operation is
    counted as long as it is held, and a fifth added (SURCHARGE). Autocast is taken to make all of these as small as its
    format. On a CPU, measured peaks lay within a fifth of it.
    """
    config = _without_values(config)
    model = _of_shapes(config)
    images = _images_at_once(config.train, workers)
    held = max(_peak(model, config, stage, images) for stage in schedule_of(config).stages)
    count = _count(model)
    of_parameters = BYTES_A_PARAMETER - 4 + (4 if config.optim.ema_decay else 0)  # the pass has their gradients
    return Memory(count, images, count * of_parameters + round(SURCHARGE * held * precision.itemsize / 4))


def num_parameters(config: Config) -> int:
    """Return how many parameters the networks of a configuration have, whose image shape is known."""
    return _count(_of_shapes(_without_values(config)))


def check(config: Config, device: torch.device) -> None:
    """Raise UsageError if the networks and their optimizer do not fit into memory. Nothing of that size is made."""
    count = num_parameters(config)
    needed = count * BYTES_A_PARAMETER
    there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else ram.total()
    if needed > there:
        raise UsageError(
            f"these networks have {count:,} parameters, which take {needed / 1e9:,.1f} GB with their optimizer; "
            f"{device} has {there / 1e9:,.1f} GB: make model.width, the other sizes of model, or num_categories smaller"
        )


def _without_values(config: Config) -> Config:
    """Return a configuration of the same shapes whose model looks into no tensor, as a wanted number or prior do."""
    fixed: dict[str, Any] = {"prior": "uniform"}
    if config.model.num_categories == "auto":
        fixed["num_categories"] = 2
    return config.model_copy(update={"model": config.model.model_copy(update=fixed)})


def _of_shapes(config: Config) -> CategoryModel:
    with torch.device("meta"):
        model: CategoryModel = method_of(config).build(config)
    return model


def _count(model: CategoryModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _images_at_once(train: Train, workers: int) -> int:
    """Return the size of a micro-batch, or of a worker's share if that is smaller."""
    micro_batches = round(train.batch_size / (train.micro_batch_size or train.batch_size))
    return -(-train.batch_size // max(1, micro_batches, workers))


def _peak(model: CategoryModel, config: Config, stage: Stage, count: int) -> int:
    """Return the most bytes that both passes of a stage hold at once, `model` being of shapes alone."""
    method, share = method_of(config), Share(0, count, count)
    fraction = config.train.adversarial_fraction
    x = torch.empty(count, *model.image_shape, device="meta")
    held = _Held()
    with held:
        batch = method.draw(model, config, stage, (x, x.clone()), share, torch.Generator())
        if stage.on_learned_features or config.features.encoder is not None:  # in place of images and partners
            assert isinstance(model, InfoAE)
            batch = replace(batch, features=torch.empty(2, count, model.encoder.num_features, device="meta"))
        terms = method.compute(model, config, stage, batch, share.subset(fraction) if fraction < 1 else None)
        for side in method.sides(model, config):
            value = objective.weighted_sum(terms.losses, config.objective, side.losses)
            if value is not None:  # one graph for all sides, as in a step
                value.backward(inputs=side.parameters, retain_graph=True)
    model.zero_grad()
    return held.peak


class _Held(TorchDispatchMode):
    """Counts the bytes of all results that are held, and the most there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Carry out an operation, and count what it made."""
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._hold(result.untyped_storage())
        return results

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:  # a view, or in place
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.now -= self._sizes.pop(key)
