"""Shared fixtures: one small trained run for the whole session."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

# Before torch is imported, which reads it then. Nets this small are faster on one thread, and tests share the machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  or a busy machine, and the other tests, leave it nothing
os.environ["WANDB_ERROR_REPORTING"] = "false"

import torch

from infoae import config, launch, planning
from infoae.config import Config, recipes
from infoae.cpus import available_cpus
from infoae.data import ImageSet
from infoae.files import write_json
from infoae.launch import Executor
from infoae.planning import with_image_shape
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.settings import TINY

hypothesis.settings.register_profile("any time", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("any time")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --measured."""
    told = "write what tests measured (record_property) into this JSON file, beside what is there of other tests"
    parser.addoption("--measured", type=Path, metavar="FILE", help=told)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return what `-n auto` means: one more than CPUs, as Ray, browsers and servers are often waited for."""
    return available_cpus() + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write what tests that passed have measured."""
    file: Path | None = config.getoption("measured")
    if file is not None:
        passed = [report for report in terminalreporter.getreports("passed") if report.user_properties]
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        write_json(file, found | {report.nodeid: dict(report.user_properties) for report in passed})


@pytest.fixture(autouse=True)
def _as_many_threads_as_before() -> Iterator[None]:
    """Take back what a test sets, as benchmarks do: with two threads, nets this small are ten times slower."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


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
def train_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Return a function that gives this process a run of its own, trained once for all processes of the tests."""

    def train(name: str, *settings: str) -> Run:
        shared = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            shared = shared.parent
        runs = shared / "trained"
        with FileLock(shared / f"{name}.lock"):
            if not (runs / name / "evaluation.json").exists():
                launch.run(planning.planned("smoke", settings, runs, name), Executor())
        own = tmp_path_factory.mktemp("runs")
        shutil.copytree(runs / name, own / name)
        return Run.open(name, own)

    return train


@pytest.fixture(scope="session")
def finished_run(train_once: Callable[..., Run]) -> Run:
    """A small run trained to the end through the same path as the command."""
    return train_once("tiny", *TINY)


@pytest.fixture(scope="session")
def lively_run(train_once: Callable[..., Run]) -> Run:
    """A run trained just long enough (ten seconds) to answer with every category; its images are not good."""
    skipped = ("decoder_generated", "decoder_reconstructed", "encoder_adversarial")
    settings = ["train.epochs=6", "optim.learning_rate=2e-3", "objective.weights.reconstruction=0.05"]
    settings += [f"objective.weights.{loss}=0" for loss in skipped]
    run = train_once("lively", *settings, "train.precision=fp32", "train.device=cpu")
    assert json.loads((run.path / "evaluation.json").read_text())["categories_used"] >= 8
    return run


@pytest.fixture
def make_trainer(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> Callable[..., Trainer]:
    """Return a function that builds a trainer for a run of the given name, created if it is new."""

    def make(run_config: Config, name: str = "run") -> Trainer:
        run_config = with_image_shape(run_config, mnist[0])
        new = not (tmp_path / name).exists()
        run = Run.create(tmp_path, name, "test", run_config) if new else Run.open(name, tmp_path)
        return Trainer(run, run_config, mnist[0], torch.device("cpu"), torch.float32)

    return make


@pytest.fixture
def threads_take_turns() -> Iterator[None]:
    """Another thread goes on whenever garbage is collected, which is soon."""
    thresholds = gc.get_threshold()

    def give_way(*_: object) -> None:
        time.sleep(0)

    gc.callbacks.append(give_way)
    gc.set_threshold(20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(give_way)
