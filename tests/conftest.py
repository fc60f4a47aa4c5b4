"""Shared fixtures: one small trained run for the whole session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # nets this small are faster on one thread, and tests share the machine
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["WANDB_ERROR_REPORTING"] = "false"

from infoae import config, launch, planning
from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.launch import Executor
from infoae.planning import with_image_shape
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.settings import TINY

hypothesis.settings.register_profile("any time", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("any time")


@pytest.fixture
def tiny_config() -> Config:
    """A configuration that trains in a second, its image shape filled in."""
    return recipes.load("smoke", [*TINY, "model.channels=1", "model.image_size=28"])


@pytest.fixture(scope="session")
def mnist() -> tuple[ImageSet, ImageSet]:
    """The first 300 training and 500 test images of the real MNIST."""
    from infoae import data

    train = data.load(config.Data(limit=300), "train")
    test = data.load(config.Data(), "test")
    assert test.labels is not None
    return train, ImageSet(test.images[:500], test.labels[:500])


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run trained to the end through the same path as the command."""
    runs = tmp_path_factory.mktemp("runs")
    plan = planning.planned("smoke", TINY, runs, "tiny")
    result = launch.run(plan, Executor())
    assert result.finished
    return Run.open("tiny", runs)


@pytest.fixture(scope="session")
def lively_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained just long enough (ten seconds) to answer with every category; its images are not good."""
    runs = tmp_path_factory.mktemp("runs")
    skipped = ("decoder_generated", "decoder_reconstructed", "encoder_adversarial")
    settings = ["train.epochs=6", "optim.learning_rate=2e-3", "objective.weights.reconstruction=0.05"]
    settings += [f"objective.weights.{loss}=0" for loss in skipped]
    plan = planning.planned("smoke", [*settings, "train.precision=fp32", "train.device=cpu"], runs, "lively")
    result = launch.run(plan, Executor())
    assert result.evaluation is not None
    assert result.evaluation.measures.label_free.categories_used >= 8
    return Run.open("lively", runs)


@pytest.fixture
def make_trainer(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> Callable[..., Trainer]:
    """Return a function that builds a trainer for a run of the given name, created if it is new."""

    def make(run_config: Config, name: str = "run") -> Trainer:
        run_config = with_image_shape(run_config, mnist[0])
        new = not (tmp_path / name).exists()
        run = Run.create(tmp_path, name, "test", run_config) if new else Run.open(name, tmp_path)
        return Trainer(run, run_config, mnist[0], torch.device("cpu"), torch.float32)

    return make
