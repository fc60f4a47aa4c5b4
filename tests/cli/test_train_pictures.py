"""infoae train --data PATH, from a folder of pictures to a run that is evaluated and goes on, wherever that lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoae import data
from infoae.config import Data
from infoae.data import ImageSet
from infoae.deploy import Classifier
from tests.helpers.commands import call
from tests.helpers.inputs import write_shards
from tests.helpers.settings import SMALL

pytestmark = pytest.mark.filterwarnings("always::infoae.errors.Notice")
SETTINGS = [part for setting in SMALL for part in ("--set", setting)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 digits as PNG, zeros and ones in folders of their own."""
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path / "cache"))
    test = data.load(Data(), "test")
    assert test.labels is not None
    for label in (0, 1):
        (tmp_path / "digits" / str(label)).mkdir(parents=True)
        for number, image in enumerate(test.images[test.labels == label][:100, 0]):
            Image.fromarray(image).save(tmp_path / "digits" / str(label) / f"{number}.png")
    return tmp_path


def test_from_a_folder_to_a_bundle_and_on_after_it_has_moved(folder: Path) -> None:
    train = ["train", "--config", "smoke", *SETTINGS, "--categories", "2"]
    done = call(*train, "--data", "digits", "--labels", "folders", "--name", "r", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "200 pictures became 28 x 28 grey, 20 of them kept for tests" in done.stderr
    assert 0.5 <= json.loads(done.stdout)["accuracy"] <= 1
    exported = call("export", "r", "--onnx", "--out", "b", cwd=folder)
    assert exported.returncode == 0, exported.stderr
    image = np.asarray(Image.open(folder / "digits/0/0.png"))[None, None]
    assert Classifier(folder / "b").classify(image).labels.shape == (1,)
    (folder / "digits").rename(folder / "moved")
    for verb in (["evaluate", "r"], ["train", "--resume", "r", "--epochs", "3"]):
        lost = call(*verb, cwd=folder)
        assert (lost.returncode, lost.stderr.count("error: ")) == (1, 1)
        assert "no input " in lost.stderr
        found = call(*verb, "--data-root", "moved", cwd=folder)
        assert found.returncode == 0, found.stderr
    (folder / "moved/0/0.png").unlink()
    changed = call("train", "--resume", "r", "--epochs", "4", "--data-root", "moved", cwd=folder)
    assert "error: run r was begun with 180 images" in changed.stderr


def test_results_of_seeds_say_which_pictures_they_are_of(folder: Path) -> None:
    command = ["reproduce", "smoke", *SETTINGS, "--set", "model.num_categories=2", "--seeds", "3", "--json"]
    command += ["--data", "digits", "--labels", "folders"]
    first = call(*command, cwd=folder)
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary["command"].endswith("--data digits --labels folders")
    assert "accuracy" in summary["measures"]
    assert json.loads((folder / "results/smoke/seed-3.json").read_text())["config"]["data"]["root"] == "digits"
    refused = call("reproduce", "smoke", "--seeds", "3", "--data", "nowhere", cwd=folder)
    assert (refused.returncode, "error: --data nowhere: no such file" in refused.stderr) == (2, True)


def test_what_is_kept_is_listed_and_removed(folder: Path) -> None:
    dry = ["train", "--config", "smoke", *SETTINGS, "--dry-run", "--json", "--data"]
    plan = json.loads(call(*dry, "digits", cwd=folder).stdout)
    assert (plan["data"], plan["images"], plan["image_shape"]) == (f"files in {folder}/digits", 180, [1, 28, 28])
    (entry,) = json.loads(call("cache", "--json", cwd=folder).stdout)["entries"]
    assert entry["source"] == str(folder / "digits")
    assert entry["num_bytes"] > 200 * 28 * 28
    assert str(folder / "digits") in call("cache", cwd=folder).stdout
    assert "in use, kept" in call("cache", "--clear", cwd=folder).stdout  # by this process


def test_a_folder_of_shards_is_used_as_it_is(folder: Path) -> None:
    test = data.load(Data(), "test")
    write_shards(folder / "shards", test.images[:50], 1, ImageSet(test.images[:20], None))
    told = call("train", "--config", "smoke", *SETTINGS, "--dry-run", "--json", "--data", "./shards", cwd=folder)
    assert json.loads(told.stdout)["data"] == f"shards in {folder}/shards"
    assert not (folder / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "fashon-mnist"], "--data fashon-mnist: no such file or folder, and no data set: these are mnist, "),
        (["--data", "digits", "--data-root", "x"], "--data digits says where the pictures are: leave --data-root out"),
        (["--data", "files"], "data files needs the pictures: --data PATH"),
        (["--data", "digits", "--labels", "none.csv"], "labels "),
        (["--data", "mnist", "--labels", "folders"], "--labels folders: data mnist has its own classes"),
    ],
)
def test_wrong_data_is_one_line(arguments: list[str], message: str, folder: Path) -> None:
    told = call("train", "--config", "smoke", *SETTINGS, *arguments, cwd=folder)
    assert told.returncode in (1, 2)
    assert message in told.stderr
    assert told.stderr.count("\n") == 1
    assert not (folder / "runs").exists()
