"""A training whose batches several processes of this machine share is one by a single process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from infoae import data
from infoae.config import Config, recipes
from infoae.config.methods import METHODS
from infoae.distributed import local_group
from infoae.errors import InfoAEError
from infoae.runs import checkpoint
from infoae.runs.run import Run
from infoae.signals import stop_on_signal
from infoae.trainer import Metrics, Moment, Trainer
from tests.helpers import ranks as script
from tests.helpers.methods import tiny_config_of
from tests.helpers.ranks import OVER, SETTINGS

pytestmark = pytest.mark.skipif(not local_group.possible(torch.device("cpu")), reason="no processes share a batch here")
Start = Callable[..., Trainer]
STEPS = 6  # two epochs of three batches
MICRO = ("train.micro_batch_size=50",)  # two of a batch


@pytest.fixture(autouse=True)
def _nobody_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def trainer(tmp_path: Path) -> Start:
    """Return a function that builds a trainer of the run of the given name."""

    def build(name: str, processes: int, *settings: str, precision: torch.dtype = torch.float32) -> Trainer:
        config = configured(f"train.processes={processes}", *settings)
        run = Run(tmp_path / name)
        if not run.path.exists():
            run = Run.create(tmp_path, name, "test", config)
        built = Trainer(run, config, data.load_training(config.data), torch.device("cpu"), precision)
        script.sharpen(built.step.model)
        return built

    return build


def configured(*settings: str) -> Config:
    return recipes.load("smoke", [*SETTINGS, "train.batch_size=100", "model.critic_norm=spectral", *settings])


class Recorder:
    """Reporter that remembers what it was told, and acts after a step."""

    def __init__(self, act: Callable[[int], None] = lambda _step: None) -> None:
        self.act = act
        self.steps: list[int] = []
        self.saves: list[int] = []
        self.processes: set[int] = set()

    def stepped(self, moment: Moment) -> None:
        self.steps.append(moment.step)
        self.processes.add(moment.processes)
        self.act(moment.step)

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        pass

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        pass

    def saved(self, moment: Moment) -> None:
        self.saves.append(moment.step)


def state(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value
        for part, tensors in trainer.step.state().tensors.items()
        for name, value in tensors.items()
    }


def assert_bit_equal(ours: Trainer, theirs: Trainer) -> None:
    found, expected = state(ours), state(theirs)
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("micro_batch", ["null", "35"])
def test_two_processes_follow_one_whatever_the_method(method: str, micro_batch: str) -> None:
    """Batches of 75 and 74: shares are uneven."""
    settings = ("data.limit=299", "train.batch_size=75", f"train.micro_batch_size={micro_batch}")
    config = tiny_config_of(method, *settings)
    assert local_group.size_for(75, config.train.micro_batch_size, 2) == 2

    def work() -> dict[str, object]:
        taken = script.take_steps(config, Path(), 4)
        group = local_group.here()
        assert group is not None
        for name, value in taken["model"].items():  # the processes themselves are equal to the last bit
            one, other = (part.clone() for part in group.exchange(value.reshape(-1)))
            assert torch.equal(one, other), name
        return taken

    script.assert_follows(local_group.run(2, work), script.take_steps(config, Path(), 4))


@pytest.mark.parametrize(
    ("settings", "of_loss", "of_move"),
    [
        ((), 3e-3, 0.1),
        (MICRO, 3e-3, 0.1),
        (("train.adversarial_fraction=0.3",), 3e-3, 0.1),
        (OVER, 3e-2, 0.25),
        ((*OVER, *MICRO), 3e-2, 0.25),
    ],
    ids=["plain", "micro-batches", "a subset is judged", "over-categories", "all in micro-batches"],
)
def test_a_training_by_two_processes_is_that_of_one(
    trainer: Start, settings: tuple[str, ...], of_loss: float, of_move: float
) -> None:
    """Losses by their size and each weight tensor by how far it moved, as two ranks follow one."""
    one, two, recorder = trainer("one", 1, *settings), trainer("two", 2, *settings), Recorder()
    initial = script.on_cpu(one.step.model)
    one.fit([])
    two.fit([recorder])
    assert recorder.steps == list(range(1, STEPS + 1))  # nothing is reported twice
    assert recorder.processes == {2}
    expected, found = one.step.evaluated_model().state_dict(), two.step.evaluated_model().state_dict()
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):  # counts forward passes, and decides nothing
            continue
        moved, difference = (value - initial[key]).double().norm(), (found[key] - value).double().norm()
        assert difference <= of_move * moved + 1e-6, key
    ours, theirs = ([line for line in each.run.metrics() if "images_per_second" in line] for each in (two, one))
    assert [line["step"] for line in ours] == list(range(1, STEPS + 1))
    for line, other in zip(ours, theirs, strict=True):
        # Of so few images, rounding may give some another pseudo-label, and their loss then jumps.
        losses = {key: value for key, value in line.items() if key.startswith("loss/") and "pseudo_label" not in key}
        assert losses == pytest.approx({key: other[key] for key in losses}, rel=of_loss, abs=of_loss)


def test_two_processes_train_in_bf16(trainer: Start) -> None:
    one, two = (trainer(str(size), size, precision=torch.bfloat16) for size in (1, 2))
    assert one.fit([])
    assert two.fit([])
    name = "loss/reconstruction"
    ours, theirs = ([line[name] for line in trained.run.metrics() if name in line] for trained in (two, one))
    np.testing.assert_allclose(ours, theirs, rtol=0.05)


@pytest.mark.parametrize("settings", [(), (*OVER, *MICRO)], ids=["plain", "all in micro-batches"])
@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_run_of_two_processes_stopped_after_any_step_resumes_bit_equal(
    trainer: Start, stop_after: int, settings: tuple[str, ...]
) -> None:
    """The first alone is asked to stop, as by Ctrl-C."""
    unbroken, stopped = trainer("unbroken", 2, *settings), trainer("stopped", 2, *settings)
    unbroken.fit([])
    assert not stopped.fit([], lambda: local_group.is_first() and stopped.done == stop_after)
    resumed = trainer("stopped", 2, *settings)
    resumed.resume()
    assert resumed.done == stop_after
    assert resumed.fit([])
    assert_bit_equal(resumed, unbroken)
    steps = [line["step"] for line in resumed.run.metrics() if "images_per_second" in line]
    assert steps == list(range(1, STEPS + 1))


def test_a_run_goes_on_with_other_processes_than_it_began_with(trainer: Start) -> None:
    begun = trainer("run", 2)
    assert not begun.fit([], lambda: begun.done == 4)
    resumed = trainer("run", 1)
    resumed.resume()
    assert resumed.fit([])
    assert resumed.done == STEPS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_stops_them_after_the_step(trainer: Start, number: signal.Signals) -> None:
    """As a terminal sends Ctrl-C, and batch systems SIGTERM."""

    def send(step: int) -> None:
        if step == 4:
            for process in (*multiprocessing.active_children(), multiprocessing.current_process()):
                assert process.pid is not None
                os.kill(process.pid, number)

    said: list[str] = []
    stopped = trainer("run", 2)
    with stop_on_signal(said.append) as stop_wanted:
        assert not stopped.fit([Recorder(send)], stop_wanted)
    assert len(said) == 1
    newest = checkpoint.newest(stopped.run.checkpoints)
    assert newest is not None
    assert checkpoint.read(newest).step == stopped.done == 4


def test_a_run_of_two_processes_saved_within_an_epoch_goes_on_bit_equal(trainer: Start) -> None:
    unbroken = trainer("unbroken", 2)
    unbroken.fit([])

    def crash(step: int) -> None:
        if step == 5:
            raise RuntimeError("killed")

    recorder = Recorder(crash)
    broken = trainer("broken", 2, "train.save_every=2")
    with pytest.raises(RuntimeError, match="killed"):
        broken.fit([recorder])
    assert recorder.saves == [2, 3, 4]
    resumed = trainer("broken", 2, "train.save_every=2")
    resumed.resume()
    assert resumed.done == 4
    resumed.fit([])
    assert_bit_equal(resumed, unbroken)


def test_a_second_interrupt_ends_all_without_saving(trainer: Start) -> None:
    def interrupt(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    interrupted = trainer("run", 2)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit([Recorder(interrupt)])
    assert checkpoint.newest(interrupted.run.checkpoints) is None


@pytest.mark.parametrize("settings", [(), MICRO], ids=["shared", "micro-batches"])
def test_a_loss_that_is_not_finite_is_refused_by_two_processes(trainer: Start, settings: tuple[str, ...]) -> None:
    broken = trainer("run", 2, *settings)
    *_, bias = broken.step.model.classifier.parameters()
    bias.data.fill_(float("nan"))
    with pytest.raises(InfoAEError, match=r"^step 1: classification_generated = nan.*nothing was updated"):
        broken.fit([])
    assert checkpoint.newest(broken.run.checkpoints) is None


def test_a_process_killed_in_a_step_loses_what_was_not_saved(trainer: Start) -> None:
    def kill(step: int) -> None:
        if step == 5:
            for process in multiprocessing.active_children():
                process.kill()

    with pytest.raises(InfoAEError, match=r"^one of 2 processes .* \(exit code -9\): is memory short\?$"):
        trainer("run", 2).fit([Recorder(kill)])
    resumed = trainer("run", 2)
    resumed.resume()
    assert resumed.done == 3
    assert resumed.fit([])
