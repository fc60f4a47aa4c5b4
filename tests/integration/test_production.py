"""From a run to production: export, verification, 10,000 files of which 1 % are damaged, and the joined answers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from infoae import config, data, metrics
from infoae.cli.app import app
from infoae.model import InfoAE
from infoae.runs.run import Run


def test_a_run_in_production(lively_run: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(lively_run.path, run)
    exported = CliRunner().invoke(app, ["export", str(run), "--onnx"])
    assert exported.exit_code == 0, exported.exception
    assert "labels                   10000 of 10000 test images as PyTorch's" in exported.stdout
    assert exported.stdout.count("largest difference") == 5

    test = data.load(config.Data(), "test")
    assert test.labels is not None
    truth: dict[str, int] = {}
    paths: list[str] = []
    for index, pixels in enumerate(test.images[:, 0]):
        path = tmp_path / "images" / f"{index // 1000}" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1)
        truth[str(path)] = int(test.labels[index])
        paths.append(str(path))
    random = np.random.default_rng(0)
    damaged = sorted(random.choice(len(paths), len(paths) // 100, replace=False).tolist())
    for number, index in enumerate(damaged):
        content = Path(paths[index]).read_bytes()
        ways = (b"", content[: len(content) // 2], random.bytes(300), b"not an image")
        Path(paths[index]).write_bytes(ways[number % len(ways)])

    result = tmp_path / "labels.csv"
    arguments = ["classify", str(tmp_path / "images"), "--model", str(run / "bundle"), "--out", str(result), "--json"]
    classified = CliRunner().invoke(app, arguments)
    assert classified.exit_code == 3, classified.exception
    summary = json.loads(classified.stdout)
    assert (summary["num_rows"], summary["num_failed"]) == (10_000, 100)

    with result.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == paths  # one row each, in order
    assert [index for index, row in enumerate(rows) if row["error"]] == damaged
    assert all(not row["label"] and not row["name"] for row in rows if row["error"])
    good = [index for index in range(len(paths)) if index not in set(damaged)]
    answers = np.array([int(rows[index]["label"]) for index in good])
    assert len(set(answers.tolist())) >= 8
    assert (answers == InfoAE.of_run(lively_run).classify(test.images[good]).argmax(1).numpy()).all()
    assert all(rows[index]["name"] == f"category {rows[index]['label']}" for index in good)

    evaluation = json.loads((run / "evaluation.json").read_text())
    matching = {int(category): label for category, label in evaluation["matching"].items()}
    joined = np.array([truth[rows[index]["path"]] for index in good])
    accuracy = metrics.accuracy(metrics.confusion_matrix(answers, joined, 10, 10), matching)
    # The damaged files are a random 1 %: what is left has the accuracy of the run, within what 1 % can change.
    assert abs(accuracy - evaluation["accuracy"]) < 0.01
    assert json.loads((run / "bundle/bundle.json").read_text())["accuracy"] == evaluation["accuracy"]
