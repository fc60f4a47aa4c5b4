"""Whenever the process that stores a run is killed, what is stored is whole and can be gone on with."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from infoae.config import Config
from infoae.data import ImageSet
from infoae.runs import checkpoint
from infoae.runs.run import Run
from infoae.trainer import Moment, Trainer
from tests.helpers.measured import Measured
from tests.helpers.paths import ROOT
from tests.helpers.reporters import Silent
from tests.helpers.storages import storage

KILLS = 20


class Keeping(Silent):
    """Reporter that keeps a copy of the run as of each checkpoint."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder, self.copies = run, folder, list[Run]()

    def saved(self, moment: Moment) -> None:
        copy = self.folder / f"{moment.step:05d}" / self.run.name
        self.copies.append(Run(shutil.copytree(self.run.path, copy)))


def upload(run: Run, uri: str, kill_after: float | None) -> float | None:
    """Upload, and kill the process after so many seconds; returns how long it took, None if it was killed before."""
    command = [sys.executable, "-m", "tests.faults.uploading", str(run.path), uri]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        if kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        said = process.stdout.readline()
    return float(said) if said else None


@pytest.mark.long
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_what_is_stored_is_whole_whenever_uploads_are_killed(
    kind: str,
    make_trainer: Callable[..., Trainer],
    tiny_config: Config,
    mnist: tuple[ImageSet, ImageSet],
    tmp_path: Path,
    record_property: Measured,
) -> None:
    train = tiny_config.train.model_copy(update={"epochs": KILLS + 2})
    trainer = make_trainer(tiny_config.model_copy(update={"train": train}), "run")
    kept = Keeping(trainer.run, tmp_path / "kept")
    trainer.fit([kept])
    assert len(kept.copies) == KILLS + 2

    def gone_on_with(run: Run) -> Trainer:
        again = Trainer(run, trainer.config, mnist[0], torch.device("cpu"), torch.float32)
        again.resume()
        return again

    moments, reached, cut = random.Random(11), [6], 0
    with storage(kind, tmp_path) as store:
        longest = upload(kept.copies[0], store.uri, None)
        for copy in kept.copies[1:-1]:
            assert longest is not None
            took = upload(copy, store.uri, moments.uniform(0, 1.2 * longest))
            longest = took or longest
            cut += took is None
            pulled = Run(tmp_path / "pulled" / copy.path.parent.name / "run")
            store.pull(pulled)
            newest = checkpoint.read(copy.checkpoint("newest")).step
            again = gone_on_with(pulled)
            # A server may end what it was asked for only after the pull before this one.
            assert reached[-1] <= again.done <= newest
            assert again.done == newest or took is None
            steps = [line["step"] for line in pulled.metrics() if "loss/reconstruction" in line]
            assert steps == list(range(1, again.done + 1))
            for path in pulled.checkpoints.iterdir():
                checkpoint.load(path)
            reached.append(again.done)
    record_property("kills", KILLS)
    record_property("cut_short", cut)
    record_property("stored_step_after_each", reached[1:])
    assert cut >= KILLS // 2
    assert len(set(reached)) > 1
    again.fit([])
    for file in ("model", "optimizer"):
        contents = [(run.checkpoint("newest") / f"{file}.safetensors").read_bytes() for run in (again.run, trainer.run)]
        assert contents[0] == contents[1]
