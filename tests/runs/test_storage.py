"""A run's folder in a place that all nodes reach: what is stored is whole, whenever a process dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infoae.config import Config
from infoae.errors import UnavailableError, UsageError
from infoae.model import InfoAE
from infoae.runs import checkpoint, storage
from infoae.runs.run import Run
from infoae.runs.storage import Storage
from infoae.trainer import Trainer


def test_storage_keeps_a_run_and_gives_it_back(finished_run: Run, tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "store"))
    store.push(finished_run)
    copy = Run(tmp_path / "elsewhere" / finished_run.name)
    store.pull(copy)
    assert list(copy.metrics()) == list(finished_run.metrics())
    assert copy.checkpoint("best").name == finished_run.checkpoint("best").name
    assert InfoAE.of_run(copy, "best").num_categories == 10

    # A checkpoint half uploaded does not count, and one that was dropped is removed.
    (tmp_path / "store" / finished_run.name / "checkpoints" / "step-00000099").mkdir()
    again = Run(tmp_path / "again" / finished_run.name)
    store.pull(again)
    assert {path.name for path in again.checkpoints.iterdir()} == {path.name for path in copy.checkpoints.iterdir()}
    dropped = copy.checkpoint("newest")
    for file in dropped.iterdir():
        file.unlink()
    dropped.rmdir()
    store.push(copy)
    assert not (tmp_path / "store" / finished_run.name / "checkpoints" / dropped.name).exists()


def test_a_process_that_dies_while_it_stores_harms_nothing_stored(
    make_trainer: Callable[..., Trainer], tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die before each file in turn: what is stored resumes, with the metrics up to there."""
    trainer, store = make_trainer(tiny_config, "r"), Storage(str(tmp_path / "store"))
    trainer.fit([], should_stop=lambda: trainer.done == 6)
    store.push(trainer.run)
    again = make_trainer(tiny_config, "r")
    again.resume()
    again.fit([])
    copy, reached = storage._copy, []

    def dying(left: int) -> Callable[..., None]:
        def copy_or_die(source: Path, destination: str, *systems: Any) -> None:
            nonlocal left
            if not left:
                Path(destination + ".partial").write_bytes(b"half")
                raise KeyboardInterrupt
            left -= 1
            copy(source, destination, *systems)

        return copy_or_die

    for last in range(8):
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(storage, "_copy", dying(last))
            store.push(trainer.run)
        pulled = Run(tmp_path / f"pulled-{last}" / "r")
        store.pull(pulled)
        saved, state = checkpoint.load(pulled.checkpoint("newest"))
        again.step.load(state)
        assert {line["step"] for line in pulled.metrics()} >= set(range(1, saved.step + 1))
        reached.append(saved.step)
    assert reached == sorted(reached)
    assert set(reached) == {6, 12}


def test_what_is_not_stored_makes_no_folder(finished_run: Run, tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "store"))
    assert not store.holds(finished_run.name)
    store.pull(Run(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()
    store.push(finished_run)
    assert store.holds(finished_run.name)


def test_a_folder_beside_the_runs_keeps_what_an_uri_asks_for() -> None:
    assert Storage("/shared/what?").within("ray") == "/shared/what?/ray"
    assert Storage("s3://bucket/path/").within("ray") == "s3://bucket/path/ray"
    assert Storage("s3://bucket/path?region=eu-1&scheme=http").within("ray") == (
        "s3://bucket/path/ray?region=eu-1&scheme=http"
    )


def test_storage_out_of_reach_may_be_reached_later(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any) -> None:
        raise OSError("timeout")

    store = Storage(str(tmp_path / "store"))
    store.push(finished_run)
    monkeypatch.setattr(storage, "_copy", unreachable)
    with pytest.raises(UnavailableError, match=r"cannot write .*: timeout"):
        store.push(finished_run)
    monkeypatch.setattr(storage, "_read", unreachable)
    with pytest.raises(UnavailableError, match=r"cannot read .*: timeout"):
        store.pull(Run(tmp_path / finished_run.name))


def test_storage_that_is_no_place_is_refused(finished_run: Run) -> None:
    with pytest.raises(UsageError, match="--storage nonsense://x"):
        Storage("nonsense://x").push(finished_run)
