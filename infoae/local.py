"""Training in this process."""

from __future__ import annotations

from infoae import memory
from infoae.evaluation.evaluate import evaluate_run
from infoae.planning import Plan, describe_batch, find_neighbours, started
from infoae.reporting.training import TrainingProgress
from infoae.reporting.wandb import Mode, wandb_reporter
from infoae.results import TrainingResult
from infoae.runs import checkpoint, environment
from infoae.runs.run import Run
from infoae.signals import stop_on_signal
from infoae.trainer import Trainer


def run(plan: Plan, wandb: Mode) -> TrainingResult:
    """Train, then evaluate the best checkpoint. A run that is finished is only evaluated. Raises InfoAEError."""
    with started(plan) as trained:
        return _train(trained, plan, wandb)


def _train(trained: Run, plan: Plan, wandb: Mode) -> TrainingResult:
    if plan.resumed is not None and trained.is_finished(plan.config):
        return _result(trained, plan, finished=True)
    find_neighbours(trained, plan)
    with TrainingProgress(plan.config.method) as progress:
        trainer = Trainer(trained, plan.config, plan.train, plan.device, plan.precision)
        if plan.resumed is not None:
            trainer.resume()
            trained.write_config(plan.config)  # only now: a checkpoint that cannot be read must leave the run as it was
            progress.say(f"resuming {trained.path} after step {trainer.done} of {trainer.total_steps}")
        else:
            steps = f"{trainer.total_steps} steps; {describe_batch(plan.config)}"
            progress.say(f"training {trained.path} on {len(plan.train)} images, {steps}")
        progress.say(memory.of_training(plan.config, plan.precision).describe())
        trained.add_environment(environment.describe(plan.device, plan.precision, plan.config.seed, trainer.done))
        with (
            wandb_reporter(wandb, trained, plan.config) as reporters,
            stop_on_signal(progress.say) as stop_wanted,
        ):
            finished = trainer.fit([progress, *reporters], stop_wanted)
    return _result(trained, plan, finished)


def _result(trained: Run, plan: Plan, finished: bool) -> TrainingResult:
    saved = checkpoint.read(trained.checkpoint("newest"))
    return TrainingResult(
        run=trained.name,
        folder=str(trained.path),
        finished=finished,
        step=saved.step,
        total_steps=plan.total_steps,
        seconds=round(saved.seconds, 1),
        evaluation=evaluate_run(trained, plan.test, "best", plan.device) if finished else None,
    )
