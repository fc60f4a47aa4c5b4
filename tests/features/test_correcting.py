"""Corrections of a run that was trained on features from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infoae.correcting.correct import correct
from infoae.errors import UsageError
from infoae.gallery.corrections import Corrections
from infoae.model import InfoAE
from infoae.runs import checkpoint
from infoae.runs.run import Run
from tests.features.test_training import SMALL
from tests.helpers.commands import call
from tests.helpers.settings import small_mnist

NUM_TRAIN = 300


def test_categories_merge_and_test_images_go_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path / "cache"))
    rows = np.random.default_rng(0).normal(size=(800, 5)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    settings = [part for setting in SMALL for part in ("--set", setting)]
    done = call("train", "--features", "rows.npy", "--data", str(small_mnist()), *settings, "--name", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "runs" / "r")
    old = InfoAE.of_run(run)
    count, step = old.num_categories, checkpoint.read(run.checkpoint("best")).step

    def said(**what: object) -> Corrections:
        return Corrections.model_validate({"run": "r", "step": step, "num_categories": count} | what)

    before = old.classify(rows)
    merged = InfoAE.of_run(correct(run, said(merges=[[0, count - 1]]), tmp_path, "merged").run).classify(rows)
    expected = before[:, :-1].clone()
    expected[:, 0] += before[:, -1]
    torch.testing.assert_close(merged, expected)

    name, row = run.config().data.name, rows[NUM_TRAIN + 41][None]
    other = (int(old.classify(row).argmax(1)) + 1) % count
    found = correct(run, said(examples={f"{name}#41": other}), tmp_path, "put")
    assert (found.obeyed, found.spoken_of) == (1, 1)
    assert InfoAE.of_run(found.run).classify(row).argmax(1).tolist() == [other]

    with pytest.raises(UsageError, match=r"'elsewhere\.png', and r has no encoder for other pictures"):
        correct(run, said(examples={"elsewhere.png": 0}), tmp_path, "refused")
    assert not (tmp_path / "runs" / "refused").exists()
