"""From a command to a trained run: plan it, start or resume it, and say what came out."""

from __future__ import annotations

import datetime as dt
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any

import torch

from infoae import data
from infoae.config import Config, recipes
from infoae.data import ImageSet, ShardSet
from infoae.data.sampler import steps_an_epoch
from infoae.device import resolve_device, resolve_precision
from infoae.errors import UsageError
from infoae.evaluation import health
from infoae.evaluation.evaluate import evaluate
from infoae.pseudolabels import knn, pairs
from infoae.reporting.images import progress as image_progress
from infoae.reporting.training import TrainingProgress, counted
from infoae.reporting.wandb import Mode, wandb_reporter
from infoae.runs import checkpoint, environment
from infoae.runs.run import Run
from infoae.trainer import Trainer

GAME = ("discriminator_accuracy", "loss/encoder_adversarial")
GAME_STEPS = 10  # logged ones: a single step says little


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
        return train.epochs * steps_an_epoch(len(self.train), train.batch_size, train.least_steps)

    def summary(self) -> dict[str, Any]:
        """Return what --dry-run prints."""
        return {
            "recipe": self.recipe,
            "data": self.config.data.name,
            "images": len(self.train),
            "image_shape": list(self.train.images.shape[1:]),
            "epochs": self.config.train.epochs,
            "steps": self.total_steps,
            "device": str(self.device),
            "precision": str(self.precision).removeprefix("torch."),
            "global_batch": self.config.train.batch_size,
            "micro_batch": self.config.train.micro_batch_size,
            "learning_rates": self.config.learning_rates(),
            "learning_rate_scaling": self.config.optim.learning_rate_scaling,
        }


def planned(source: str, overrides: Sequence[str], runs: Path, name: str | None, device: str | None = None) -> Plan:
    """Check a new run's configuration, data and device, as `checked` does. Raises InfoAEError."""
    config = recipes.load(source, overrides)
    return checked(config, runs, Path(source).stem, name, None, device)


def resumed(run: str, runs: Path, epochs: int | None, device: str | None = None) -> Plan:
    """Check a stopped run that is to go on, for `epochs` in all if given. Raises InfoAEError."""
    found = Run.open(run, runs)
    config = found.config()
    if epochs is not None:
        if epochs < config.train.epochs:
            raise UsageError(f"run {found.name} was planned for {config.train.epochs} epochs; --epochs cannot go below")
        config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
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
    if config.data.root is not None:  # a resumed run or a worker may be in another folder
        root = config.data.root.expanduser().resolve()
        config = config.model_copy(update={"data": config.data.model_copy(update={"root": root})})
    if config.compares_neighbours() and config.information.search == "approximate":
        knn.need_faiss()
    train, test = data.load_training(config.data), data.load(config.data, "test")
    if not len(test) or test.images.shape[1:] != train.images.shape[1:]:
        raise UsageError(
            f"the test images of {config.data.name} are {tuple(test.images.shape)}, those to train on are "
            f"{tuple(train.images.shape)}: the same channels, height and width are needed, and at least one"
        )
    return Plan(with_image_shape(config, train), train, test, device, precision, runs, recipe, name, found)


def with_image_shape(config: Config, train: ImageSet | ShardSet) -> Config:
    """Fill in the image's channels and size from the data. Raises UsageError if the config says otherwise."""
    _, channels, height, width = train.images.shape
    if height != width:
        raise UsageError(f"images are {height} x {width} pixels; the networks need square ones")
    for key, found in (("channels", channels), ("image_size", height)):
        wanted = getattr(config.model, key)
        if wanted not in (None, found):
            raise UsageError(f"model.{key} is {wanted}, but the images of {config.data.name} have {found}")
    model = config.model.model_copy(update={"channels": channels, "image_size": height})
    return config.model_copy(update={"model": model})


def restarts(plan: Plan, count: int) -> list[Plan]:
    """Return `count` plans that differ in their seeds, which follow on the plan's own, and names, NAME-<seed>.

    One whose run is there already goes on with it, so that a repeated command finishes the job. Raises UsageError if
    that is of another configuration, or if scores could not be compared.
    """
    if plan.config.model.num_categories == "auto":
        raise UsageError(
            "--restarts keeps the best score, and scores of different numbers of categories cannot be compared: find "
            "the number with --categories auto, then give it as --categories with --restarts"
        )
    name = plan.name or f"{plan.recipe}-{dt.datetime.now():%Y%m%d-%H%M%S}"
    return [_restart(plan, f"{name}-{seed}", seed) for seed in range(plan.config.seed, plan.config.seed + count)]


def _restart(plan: Plan, name: str, seed: int) -> Plan:
    config = plan.config.model_copy(update={"seed": seed})
    found = Run(plan.runs / name)
    if not found.path.exists():
        return replace(plan, config=config, name=name)
    if Run.open(found.path).config() != config:
        raise UsageError(f"{found.path} is of another configuration: give another --name or --seed, or delete it")
    return replace(plan, config=config, name=None, resumed=Run.open(found.path))


def best_of(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the result of the highest label-free score, now the latest run, with all scores as `tried`."""
    best = max(results, key=lambda result: float(result["score"]))
    Run.open(best["folder"]).point_latest()
    return best | {"tried": {result["run"]: result["score"] for result in results}}


def start(plan: Plan) -> Run:
    """Make the folder of a new run, or return the one to go on with, as it was."""
    return plan.resumed or Run.create(plan.runs, plan.name, plan.recipe, plan.config)


def find_partners(trained: Run, plan: Plan, go_on: str | None = None) -> None:
    """Find the neighbours that a run will ask for, unless it has them, and show how far that is. Raises UsageError."""
    if not plan.config.compares_neighbours():
        return
    try:
        with image_progress("nearest neighbours", len(plan.train)) as advance:
            pairs.find(trained, plan.train.images, plan.config.information, plan.config.augment, advance)
    except KeyboardInterrupt:
        with TrainingProgress() as progress:
            progress.say(f"stopped before training; go on with: {go_on or f'infoae train --resume {trained.name}'}")
        raise


def run(plan: Plan, wandb: Mode) -> dict[str, Any]:
    """Train, then evaluate the best checkpoint. Returns the result as JSON values, `finished` among them.

    A run that is finished is only evaluated.
    """
    trained = start(plan)
    if plan.resumed is not None and trained.is_finished(plan.config):
        return _result(trained, plan, finished=True)
    find_partners(trained, plan)
    with TrainingProgress() as progress:
        trainer = Trainer(trained, plan.config, plan.train, plan.device, plan.precision)
        if plan.resumed is not None:
            trainer.resume()
            trained.write_config(plan.config)  # only now: a checkpoint that cannot be read must leave the run as it was
            progress.say(f"resuming {trained.path} after step {trainer.done} of {trainer.total_steps}")
        else:
            steps = f"{trainer.total_steps} steps; {describe_batch(plan.config)}"
            progress.say(f"training {trained.path} on {len(plan.train)} images, {steps}")
        trained.add_environment(environment.describe(plan.device, plan.precision, plan.config.seed, trainer.done))
        with (
            wandb_reporter(wandb, trained, plan.config) as reporters,
            stop_on_signal(progress.say) as stop_wanted,
        ):
            finished = trainer.fit([progress, *reporters], stop_wanted)
    return _result(trained, plan, finished)


def _result(trained: Run, plan: Plan, finished: bool) -> dict[str, Any]:
    saved = checkpoint.read(trained.checkpoint("newest"))
    result: dict[str, Any] = {
        "run": trained.name,
        "folder": str(trained.path),
        "finished": finished,
        "step": saved.step,
        "total_steps": plan.total_steps,
        "seconds": round(saved.seconds, 1),
    }
    return result | (evaluate_run(trained, plan.test, "best", plan.device) if finished else {})


def describe_batch(config: Config) -> str:
    """Return the batch, and the learning rates that it leads to, in words."""
    rate, critic_rate = config.learning_rates()
    rule = config.optim.learning_rate_scaling
    train = config.train
    micro = train.micro_batch_size
    parts = f" in micro-batches of about {micro}" if micro and round(train.batch_size / micro) > 1 else ""
    rates = f"batch {train.batch_size} in all{parts}, learning rates {rate:g} and {critic_rate:g} (scaling: {rule})"
    decay = config.optim.decay_epochs
    return f"{rates}, which fall to 0 over the last {decay} epochs" if decay else rates


def evaluate_run(run: Run, test: ImageSet, which: str, device: torch.device) -> dict[str, Any]:
    """Evaluate one checkpoint of a run on `test`, write evaluation.json, and return its content."""
    from infoae.files import write_json

    path = run.checkpoint(which)
    model = run.load_model(which).to(device)
    saved = checkpoint.read(path)
    content = evaluate(model, test).to_dict()
    content["warnings"] += health.of_measures(_game(run))
    if kept := run.information_kept():
        content["warnings"] += health.of_number(kept)
    content |= {"run": run.name, "checkpoint": path.name, "checkpoint_step": saved.step, "score": saved.score}
    write_json(run.path / "evaluation.json", content)
    return content


def _game(run: Run) -> dict[str, float]:
    """Return the mean over the last logged steps of what tells how the adversarial game stands."""
    logged = deque((line for line in run.metrics() if "discriminator_accuracy" in line), GAME_STEPS)
    values = {name: [line[name] for line in logged if name in line] for name in GAME}
    return {name: fmean(found) for name, found in values.items() if found}


def describe(result: dict[str, Any]) -> str:
    """Return the result of a run in words."""
    name = result["run"]
    if not result["finished"]:
        go_on = result.get("go_on", f"infoae train --resume {name}")
        return f"stopped and saved after step {result['step']}; go on with: {go_on}"
    label_free = result["label_free"]
    lines = [
        f"run {result['folder']}: {result['seconds']:.0f} s of training, best checkpoint {result['checkpoint']}",
        f"label-free: mutual information {label_free['mutual_information']:.3f} nats, "
        f"{label_free['categories_used']} categories used, balance {label_free['balance']:.3f}",
    ]
    if result["step"] < result["total_steps"]:
        lines.append(
            f"stopped early, after step {result['step']} of {result['total_steps']}: the score had stopped rising"
        )
    if result.get("restarts"):
        lines.append(f"workers were lost and training restarted {counted(result['restarts'], 'time')}")
    if "accuracy" in result:
        lines.append(f"test accuracy {result['accuracy']:.2%}, NMI {result['nmi']:.3f}, ARI {result['ari']:.3f}")
    if "tried" in result:
        scores = ", ".join(f"{run} {score:.3f}" for run, score in result["tried"].items())
        lines.append(f"the best of {len(result['tried'])} by its label-free score: {scores}")
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    lines.append(f"look at it: infoae evaluate {name}; infoae figures {name}")
    return "\n".join(lines)


@contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop after the step; a second one interrupts at once."""
    wanted = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal wanted
        if wanted:
            raise KeyboardInterrupt
        wanted = True
        say("stopping after this step and saving; again to stop without saving")

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wanted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
