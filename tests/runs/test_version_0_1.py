"""What version 0.1 left is still of use: a small run and its bundle, made by commit c7ebe83, lie in tests/files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from infoae import data, launch
from infoae.config import Data
from infoae.deploy import Classifier
from infoae.errors import Notice
from infoae.launch import Executor
from infoae.model import InfoAE
from infoae.planning import resumed
from infoae.runs import checkpoint
from infoae.runs.run import OLD_PSEUDO_LABELS, PSEUDO_LABELS, Run
from infoae.tune import record, space
from tests.helpers.paths import ROOT

OLD = ROOT / "tests" / "files" / "version-0.1"


@pytest.fixture
def old_run(tmp_path: Path) -> Run:
    return Run(shutil.copytree(OLD / "run", tmp_path / "old"))


def test_its_keys_are_read_with_one_line_that_says_their_names_now(old_run: Run) -> None:
    with pytest.warns(Notice) as told:
        config = old_run.config()
    assert len(told) == 1
    assert "information.consensus_epochs is now stages.pseudo_label_epochs" in str(told[0].message)
    assert (config.stages.mutual_information_epochs, config.stages.pseudo_label_epochs) == (1, 1)
    assert (config.neighbours.count, config.neighbours.merging_count) == (3, 6)
    assert (config.pseudo_labels.agreement, config.pseudo_labels.anchor_hops) == (0.6, 1)
    assert config.pseudo_labels.merging == "mutual_information"
    assert config.objective.pairs == "neighbours"
    assert config.objective.weights.mutual_information == config.objective.weights.pseudo_label == 10
    assert (config.train.adversarial_fraction, config.train.min_steps_per_epoch) == (0.25, 3)


@pytest.mark.filterwarnings("ignore::infoae.errors.Notice")
def test_its_model_and_its_bundle_answer_as_they_did(old_run: Run) -> None:
    images = data.load(Data(), "test").images
    model, classifier = InfoAE.of_run(old_run), Classifier(OLD / "bundle")
    probabilities = model.classify(images)
    np.testing.assert_allclose(classifier.classify(images).probabilities, probabilities, atol=1e-5)
    sizes = json.loads((old_run.path / "evaluation.json").read_text())["category_sizes"]
    assert np.bincount(probabilities.argmax(1), minlength=3).tolist() == sizes


@pytest.mark.filterwarnings("ignore::infoae.errors.Notice")
def test_its_training_goes_on_with_its_labels(old_run: Run) -> None:
    done = checkpoint.read(old_run.checkpoint("newest")).step
    plan = resumed("old", old_run.path.parent, epochs=4)
    result = launch.run(plan, Executor())
    assert (result.finished, result.step, done) == (True, 12, 9)
    assert not (old_run.path / PSEUDO_LABELS).exists()  # no new ones were made
    assert (old_run.path / OLD_PSEUDO_LABELS).read_bytes() == (OLD / "run" / OLD_PSEUDO_LABELS).read_bytes()
    assert [line["step"] for line in old_run.metrics() if "loss/pseudo_label" in line] == [10, 11, 12]
    assert "mutual_information_epochs" in (old_run.path / "config.yaml").read_text()


def test_its_sweeps_are_read(tmp_path: Path) -> None:
    content = json.loads((ROOT / "docs" / "results" / "tune-neighbours" / "sweep.json").read_text())
    content["space"]["part"] = content["space"]["alpha"] | {"keys": ["train.game_part"], "low": 0.2, "high": 0.9}
    for trial in content["trials"]:
        trial["values"]["part"] = 0.5
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    sweep, _ = record.load(str(tmp_path), tmp_path)
    assert sweep.space["part"].keys == ["train.adversarial_fraction"]
    found = space.current(sweep.config, sweep.space)
    assert found is not None
    assert found["part"] == 0.25
    assert sweep.config.stages.mutual_information_epochs == 6
    assert sweep.config.objective.weights.pseudo_label == 10
