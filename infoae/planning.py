"""A training that is about to start: its configuration, data and device, all checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infoae import memory
from infoae.config import Config, recipes
from infoae.data import ImageSet, ShardSet, reduced_jpeg
from infoae.data.sampler import steps_an_epoch
from infoae.device import on_free_cpus, resolve_device, resolve_precision
from infoae.errors import UsageError
from infoae.features import torchvision
from infoae.features.encoder import opened
from infoae.loading import load_both
from infoae.pseudolabels import pairs
from infoae.pseudolabels.search_on_disk import Executor, here
from infoae.reporting.bars import Bar
from infoae.reporting.training import TrainingProgress
from infoae.runs import images, outcome
from infoae.runs.run import CORRECTED, EVALUATION, Run
from infoae.runs.storage import Storage


@dataclass(frozen=True)
class Plan:
    """A run that is about to train, everything about it checked."""

    config: Config
    train: ImageSet | ShardSet
    test: ImageSet
    device: torch.device
    precision: torch.dtype
    runs: Path
    recipe: str
    name: str | None
    resumed: Run | None

    @property
    def total_steps(self) -> int:
        """Of all epochs."""
        train = self.config.train
        return train.epochs * steps_an_epoch(len(self.train), train.batch_size, train.min_steps_per_epoch)

    def summary(self) -> dict[str, Any]:
        """Return what --dry-run prints."""
        taken = memory.of_training(self.config, self.precision)
        of_their_own = {
            name: getattr(self.config, name)()
            for name in ("generator_learning_rate", "self_critic_learning_rate")
            if getattr(self.config.optim, name) is not None
        }
        return {
            "recipe": self.recipe,
            "data": self.config.data.described(),
            "images": len(self.train),
            "image_shape": list(self.train.images.shape[1:]),
            "parameters": taken.parameters,
            "memory_gb": taken.gigabytes,
            **({} if self.train.features is None else {"features": list(self.train.features.shape)}),
            "epochs": self.config.train.epochs,
            "steps": self.total_steps,
            "device": str(self.device),
            "precision": str(self.precision).removeprefix("torch."),
            "global_batch": self.config.train.batch_size,
            "micro_batch": self.config.train.micro_batch_size,
            "learning_rates": self.config.learning_rates(),
            "learning_rate_scaling": self.config.optim.learning_rate_scaling,
        } | of_their_own


def planned(source: str, overrides: Sequence[str], runs: Path, name: str | None, device: str | None = None) -> Plan:
    """Check a new run's configuration, data and device, as `checked` does. Raises InfoAEError."""
    config = with_decoding(recipes.load(source, overrides))
    return checked(config, runs, Path(source).stem, name, None, device)


def resumed(run: str, runs: Path, epochs: int | None, device: str | None = None, data_root: Path | None = None) -> Plan:
    """Check a stopped run that is to go on, for `epochs` in all if given, with its data in `data_root` if it has moved.

    Raises InfoAEError.
    """
    found = Run.open(run, runs)
    config = found.config()
    if (found.path / CORRECTED).exists():
        raise UsageError(f"run {found.name} was corrected, and does not train on: train the run that it comes from")
    config = config.model_copy(update={"data": config.data.moved(data_root)})
    if epochs is not None:
        if epochs < config.train.epochs:
            raise UsageError(f"run {found.name} was planned for {config.train.epochs} epochs; --epochs cannot go below")
        config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
    if (found.path / EVALUATION).exists():  # or it was killed before it was evaluated, which is then done
        found.refuse_finished(config)
    return checked(config, runs, found.name, None, found, device)


def checked(
    config: Config, runs: Path, recipe: str, name: str | None, found: Run | None, wanted: str | None = None
) -> Plan:
    """Return the plan of a configuration whose data and device are there. Raises InfoAEError.

    `wanted` is this process's device where it is not the configuration's: other machines may have the GPUs.
    """
    device = resolve_device(wanted or config.train.device)
    precision = resolve_precision(config.train.precision, device)
    config = config.model_copy(update={"data": config.data.absolute(), "features": config.features.absolute()})
    torchvision.prepare(config.features)
    config = with_encoder(config)
    train, test = load_both(config)
    if not len(test) or test.images.shape[1:] != train.images.shape[1:]:
        raise UsageError(
            f"the test images of {config.data.name} are {tuple(test.images.shape)}, those to train on are "
            f"{tuple(train.images.shape)}: the same channels, height and width are needed, and at least one"
        )
    if len(train) < 2:
        raise UsageError(f"training needs at least 2 images, {config.data.name} gave {len(train)}")
    if config.compares_neighbours():
        pairs.check_enough(len(train), config.neighbours)
    config = with_image_shape(config, train)
    memory.check(config, device)
    return Plan(config, train, test, device, precision, runs, recipe, name, found)


def with_decoding(config: Config) -> Config:
    """Fill in how JPEG files are decoded for a new training, where nobody says."""
    given = config.data
    reduced = given.name == "files" or (given.name == "shards" and reduced_jpeg.described(given.place))
    if given.reduced_jpeg is not None or not reduced:
        return config
    return config.model_copy(update={"data": given.model_copy(update={"reduced_jpeg": True})})


def with_encoder(config: Config) -> Config:
    """Fill in what the frozen encoder says of itself, if there is one. Raises InfoAEError if it cannot be used."""
    if config.features.encoder is None:
        return config
    found = opened(config.features)
    known = config.features.model_copy(update={"dim": found.dim, "digest": found.digest})
    return config.model_copy(update={"features": known})


def with_image_shape(config: Config, train: ImageSet | ShardSet) -> Config:
    """Fill in the image's channels and size from the data. Raises UsageError if the config says otherwise."""
    _, channels, height, width = train.images.shape
    if channels not in (1, 3):
        raise UsageError(f"images have {channels} channels; grey (1) or RGB (3) are what can be used afterwards")
    if height != width:
        raise UsageError(f"images are {height} x {width} pixels; the networks need square ones")
    for key, found in (("channels", channels), ("image_size", height)):
        wanted = getattr(config.model, key)
        if wanted not in (None, found):
            raise UsageError(f"model.{key} is {wanted}, but the images of {config.data.name} have {found}")
    model = config.model.model_copy(update={"channels": channels, "image_size": height})
    return config.model_copy(update={"model": model})


def refuse_stored(plan: Plan, storage: Storage) -> None:
    """Raise UsageError if a new run has the name of one in the storage."""
    if plan.resumed is None and plan.name is not None and storage.holds(plan.name):
        raise UsageError(
            f"run {plan.name!r} exists in {storage.uri}: go on with --resume {plan.name} --storage {storage.uri}, "
            "or give another --name"
        )


@contextmanager
def started(plan: Plan, storage: Storage | None = None) -> Iterator[Run]:
    """Make the folder of a new run, or take the one to go on with as it was; no other command writes to it meanwhile.

    Either is `latest` from then on, and what becomes of it is recorded, in the storage too. Raises InfoAEError if
    another command writes to it, or its images are others than those it was begun with.
    """
    run = plan.resumed or Run.create(plan.runs, plan.name, plan.recipe, plan.config)
    with run.locked():
        images.keep(run, images.identify(plan.train.images), plan.config.data)
        if plan.resumed is not None:  # a kill may have come before it was
            run.point_latest()
        with outcome.recorded(run, storage):
            yield run


def find_neighbours(trained: Run, plan: Plan, go_on: str | None = None, executor: Executor = here) -> None:
    """Find the neighbours that a run will ask for, unless it has them, and show how far that is. Raises UsageError.

    Those of more images than memory holds are found by `executor`.
    """
    if not plan.config.seeks_neighbours_first():
        return
    try:
        with on_free_cpus(), Bar("nearest neighbours", "images", len(plan.train)) as bar:
            bar.show()
            rules = plan.config.neighbours, plan.config.augment
            pairs.find(trained, plan.train.images, *rules, bar.advance, bar.say, plan.train.features, executor)
    except KeyboardInterrupt:
        with TrainingProgress() as progress:
            progress.say(f"stopped before training; go on with: {go_on or trained.command('train', '--resume')}")
        raise


def describe_batch(config: Config) -> str:
    """Return the batch, and the learning rates that it leads to, in words."""
    rate, critic_rate = config.learning_rates()
    rule = config.optim.learning_rate_scaling
    train = config.train
    micro = train.micro_batch_size
    parts = f" in micro-batches of about {micro}" if micro and round(train.batch_size / micro) > 1 else ""
    rates = f"batch {train.batch_size} in all{parts}, learning rates {rate:g} and {critic_rate:g}"
    if config.optim.generator_learning_rate is not None:
        rates += f", of decoder and generator {config.generator_learning_rate():g}"
    if config.optim.self_critic_learning_rate is not None:
        rates += f", of the self-critic {config.self_critic_learning_rate():g}"
    rates += f" (scaling: {rule})"
    decay = config.optim.decay_epochs
    return f"{rates}, which fall to 0 over the last {decay} epochs" if decay else rates
