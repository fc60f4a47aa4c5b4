"""The training loop: step, log, evaluate, save, and go on exactly where an interrupted run stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoae import metric_names
from infoae.config import Config
from infoae.data import ImageSet, ShardSet
from infoae.data.sampler import batches, steps_an_epoch
from infoae.data.shards import Shards
from infoae.distributed import collectives, local_group
from infoae.distributed.sharing import Sharing
from infoae.errors import InfoAEError
from infoae.evaluation import evaluate
from infoae.files import naming
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.pseudolabels.partners import Partners
from infoae.pseudolabels.pseudo_labels import PseudoLabels
from infoae.random_streams import Stream, generator
from infoae.runs import checkpoint
from infoae.runs.checkpoint import Checkpoint
from infoae.runs.run import METRICS, Run
from infoae.step import Step, StepResult

Metrics = dict[str, float]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Moment:
    """Where training stands."""

    step: int
    total_steps: int
    epoch: int
    total_epochs: int
    images_left: int
    """To be seen until the end, each epoch anew."""
    images_per_second: float
    """Of all workers together."""
    processes: int = 1
    """That share each batch on this machine."""


class Reporter(Protocol):
    """Something that is told how training goes: a file, a progress bar, W&B. Only the main rank's hear of all."""

    def stepped(self, moment: Moment) -> None:
        """A step is done, on every rank."""

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        """Metrics of one step, on every rank: equal but for the times."""

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        """Measures at the end of an epoch, and samples (K * n, C, H, W) in [0, 1], n of each category in turn."""

    def saved(self, moment: Moment) -> None:
        """A checkpoint is written, and metrics.jsonl up to it."""


class Trainer:
    """Trains one run. The state is all in `step` and the count of steps done.

    With a process group, every rank has a trainer of the same run; the main one writes, reports and evaluates.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        train: ImageSet | ShardSet,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.run, self.config = run, config
        self.images, self.held_out = train.images, train.held_out
        self.inputs, self.held_out_inputs, self.features = train.inputs, train.held_out_inputs, train.features
        self.shard_sizes = train.images.sizes if isinstance(train, ShardSet) else ()
        torch.manual_seed(generator(config.seed, Stream.WEIGHTS).initial_seed())
        self.schedule = schedule_of(config)
        self.step = Step(method_of(config).build(config), config, device, precision)
        self.partners = Partners(run, self.schedule, self.images, self.features, device)
        self.pseudo_labels = PseudoLabels(run, self.schedule, self.partners, len(self.images), device)
        self.sharing = Sharing(config.train, device, self.step.num_bytes)
        self._scored_partners: Ints | None = None  # the same in each epoch
        self.done, self.seconds = 0, 0.0
        self._spent, self._waited = 0.0, 0.0  # seconds since metrics were last logged
        self.steps_per_epoch = steps_an_epoch(len(train), config.train.batch_size, config.train.min_steps_per_epoch)
        self.total_steps = config.train.epochs * self.steps_per_epoch

    def resume(self) -> None:
        """Go back to the run's newest checkpoint, the start if it has none. Raises InfoAEError if it is finished."""
        self.run.refuse_finished(self.config)
        self.restore(checkpoint.newest(self.run.checkpoints))

    def restore(self, path: Path | None) -> None:
        """Go back to a checkpoint, or to the start, and forget what was measured after it. Raises InfoAEError."""
        saved = Checkpoint(0, 0, 0.0, None)
        if path is not None:
            saved, state = checkpoint.load(path)
            with checkpoint.fitting(path):
                self.step.load(state)
        if not collectives.same_everywhere(saved.step, self.step.device):
            raise InfoAEError(f"the workers see different checkpoints of {self.run.name}: put --runs on shared storage")
        if not collectives.same_everywhere(len(self.images), self.step.device):
            raise InfoAEError(f"the workers see different images: put {self.config.data.place} on shared storage")
        if saved.step > self.total_steps or saved.epoch != saved.step // self.steps_per_epoch:
            raise InfoAEError(
                f"checkpoint {path} is of step {saved.step} in epoch {saved.epoch}: {len(self.images)} images and the "
                f"run's config.yaml make {self.steps_per_epoch} steps an epoch, {self.total_steps} in all: one was "
                "changed"
            )
        self.done, self.seconds = saved.step, saved.seconds
        self.partners.restore(self.done // self.steps_per_epoch, self.step.evaluated_model())
        self.pseudo_labels.restore(self.done // self.steps_per_epoch)
        if collectives.is_main():
            self.run.forget_metrics_after(self.done)

    def fit(
        self,
        reporters: Sequence[Reporter],
        should_stop: Callable[[], bool] = lambda: False,
        should_save: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end, or until `should_stop` after a step on any rank; either way the last step is saved.

        So is one after which `should_save`, asked on the main rank.
        The end is that of all epochs, or the one that train.patience makes. Returns whether it was reached. Raises
        InfoAEError on a loss that is not finite.
        """
        stopped = False
        while self.done < self.total_steps and not stopped and not self._stops_early():
            epoch = self.done // self.steps_per_epoch
            work = partial(self._take_steps, reporters, should_stop, should_save)
            stopped = local_group.run(self.sharing.begin(), work, self.step.num_bytes)
            score = self._finish_epoch(epoch, reporters) if self.done % self.steps_per_epoch == 0 else None
            if collectives.is_main():  # the others wait for it in their next step
                self._save(score, reporters)
        return self.done == self.total_steps or self._stops_early()

    def _take_steps(
        self, reporters: Sequence[Reporter], should_stop: Callable[[], bool], should_save: Callable[[], bool]
    ) -> bool:
        """Train to the end of the epoch, or until `should_stop` after a step on any rank: returns whether it did."""
        epoch, position = divmod(self.done, self.steps_per_epoch)
        coming = self._batches(epoch)[position:]
        for number, indices in enumerate(coming):
            self.sharing.follow()
            if isinstance(self.images, Shards):
                self.images.expect(coming, number)
            self._take_step(epoch, indices, reporters if local_group.is_first() else ())
            if collectives.any_rank(should_stop(), self.step.device):
                return True
            if collectives.is_main() and self.done % self.steps_per_epoch and (self._save_is_due() or should_save()):
                self._save(None, reporters)
        return False

    def _batches(self, epoch: int) -> list[Ints]:
        train = self.config.train
        sizes, least = self.shard_sizes, train.min_steps_per_epoch
        return batches(self.config.seed, epoch, len(self.images), train.batch_size, sizes, least)

    def _stops_early(self) -> bool:
        """Whether the score has not risen for train.patience epochs: the same on all ranks."""
        if self.config.train.patience is None:
            return False
        return collectives.any_rank(collectives.is_main() and self.run.score_stands(self.config), self.step.device)

    def _take_step(self, epoch: int, indices: Ints, reporters: Sequence[Reporter]) -> None:
        """Train on the images of `indices`, a whole batch of which this rank takes its share."""
        started = time.perf_counter()
        share = collectives.share(len(indices))
        mine = partners = indices[share.slice]
        pairs = self.partners.pairs
        if pairs is not None:
            partners = pairs.draw(indices, self.config.seed, self.done)[share.slice]
        features = self._features_of(mine, partners)
        images = torch.from_numpy(self.images[mine])
        compared = None if pairs is None or features is not None else torch.from_numpy(self.images[partners])
        self._waited += time.perf_counter() - started
        self.step.scale_learning_rates(self._decay())
        result = self.step(
            images,
            self.done,
            self.schedule.stage(epoch),
            share.total,
            compared,
            self.pseudo_labels.of(mine, partners),
            features,
        )
        self.done += 1
        seconds = time.perf_counter() - started
        self.seconds += seconds
        self._spent += seconds
        self._report(result, len(indices) / seconds, reporters)

    def _features_of(self, images: Ints, partners: Ints) -> Tensor | None:
        """Return the features of images and, where they are compared, of partners: (1 or 2, B, D), None of pixels."""
        features = self.features if self.partners.features is None else self.partners.features
        if features is None:
            return None
        rows = [images] if self.partners.pairs is None else [images, partners]
        return torch.from_numpy(np.stack([np.asarray(features[each], np.float32) for each in rows]))

    def _report(self, result: StepResult, images_per_second: float, reporters: Sequence[Reporter]) -> None:
        moment = self._moment(images_per_second)
        for reporter in reporters:
            reporter.stepped(moment)
        if self.done % self.config.train.log_every == 0 or self.done == self.total_steps:
            waiting = self._waited / self._spent
            times = {metric_names.IMAGES_PER_SECOND: images_per_second, metric_names.DATA_WAIT: waiting}
            metrics = result.metrics() | times
            self._spent = self._waited = 0.0
            if collectives.is_main():
                self._write(metrics)
            for reporter in reporters:
                reporter.logged(moment, metrics)

    def _decay(self) -> float:
        """Return the part of the learning rates that the next step takes."""
        steps = self.config.optim.decay_epochs * self.steps_per_epoch
        end = self.schedule.decay_end(self.done // self.steps_per_epoch) * self.steps_per_epoch
        return min(1.0, (end - self.done) / steps) if steps else 1.0

    def _finish_epoch(self, epoch: int, reporters: Sequence[Reporter]) -> float | None:
        """Seek neighbours, make pseudo-labels, merge anew, alike on all ranks, and measure the model on the main one.

        Returns the score, which chooses the best checkpoint and sees no label; None where there is nothing to choose:
        before everything was trained, and on the other ranks.
        """
        if self.schedule.stage(epoch + 1).on_learned_features and not self.schedule.stage(epoch).on_learned_features:
            self.step.settle()
        model = self.step.evaluated_model()
        self.partners.end_epoch(epoch + 1, model)
        if not self.schedule.stage(epoch).answers:
            return None

        # Pseudo-labels, and over-categories merged into categories.
        first = slice(evaluate.SCORE_IMAGES)
        all_inputs = self.inputs if self.partners.features is None else self.partners.features
        answers = model.classify_heads(all_inputs[first]) if collectives.is_main() else None
        models = (model,) if model is self.step.model else (model, self.step.model)
        seen = self.pseudo_labels.end_epoch(epoch + 1, models, all_inputs, answers)
        if answers is None:
            return None

        # What the answers say, of images kept out of training where there are some.
        images, inputs = self.images[first], self.inputs[first]
        if self.held_out is None or self.held_out_inputs is None:
            probabilities = model.merge_probabilities(answers[:, 0]).numpy().astype(np.float64)
        else:
            images, inputs = self.held_out[first], self.held_out_inputs[first]
            probabilities = model.classify(inputs).numpy().astype(np.float64)
        if self._scored_partners is None:
            self._scored_partners = evaluate.partners_of(inputs)
        label_free = evaluate.label_free(model, inputs, self._scored_partners, probabilities=probabilities)
        measures = {
            metric_names.MUTUAL_INFORMATION: label_free.mutual_information,
            metric_names.BALANCE: label_free.balance,
            metric_names.CATEGORIES_UNUSED: model.num_categories - label_free.categories_used,
        } | seen

        # What is generated, once generated images were trained on.
        complete = epoch >= self.schedule.first_scored_epoch
        if complete:
            measures |= asdict(evaluate.generated(model, images, probabilities.argmax(1)))
        metrics = {metric_names.of_evaluation(name): value for name, value in measures.items() if np.isfinite(value)}
        self._write(metrics)
        samples = model.draw_images(torch.arange(model.num_categories).repeat_interleave(8))
        for reporter in reporters:
            reporter.evaluated(self._moment(0.0), metrics, samples)
        return label_free.mutual_information if complete else None

    def _save_is_due(self) -> bool:
        every = self.config.train.save_every
        return every is not None and self.done % every == 0

    def _save(self, score: float | None, reporters: Sequence[Reporter]) -> None:
        saved = Checkpoint(self.done, self.done // self.steps_per_epoch, self.seconds, score)
        checkpoint.save(self.run.checkpoints, saved, self.step.state())
        for reporter in reporters:
            reporter.saved(self._moment(0.0))

    def _write(self, metrics: Metrics) -> None:
        line = {"step": self.done, "epoch": self.done / self.steps_per_epoch, "seconds": self.seconds} | metrics
        with naming(self.run.path / METRICS), (self.run.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _moment(self, images_per_second: float) -> Moment:
        epoch = -(-self.done // self.steps_per_epoch)
        images_a_step = len(self.images) / steps_an_epoch(len(self.images), self.config.train.batch_size)
        left = round((self.total_steps - self.done) * images_a_step)
        return Moment(
            self.done,
            self.total_steps,
            epoch,
            self.config.train.epochs,
            left,
            images_per_second,
            self.sharing.processes,
        )
