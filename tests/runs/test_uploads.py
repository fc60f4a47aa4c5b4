"""A run is stored while training goes on: what is stored is of one moment, in order, and errors are told."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infoae.config import Config
from infoae.errors import InfoAEError, UnavailableError
from infoae.runs import checkpoint
from infoae.runs.run import METRICS, Run
from infoae.runs.storage import Storage
from infoae.runs.uploads import Uploads
from infoae.trainer import Moment, Trainer
from tests.helpers.measured import Measured
from tests.helpers.reporters import Silent
from tests.helpers.storages import storage


@dataclass(frozen=True)
class Gated(Storage):
    """A folder that takes a run only once `gate` is open, and notes which checkpoint it took."""

    gate: threading.Event = field(default_factory=threading.Event)
    taken: list[str] = field(default_factory=list)

    def push(self, run: Run) -> None:
        assert self.gate.wait(60)
        super().push(run)
        self.taken.append(run.checkpoint("newest").name)


class Pushing(Silent):
    """Reporter that has each checkpoint stored, and measures for how long that holds training up."""

    def __init__(self, uploads: Uploads) -> None:
        self.uploads, self.blocked = uploads, 0.0

    def saved(self, moment: Moment) -> None:
        started = time.perf_counter()
        self.uploads.push()
        self.blocked += time.perf_counter() - started


def four_epochs(config: Config) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": 4})})


def test_training_does_not_wait_and_the_newest_of_those_that_wait_is_stored(
    make_trainer: Callable[..., Trainer], tiny_config: Config, tmp_path: Path
) -> None:
    store = Gated(str(tmp_path / "store"))
    trainer = make_trainer(four_epochs(tiny_config), "run")
    with Uploads(store, trainer.run) as uploads:
        assert trainer.fit([Pushing(uploads)])
        assert not store.taken
        assert not store.holds("run")
        store.gate.set()
    assert store.taken == ["step-00000006", "step-00000024"]  # those between were never needed
    pulled = Run(tmp_path / "pulled" / "run")
    store.pull(pulled)
    assert checkpoint.load(pulled.checkpoint("newest"))[0].step == 24
    assert pulled.checkpoint("best").name == trainer.run.checkpoint("best").name
    assert list(pulled.metrics()) == list(trainer.run.metrics())
    assert {path.name for path in tmp_path.iterdir()} == {"run", "latest", "store", "pulled"}  # nothing is left behind


def test_what_is_stored_is_of_the_moment_of_the_checkpoint(
    make_trainer: Callable[..., Trainer], tiny_config: Config, tmp_path: Path
) -> None:
    store = Gated(str(tmp_path / "store"))
    trainer = make_trainer(four_epochs(tiny_config), "run")
    with Uploads(store, trainer.run) as uploads:
        trainer.fit([Pushing(uploads)], lambda: trainer.done == 6)
        shutil.rmtree(trainer.run.checkpoint("newest"))
        with (trainer.run.path / METRICS).open("a") as file:
            file.write('{"step": 7, "ep')
        store.gate.set()
    pulled = Run(tmp_path / "pulled" / "run")
    store.pull(pulled)
    assert checkpoint.load(pulled.checkpoint("newest"))[0].step == 6
    assert {line["step"] for line in pulled.metrics()} == set(range(1, 7))
    assert (pulled.path / METRICS).read_text().endswith("}\n")


@pytest.fixture
def unreachable(tmp_path: Path) -> Storage:
    """A storage whose folder cannot be made."""
    (tmp_path / "file").touch()
    return Storage(str(tmp_path / "file" / "store"))


def push(store: Storage, run: Run) -> None:
    with Uploads(store, run) as uploads:
        uploads.push()


def push_until_told(store: Storage, run: Run) -> None:
    """Have a run stored again and again, until an error is told before the end."""
    with Uploads(store, run) as uploads:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            uploads.push()
            time.sleep(0.01)
        pytest.fail("no error was told")


def push_and_fail(store: Storage, run: Run, after: Callable[[], object] = lambda: None) -> None:
    with Uploads(store, run) as uploads:
        uploads.push()
        after()
        raise InfoAEError("not finite")


def test_an_error_is_told_at_the_next_checkpoint_and_at_the_end(unreachable: Storage, finished_run: Run) -> None:
    told = r"cannot write .*file/store: "
    with pytest.raises(UnavailableError, match=told):
        push(unreachable, finished_run)
    with pytest.raises(UnavailableError, match=told):
        push_until_told(unreachable, finished_run)


def test_an_error_of_the_training_lets_the_upload_end_and_is_what_is_told(
    unreachable: Storage, finished_run: Run, tmp_path: Path
) -> None:
    store = Gated(str(tmp_path / "store"))
    with pytest.raises(InfoAEError, match="not finite"):
        push_and_fail(store, finished_run, threading.Timer(0.5, store.gate.set).start)
    assert store.taken == [finished_run.checkpoint("newest").name]
    with pytest.raises(InfoAEError, match="not finite"):
        push_and_fail(unreachable, finished_run)


@pytest.mark.long
def test_uploads_take_less_than_a_hundredth_of_the_time_of_the_steps(
    make_trainer: Callable[..., Trainer],
    tiny_config: Config,
    tmp_path: Path,
    record_property: Measured,
) -> None:
    """To a server that speaks S3; epochs are of some seconds."""
    train = tiny_config.train.model_copy(update={"epochs": 3, "min_steps_per_epoch": 100, "log_every": 20})
    model = tiny_config.model.model_copy(update={"width": 16, "hidden_dim": 128})
    trainer = make_trainer(tiny_config.model_copy(update={"train": train, "model": model}), "run")
    with storage("s3", tmp_path) as store:
        with Uploads(store, trainer.run) as uploads:
            pushing = Pushing(uploads)
            trainer.fit([pushing])
        started = time.perf_counter()
        store.push(trainer.run)
        unchanged = time.perf_counter() - started
        pulled = Run(tmp_path / "pulled" / "run")
        store.pull(pulled)
    assert checkpoint.load(pulled.checkpoint("newest"))[0].step == trainer.total_steps
    record_property("blocked_seconds", pushing.blocked)
    record_property("seconds", trainer.seconds)
    record_property("seconds_of_an_upload_of_nothing_new", unchanged)
    assert pushing.blocked < 0.01 * trainer.seconds
