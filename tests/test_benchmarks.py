"""The benchmark programs run and their figures are what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import classify, few_labels
from infoae.run import Run


def test_few_labels_draws_from_each_class_and_names_by_majority() -> None:
    labels = np.repeat(np.arange(3), 50)
    drawn = few_labels.draw(labels, 5, np.random.default_rng(0))
    assert np.bincount(labels[drawn]).tolist() == [5, 5, 5]
    assert len(set(drawn.tolist())) == 15
    # Category 0 holds class 1 and the reverse; category 2 has no example, so its images count as wrong.
    categories = np.array([0, 0, 1])
    accuracy = few_labels.naming_accuracy(categories, np.array([1, 1, 0]), np.array([0, 1, 2]), np.array([1, 0, 2]), 3)
    assert accuracy == pytest.approx(2 / 3)


def test_few_labels_measures_and_draws(
    lively_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(few_labels, "LABELS_PER_CLASS", (1, 20))
    monkeypatch.setattr(sys, "argv", ["few_labels.py", str(lively_run.path), "--draws", "3", "--out", str(tmp_path)])
    few_labels.main()
    assert "linear probe" in capsys.readouterr().out
    result = json.loads((tmp_path / "few_labels.json").read_text())
    for method in few_labels.METHODS:
        assert len(result[method]["mean"]) == len(result[method]["deviation"]) == 2
    assert result["probe"]["mean"][1] > result["probe"]["mean"][0] > 0.1
    assert result["naming"]["mean"][1] <= result["matched_accuracy"] + 0.2
    assert (tmp_path / "few_labels.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_classify_measures_every_way(lively_run: Run, tmp_path: Path) -> None:
    result = classify.measure(lively_run, rounds=1, repeats=1, million=False, folder=tmp_path)
    assert all(value > 0 for value in result["images_per_second"].values())
    assert 0 < result["seconds_to_first_label"] < 30
