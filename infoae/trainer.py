"""The training loop: step, log, evaluate, save, and go on exactly where an interrupted run stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoae.config import Config
from infoae.data import ImageSet, ShardSet
from infoae.data.sampler import batches, steps_an_epoch
from infoae.distributed import collectives
from infoae.errors import InfoAEError, UsageError
from infoae.evaluation import evaluate, health
from infoae.files import write_json
from infoae.model import InfoAE
from infoae.pseudolabels import merging, pairs, vote
from infoae.random_streams import Stream, generator
from infoae.runs import checkpoint
from infoae.runs.checkpoint import Checkpoint
from infoae.runs.run import CATEGORIES, Run
from infoae.step import Step

Metrics = dict[str, float]


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


class Reporter(Protocol):
    """Something that is told how training goes: a file, a progress bar, W&B."""

    def stepped(self, moment: Moment) -> None:
        """A step is done."""

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        """Metrics of one step."""

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
        if len(train) < 2:
            raise UsageError(f"training needs at least 2 images, {config.data.name} gave {len(train)}")
        self.run, self.config = run, config
        self.images, self.held_out = train.images, train.held_out
        self.shard_sizes = train.images.sizes if isinstance(train, ShardSet) else ()
        torch.manual_seed(generator(config.seed, Stream.WEIGHTS).initial_seed())
        self.step = Step(InfoAE(config.model), config, device, precision)
        self.nearest = self.partners = None
        if config.compares_neighbours():
            self.nearest = pairs.load(run, self.images, config.information, config.augment, device)
            self.partners = self.nearest[:, : config.information.neighbours]
        self.agreed: NDArray[np.int64] | None = None
        self.done, self.seconds, self.settlement = 0, 0.0, 0
        self.steps_per_epoch = steps_an_epoch(len(train), config.train.batch_size, config.train.least_steps)
        self.vote_step = config.information.epochs * self.steps_per_epoch
        self.latent_steps = self.vote_step + config.information.consensus_epochs * self.steps_per_epoch
        self.total_steps = config.train.epochs * self.steps_per_epoch

    def resume(self) -> None:
        """Go back to the run's newest checkpoint, the start if it has none. Raises InfoAEError if it is finished."""
        self.run.refuse_finished(self.config)
        self.restore(checkpoint.newest(self.run.checkpoints))

    def restore(self, path: Path | None) -> None:
        """Go back to a checkpoint, or to the start, and forget what was measured after it. Raises InfoAEError."""
        saved = checkpoint.restore(path, self.step) if path is not None else Checkpoint(0, 0, 0.0, None)
        if not collectives.same_everywhere(saved.step, self.step.device):
            raise InfoAEError(f"the workers see different checkpoints of {self.run.name}: put --runs on shared storage")
        if not collectives.same_everywhere(len(self.images), self.step.device):
            raise InfoAEError(f"the workers see different images: put {self.config.data.root} on shared storage")
        self.done, self.seconds = saved.step, saved.seconds
        self.settlement = self._settlements()
        if self.settlement:
            self.agreed = vote.load(self.run, len(self.images), self.settlement, self.step.device)
        if collectives.is_main():
            self.run.forget_metrics_after(self.done)

    def fit(self, reporters: Sequence[Reporter], should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end, or until `should_stop` after a step on any rank; either way the last step is saved.

        The end is that of all epochs, or the one that train.patience makes. Returns whether it was reached. Raises
        InfoAEError on a loss that is not finite.
        """
        stopped = False
        while self.done < self.total_steps and not stopped and not self._stops_early():
            epoch, position = divmod(self.done, self.steps_per_epoch)
            train, seed = self.config.train, self.config.seed
            order = batches(seed, epoch, len(self.images), train.batch_size, self.shard_sizes, train.least_steps)
            for indices in order[position:]:
                self._train_step(indices, reporters)
                stopped = collectives.agreed(should_stop(), self.step.device)
                if stopped:
                    break
                if self._save_is_due() and collectives.is_main():
                    self._save(None, reporters)
            score = self._finish_epoch(reporters) if self.done % self.steps_per_epoch == 0 else None
            if collectives.is_main():  # the others wait for it in their next step
                self._save(score, reporters)
        return self.done == self.total_steps or self._stops_early()

    def _stops_early(self) -> bool:
        """Whether the score has not risen for train.patience epochs: the same on all ranks."""
        if self.config.train.patience is None:
            return False
        return collectives.agreed(collectives.is_main() and self.run.score_stands(self.config), self.step.device)

    def _train_step(self, indices: NDArray[np.int64], reporters: Sequence[Reporter]) -> None:
        started = time.perf_counter()
        share = collectives.share(len(indices))
        self.step.scale_learning_rates(self._decay())
        result = self.step(
            torch.from_numpy(self.images[indices[share.slice]]),
            self.done,
            share.total,
            *self._partners_of(indices, share),
            latent_only=self.done < self.latent_steps,
        )
        self.done += 1
        seconds = time.perf_counter() - started
        self.seconds += seconds
        if not collectives.is_main():
            return
        moment = self._moment(len(indices) / seconds)
        for reporter in reporters:
            reporter.stepped(moment)
        if self.done % self.config.train.log_every == 0 or self.done == self.total_steps:
            metrics = result.metrics() | {"images_per_second": moment.images_per_second}
            self._write(metrics)
            for reporter in reporters:
                reporter.logged(moment, metrics)

    def _decay(self) -> float:
        """Return the part of the learning rates that the next step takes."""
        steps = self.config.optim.decay_epochs * self.steps_per_epoch
        return min(1.0, (self.total_steps - self.done) / steps) if steps else 1.0

    def _finish_epoch(self, reporters: Sequence[Reporter]) -> float | None:
        """Merge the over-categories anew, the same on all ranks, and measure the model on the main one.

        Returns the score, which chooses the best checkpoint and sees no label; None where there is nothing to choose:
        before everything was trained, and on the other ranks.
        """
        model, images = self.step.evaluated_model(), self.images[: evaluate.SCORE_IMAGES]
        answers = model.classify_heads(images) if collectives.is_main() else None
        seen: Metrics = {}
        if model.num_over_categories > model.num_categories:
            seen |= self._merge(model, answers)
        if self._settlements() > self.settlement:
            self.settlement = self._settlements()
            seen |= self._settle(model)
            self._merge(model, answers)
        if answers is None:
            return None
        if self.held_out is None:
            probabilities = model.merge_probabilities(answers[:, 0]).numpy().astype(np.float64)
        else:
            images = self.held_out[: evaluate.SCORE_IMAGES]
            probabilities = model.classify(images).numpy().astype(np.float64)
        label_free = evaluate.label_free(model, images, probabilities=probabilities)
        complete = self.done > self.latent_steps
        measures = {"mutual_information": label_free.mutual_information, "balance": label_free.balance}
        measures |= {"categories_unused": model.num_categories - label_free.categories_used} | seen
        if complete:  # before, no image that was generated has been trained on
            measures |= asdict(evaluate.generated(model, images, probabilities.argmax(1)))
        metrics = {f"evaluation/{name}": value for name, value in measures.items() if np.isfinite(value)}
        self._write(metrics)
        samples = model.decode(model.draw_latents(torch.arange(model.num_categories).repeat_interleave(8)))
        for reporter in reporters:
            reporter.evaluated(self._moment(0.0), metrics, samples)
        return label_free.mutual_information if complete else None

    def _settlements(self) -> int:
        """How often the categories of training images were settled so far: by the vote, then by settle_every."""
        every = self.config.information.settle_every
        if not self.config.objective.weights.consensus or self.done < self.vote_step:
            return 0
        return 1 + (self.done - self.vote_step) // (every * self.steps_per_epoch) if every else 1

    def _settle(self, model: InfoAE) -> Metrics:
        """Settle the categories of all training images: by the vote of the heads, later by the classifier's answers.

        Returns how well that went, on the main rank.
        """
        measures: Metrics = {}
        if collectives.is_main():
            information = self.config.information
            if self.settlement == 1:
                nearest = None if self.nearest is None else self.nearest[:, : information.merging_neighbours]
                votes = vote.of_heads(model, self.images, nearest, information.merging)
            else:
                votes = vote.of_classifier(model, self.images)
            settled, measures = vote.settle(votes, model.num_categories, information, self.partners)
            vote.save(self.run, settled, self.settlement)
        self.agreed = vote.load(self.run, len(self.images), self.settlement, self.step.device)
        return measures

    def _merge(self, model: InfoAE, answers: Tensor | None) -> Metrics:
        """Merge anew: by what the heads agreed on, before the vote those between which images and partners move most.

        `answers` (N, H, M) are the main rank's model's for the first images; the others are told what comes out.
        Returns what the joint distribution says of the categories, on the main rank before the vote.
        """
        measures: Metrics = {}
        category_of = torch.zeros(model.num_over_categories, dtype=torch.int64)
        frequency = torch.zeros(model.num_over_categories, dtype=torch.float64)
        if answers is not None:
            over = answers[:, 0].double()
            if self.agreed is None:
                nearest = np.arange(len(over)) if self.partners is None else self.partners[: len(over), 0]
                joint = evaluate.joints_of_pairs(model, answers, self.images[nearest])[0]
                criterion = self.config.information.merging
                merged = merging.merge(joint, self._number(model, joint), criterion)[0]
                measures = health.of_joint(joint, merged)
            else:
                merged = vote.categories_of(over.numpy(), self.agreed[: len(over)], model.num_categories)
            category_of, frequency = torch.from_numpy(merged), over.mean(0)
        category_of, frequency = (collectives.from_main(each, self.step.device) for each in (category_of, frequency))
        for each in {id(m): m for m in (model, self.step.model)}.values():
            each.merge(category_of.to(self.step.device), frequency.to(self.step.device))
        return measures

    def _number(self, model: InfoAE, joint: NDArray[np.float64]) -> int:
        """Return how many categories to merge into; where they are to be found, that is settled before the vote."""
        if self.config.model.num_categories != "auto" or self.done > self.vote_step:
            return model.num_categories
        kept = merging.information_kept(joint)
        found = merging.choose_number(kept)
        write_json(self.run.path / CATEGORIES, {"categories": found, "information_kept": kept})
        return found

    def _partners_of(self, indices: NDArray[np.int64], share: collectives.Share) -> tuple[Tensor | None, Tensor | None]:
        """Return partner images (B, C, H, W) where there are any, and what was agreed on both (2, B) after the vote."""
        mine, images = indices[share.slice], None
        others = mine
        if self.partners is not None:
            others = pairs.draw(self.partners, indices, self.config.seed, self.done)[share.slice].astype(np.int64)
            images = torch.from_numpy(self.images[others])
        agreed = None if self.agreed is None else torch.from_numpy(self.agreed[np.stack([mine, others])])
        return images, agreed

    def _save_is_due(self) -> bool:
        every = self.config.train.save_every
        return every is not None and self.done % every == 0 and self.done % self.steps_per_epoch != 0

    def _save(self, score: float | None, reporters: Sequence[Reporter]) -> None:
        epoch = self.done // self.steps_per_epoch
        checkpoint.save(self.run.checkpoints, Checkpoint(self.done, epoch, self.seconds, score), self.step)
        for reporter in reporters:
            reporter.saved(self._moment(0.0))

    def _write(self, metrics: Metrics) -> None:
        line = {"step": self.done, "epoch": self.done / self.steps_per_epoch, "seconds": self.seconds} | metrics
        with (self.run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _moment(self, images_per_second: float) -> Moment:
        epoch = -(-self.done // self.steps_per_epoch)
        images_a_step = len(self.images) / steps_an_epoch(len(self.images), self.config.train.batch_size)
        left = round((self.total_steps - self.done) * images_a_step)
        return Moment(self.done, self.total_steps, epoch, self.config.train.epochs, left, images_per_second)
